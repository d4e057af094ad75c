"""What a peer of `bench train` is told, and what it answers: both JSON, for it runs in a process of its own."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_sft import cli
from megatron_sft.train.options import TrainOptions

Peer = Literal["padded", "padded-fixed", "packed", "unpacked", "megatron-sft", "tensorwise", "delayed", "blockwise"]
TRANSFORMERS_PEERS: tuple[Peer, ...] = ("padded", "padded-fixed", "packed")
FP8_PEERS: tuple[Peer, ...] = ("tensorwise", "delayed", "blockwise")
PEERS: tuple[Peer, ...] = (*TRANSFORMERS_PEERS, "unpacked", "megatron-sft", *FP8_PEERS)
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A peer's run. Every peer gets the same samples, weights, learning rate and number of iterations."""

    peer: Peer
    model: str
    """Hugging Face folder with weights."""
    data: str
    """Shard folder; iteration i trains the i-th group of `batch_size` samples, in the order of the file."""
    save: str
    """Folder that the peer may write to."""
    batch_size: int
    """Samples of an iteration."""
    iterations: int
    """In all, those that are not measured included."""
    seq_length: int
    """Capacity of a packed row, tokens."""
    padded_length: int
    """What `padded-fixed` pads to, tokens."""
    micro_batch_size: int
    """Samples that the padding peers compute at a time."""
    bf16: bool
    """bf16, else fp32."""
    gradient_checkpointing: bool
    """Whether transformers computes its layers again in the backward pass."""
    lr: float
    """Learning rate, constant."""
    device: Literal["cpu", "cuda"]
    trainer_options: tuple[str, ...] = ()
    """Further options of `pretrain_sft`."""
    profiled: bool = False
    """Trace the last iteration; only peers that are this trainer do."""

    def to_json(self) -> str:
        """For the peer's process."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Job":
        """What `to_json` wrote."""
        values = json.loads(text)
        return Job(**{**values, "trainer_options": tuple(values["trainer_options"])})


@dataclass(frozen=True, kw_only=True)
class Step:
    """One iteration of a peer."""

    loss: float
    """Mean over the trained tokens of the iteration, nats; before the update."""
    grad_norm: float
    """Global L2 norm of the gradients, before clipping."""
    tokens: int
    """Real tokens."""
    places: int
    """Tokens that were computed, padding included."""
    num_rows: int
    """Micro-batches."""
    seconds: float
    """Wall clock of the whole iteration, with an idle device at both ends."""
    data_s: float | None = None
    """Of these, waiting for the batch; None where the peer does not say."""
    forward_backward_s: float | None = None
    update_s: float | None = None
    """Clipping and the optimizer."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a peer found."""

    versions: dict[str, str]
    """By package; `device` is the device's name."""
    how: str
    """What computed it: attention, optimizer, precision."""
    steps: list[Step]
    peak_bytes: int
    """Most memory that was allocated on a GPU; resident on a CPU."""
    reserved_bytes: int | None = None
    """Most memory that torch held on a GPU."""
    problem: str | None = None
    """Why it ended early, such as `OUT_OF_MEMORY`."""
    details: dict[str, Any] | None = None
    """With `Job.profiled`: the trace's folder, and what the device reached."""

    def save(self, path: Path) -> None:
        """Write it for the process that asked."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> "Answer":
        """What `save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return Answer(**{**values, "steps": [Step(**step) for step in values["steps"]]})


def train_options(job: Job) -> TrainOptions:
    """The options of this run as the trainer's command line has them; those of the job come last and win."""
    words: dict[str, object] = {
        "data": job.data,
        "init-from": job.model,
        "save": job.save,
        "global-batch-size": job.batch_size,
        "seq-length": job.seq_length,
        "train-iters": job.iterations,
        "lr": job.lr,
        "lr-decay-style": "constant",
        "device": job.device,
        "log-params-norm-interval": 0,
    }
    if job.peer in FP8_PEERS:
        words |= {"fp8-format": "hybrid", "fp8-recipe": job.peer}
    if job.profiled:
        words |= {"profile-step-start": job.iterations, "profile-step-end": job.iterations + 1}
    flags = ["--bf16"] * job.bf16 + ["--profile"] * job.profiled
    arguments = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    return cli.parse(TrainOptions, prog="pretrain_sft", argv=[*arguments, *flags, *job.trainer_options])
