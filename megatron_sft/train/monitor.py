"""What a run tells: one line, one metrics.jsonl object and TensorBoard scalars per iteration, on rank 0."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from megatron_sft.files import write_text
from megatron_sft.metrics import JsonlWriter, drop_partial_line, read_jsonl
from megatron_sft.train.spikes import SpikeDetector
from megatron_sft.train.wandb_run import WandbRun

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """Figures of one iteration, over all ranks."""

    iteration: int
    """Counted from 1."""
    loss: float
    """Mean over the trained tokens of the global batch, before the update."""
    source_losses: dict[str, float] = field(default_factory=dict)
    """For each source in the batch, the mean over its trained tokens, nats, whatever the weighting of the loss. Empty
    where the shards have one source."""
    grad_norm: float
    """Global L2 norm before clipping."""
    clipped_grad_norm: float
    """Global L2 norm after clipping."""
    params_norm: float | None = None
    """Global L2 norm of the weights after the update; None in iterations where it was not due."""
    lr: float
    """Learning rate of this update."""
    trained_tokens: int
    """Trained tokens of the global batch."""
    tokens: int
    """Real tokens of the global batch."""
    num_samples: int
    """Samples of the global batch."""
    num_rows: int
    """Rows of the global batch, over all data-parallel ranks."""
    num_places: int
    """Tokens of these rows, padding included: what is computed."""
    fill: float
    """Real tokens / num_places: the share of what is computed that is not padding."""
    consumed_samples: int
    """Samples trained since the start, this iteration included."""
    epoch: float
    """Passes over the data so far."""
    step_time_s: float
    """Wall-clock seconds of the iteration, without saving."""
    data_wait_s: float
    """Of these, seconds in which rank 0 waited for its rows."""
    tokens_per_s: float
    """Real tokens of the global batch / step_time_s."""
    tokens_per_s_per_gpu: float
    """tokens_per_s / ranks."""
    model_tflops_per_gpu: float
    """10^12 operations per second that the model needs on these documents, without padding and recomputation."""
    mfu: float | None
    """model_tflops_per_gpu / the device's peak; None where the peak is not known."""
    cost_imbalance: float
    """Estimated cost of a data-parallel rank's rows: largest / mean."""
    time_imbalance: float
    """Measured time of a rank's forward and backward passes, without reducing gradients: largest / mean."""
    memory_peak_bytes: int
    """Largest over the ranks since the start: allocated on a GPU, resident on a CPU."""
    memory_reserved_bytes: int | None
    """Largest over the ranks since the start: reserved by torch on a GPU; None on a CPU."""
    fp8_amax: float | None = None
    """Largest finite value that FP8 layers met; None without TransformerEngine's delayed scaling."""
    fp8_num_bad: int | None = None
    """FP8 tensors, over all ranks, with values or a scale that are not finite, or a scale that is not above 0."""
    spikes: tuple[str, ...] = ()
    """Which of `loss` and `grad_norm` stood out from the iterations before."""

    def scalars(self) -> Iterator[tuple[str, float]]:
        """Names and values for TensorBoard; what is not known is left out."""
        values: dict[str, float | None] = {
            "train/loss": self.loss,
            "train/learning_rate": self.lr,
            "train/grad_norm": self.grad_norm,
            "train/clipped_grad_norm": self.clipped_grad_norm,
            "train/params_norm": self.params_norm,
            "train/trained_tokens": self.trained_tokens,
            "train/tokens": self.tokens,
            "throughput/tokens_per_s": self.tokens_per_s,
            "throughput/tokens_per_s_per_gpu": self.tokens_per_s_per_gpu,
            "throughput/model_tflops_per_gpu": self.model_tflops_per_gpu,
            "throughput/mfu": self.mfu,
            "throughput/step_time_s": self.step_time_s,
            "throughput/cost_imbalance": self.cost_imbalance,
            "throughput/time_imbalance": self.time_imbalance,
            "data/fill": self.fill,
            "data/data_wait_s": self.data_wait_s,
            "memory/peak_gib": self.memory_peak_bytes / 2**30,
            "memory/reserved_gib": None if self.memory_reserved_bytes is None else self.memory_reserved_bytes / 2**30,
            "fp8/amax": self.fp8_amax,
            "fp8/num_bad": self.fp8_num_bad,
            **{f"source_loss/{name}": loss for name, loss in self.source_losses.items()},
        }
        yield from ((name, value) for name, value in values.items() if value is not None)

    def console_line(self, train_iters: int) -> str:
        """The iteration on one line."""
        speed = f"{self.tokens_per_s:.0f} tokens/s | {self.model_tflops_per_gpu:.3g} TFLOP/s per rank"
        if self.mfu is not None:
            speed += f" (MFU {self.mfu:.1%})"
        return (
            f"iteration {self.iteration}/{train_iters} | loss {self.loss:.4f} | grad norm {self.grad_norm:.3f} | "
            f"lr {self.lr:.3e} | trained tokens {self.trained_tokens} | {speed} | fill {self.fill:.1%} | "
            f"data wait {self.data_wait_s * 1e3:.1f} ms | memory {self.memory_peak_bytes / 2**30:.2f} GiB"
        )


@dataclass(frozen=True, kw_only=True)
class SpikeRule:
    """What is worth a warning."""

    window: int = 64
    """Iterations to compare with; 0 for no warnings."""
    factor: float = 6.0
    """Robust standard deviations above the median."""


class Monitor:
    """Writes records; on ranks other than 0 make none."""

    def __init__(
        self,
        save: Path,
        tensorboard_dir: Path,
        *,
        resumed_iteration: int,
        spike_rule: SpikeRule = SpikeRule(),
        wandb_run: WandbRun | None = None,
    ) -> None:
        """Open the files, dropping what an interrupted run recorded beyond the checkpoint that it resumes from."""
        path = save / METRICS_FILE
        drop_records_after(path, resumed_iteration)
        self._detectors = _detectors(spike_rule, path)
        self._jsonl = JsonlWriter(path)
        self._tensorboard = SummaryWriter(str(tensorboard_dir), purge_step=resumed_iteration + 1)
        self._wandb = wandb_run

    def record(self, record: StepRecord, *, train_iters: int, samples: str = "") -> None:
        """Write one iteration; `samples` says in a warning of a spike what it was trained on."""
        limits = {name: detector.exceeds(getattr(record, name)) for name, detector in self._detectors.items()}
        spikes = {name: limit for name, limit in limits.items() if limit is not None}
        record = replace(record, spikes=tuple(spikes))
        self._jsonl.write(asdict(record))
        for name, value in record.scalars():
            self._tensorboard.add_scalar(name, value, record.iteration)
        if self._wandb:
            self._wandb.log(record.iteration, dict(record.scalars()))
        print(record.console_line(train_iters), flush=True)
        for name, limit in spikes.items():
            warning = (
                f"iteration {record.iteration}: {name} {getattr(record, name):.4g} is above {limit:.4g}; {samples}"
            )
            print(f"warning: spike: {warning}", flush=True)
            self._tensorboard.add_text("spikes", warning, record.iteration)

    def flush(self) -> None:
        """Push TensorBoard's events to disk; metrics.jsonl is flushed line by line."""
        self._tensorboard.flush()

    def close(self) -> None:
        """Flush and close all."""
        self._jsonl.close()
        self._tensorboard.close()
        if self._wandb:
            self._wandb.close()


def _detectors(rule: SpikeRule, metrics: Path) -> dict[str, SpikeDetector]:
    """By field of the record; a run that goes on compares with the iterations that it has recorded."""
    if rule.window == 0:
        return {}
    last = deque(read_jsonl(metrics), maxlen=rule.window) if metrics.exists() else ()
    detectors = {name: SpikeDetector(window=rule.window, factor=rule.factor) for name in ("loss", "grad_norm")}
    for name, detector in detectors.items():
        detector.extend(record[name] for record in last)
    return detectors


def drop_records_after(path: Path, iteration: int) -> int:
    """Keep the whole records up to `iteration`; returns how many were dropped.

    A run that resumes from iteration 20 after being killed at 27 trains 21 to 27 again: none may be there twice.
    """
    if not path.exists():
        return 0
    drop_partial_line(path)
    records = list(read_jsonl(path))
    kept = [record for record in records if record["iteration"] <= iteration]
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
    return len(records) - len(kept)
