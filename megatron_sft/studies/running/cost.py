"""What trainings and evaluations of a study cost: GPU hours and disk, estimated. `tools/run_study --plan` prints it.

Trainings are reckoned as `tools/plan` does (docs/parallelism.md), by real sample lengths where the shards are there,
else by a data set's `mean_length`. Evaluations: tokens generated times 2 operations per parameter, at a small share of
the GPU's peak, since generating is bound by reading weights and keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from megatron_sft.errors import ConfigError
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.parameter_counts import num_parameters
from megatron_sft.planning.known_models import KNOWN, geometry_of
from megatron_sft.planning.layouts import SplitRules
from megatron_sft.planning.load import assumed_lengths, batches_of_shards
from megatron_sft.planning.memory import MemoryOptions
from megatron_sft.planning.precisions import PRECISIONS, Precision
from megatron_sft.planning.search import Estimate, Workload, search
from megatron_sft.planning.step_time import Cluster
from megatron_sft.recipes import recipe
from megatron_sft.recipes.values import option_types, read_option
from megatron_sft.studies.run_spec import named, split
from megatron_sft.studies.study import BenchmarkSpec, Study
from megatron_sft.train.options import TrainOptions

LENGTH_SPREAD = 0.6
"""Standard deviation of the logarithm of sample lengths, where only their mean is known."""
MEAN_LENGTH = 8600
"""Tokens of a sample of a data set that does not say."""
ANSWER_TOKENS = 1000
"""Tokens of an answer to a benchmark that does not say."""
_CHECKPOINT_BYTES: dict[Precision, int] = {"fp32": 16, "bf16": 14, "pure-bf16": 6}
"""Of a parameter: the weight, its fp32 copy (not in pure bf16), and both moments."""
_LAYOUT = {
    "tensor_model_parallel_size": "tp",
    "pipeline_model_parallel_size": "pp",
    "context_parallel_size": "cp",
    "num_virtual_stages_per_pipeline_rank": "vpp",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPUs, with the defaults of `tools/plan`: H100s of 80 GB in nodes of 8."""

    gpus_per_node: int = 8
    memory_bytes: float = 80 * 2**30
    peak_flops: float = 989e12
    training_efficiency: float = 0.4
    """Share of the peak while training."""
    answer_efficiency: float = 0.03
    """Share of the peak while generating; 0.03 are 1,000 tokens a second of a GPU for 14.8 billion parameters."""
    intra_node_bandwidth: float = 350e9
    inter_node_bandwidth: float = 40e9


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """Of one arm."""

    steps: int
    samples: int
    gpu_hours: float | None
    """None where the model is not known, or there are no GPUs."""
    fits: bool
    """Whether the layout's GPUs have the memory."""
    checkpoint_bytes: int | None
    """Of one checkpoint: weights, and the optimizer's state."""
    export_bytes: int | None
    """Of one export."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Reckons the parts of one study."""

    study: Study
    output: Path
    models: Path | None
    machine: Machine
    nodes: int

    @property
    def num_gpus(self) -> int:
        """GPUs of a training."""
        assert self.study.run is not None
        return self.nodes * self.study.run.num_processes if self.study.run.uses_gpus else 0

    def training(self, arm: str, recipe_name: str | None, steps: Sequence[int], last: int) -> TrainingCost:
        """Return what an arm's training costs.

        Args:
            arm: the arm.
            recipe_name: with its layout.
            steps: those that checkpoints are saved at.
            last: the training's last step.
        """
        conditions = self.study.conditions(arm)
        options = self._options(recipe_name)
        geometry = self.geometry(conditions.model)
        precision: Precision = "fp32"
        if options.get("bf16"):
            precision = "pure-bf16" if options.get("pure_bf16") else "bf16"
        size = PRECISIONS[precision]
        count = None if geometry is None else num_parameters(geometry)
        estimate = None
        if geometry is not None and self.num_gpus and "seq_length" in options:
            lengths = self._lengths(conditions.data_set, conditions.model, conditions.batch, options["seq_length"])
            layout = tuple((short, options.get(name, 1)) for name, short in _LAYOUT.items())
            estimate = _step(
                geometry, lengths, layout, options["seq_length"], bool(options.get("sequence_parallel")), precision,
                self.machine, self.num_gpus,
            )  # fmt: skip
        return TrainingCost(
            steps=last,
            samples=last * conditions.batch,
            gpu_hours=None if estimate is None else estimate[0] * last * self.num_gpus / 3600,
            fits=estimate is None or estimate[1],
            checkpoint_bytes=None if count is None else count * _CHECKPOINT_BYTES[precision],
            export_bytes=None if count is None else count * size.matrix,
        )

    def answers(self, benchmarks: Sequence[str]) -> int:
        """Return the answers to these benchmarks by one checkpoint."""
        chosen = [self.study.benchmarks[name] for name in benchmarks]
        return sum(one.num_items * one.num_samples for one in chosen)

    def answer_hours(self, model: str, data_set: str | None, benchmarks: Sequence[str]) -> float | None:
        """Return GPU hours for the answers of one checkpoint.

        Args:
            model: the base model.
            data_set: what it was trained on; answers are as long as `answer_tokens` says for the study's base data set,
                and shorter in proportion where its samples are. None: the base model itself.
            benchmarks: names in the study.
        """
        run = self.study.run
        assert run is not None
        if not self.num_gpus:
            return None
        share = 1.0
        if data_set is not None:
            share = min(1.0, self._mean_length(data_set) / self._mean_length(self.study.base.data_set))
        tokens = sum(_tokens(run.answer_tokens, name, self.study.benchmarks[name]) for name in benchmarks)
        speed = self.tokens_per_second(model)
        return None if speed is None else share * tokens / speed / 3600

    def tokens_per_second(self, model: str) -> float | None:
        """Return how fast a GPU generates; None where the model is not known."""
        geometry, machine = self.geometry(model), self.machine
        if geometry is None:
            return None
        return machine.peak_flops * machine.answer_efficiency / (2 * num_parameters(geometry))

    def geometry(self, model: str) -> ModelGeometry | None:
        """Return a model's geometry: of its folder, its `config`, or one of the models known by name."""
        run = self.study.run
        assert run is not None
        spec = run.models[model]
        try:
            if spec.config is not None:
                assert run.tokenizer is not None
                return ModelGeometry.from_hf_config({**spec.config, "vocab_size": run.tokenizer.vocab_size})
            if self.models is not None and (self.models / str(spec.folder) / "config.json").is_file():
                return geometry_of(str(self.models / str(spec.folder)))
        except ConfigError:
            return None
        short = model.lower().removesuffix("-base")
        return geometry_of(short) if short in KNOWN else None

    def _options(self, recipe_name: str | None) -> dict[str, Any]:
        run, known = self.study.run, option_types(TrainOptions)
        assert run is not None
        entries = {} if recipe_name is None else recipe.load(recipe_name).entries
        return {name: read_option(name, entry, known) for name, entry in (entries | named(run.train)).items()}

    def _lengths(self, data_set: str, model: str, batch: int, seq_length: int) -> tuple[tuple[int, ...], ...]:
        for name in (f"{data_set}-{model}", data_set):
            shards = self.output / "shards" / name
            if (shards / "manifest.json").is_file():
                return tuple(map(tuple, batches_of_shards(shards, batch, seq_length)))
        mean, longest = self._mean_length(data_set), min(seq_length, self._max_length(data_set, model))
        return (tuple(assumed_lengths(batch, min(mean, longest), LENGTH_SPREAD, longest)),)

    def _mean_length(self, data_set: str) -> int:
        assert self.study.run is not None
        return self.study.run.data_sets[data_set].mean_length or MEAN_LENGTH

    def _max_length(self, data_set: str, model: str) -> int:
        assert self.study.run is not None
        spec = self.study.run.data_sets[data_set]
        words = split(spec.shards_for.get(model, spec.shards), "shards")
        return int(words[words.index("--max-length") + 1]) if "--max-length" in words[:-1] else 1 << 30


@cache
def _step(
    geometry: ModelGeometry,
    lengths: tuple[tuple[int, ...], ...],
    layout: tuple[tuple[str, int], ...],
    seq_length: int,
    sequence_parallel: bool,
    precision: Precision,
    machine: Machine,
    num_gpus: int,
) -> tuple[float, bool] | None:
    """Return seconds of a step, and whether it fits; None for a layout that cannot run."""
    node = min(machine.gpus_per_node, num_gpus)
    cluster = Cluster(
        num_gpus=num_gpus,
        gpus_per_node=node,
        peak_flops=machine.peak_flops,
        efficiency=machine.training_efficiency,
        intra_node_bandwidth=machine.intra_node_bandwidth,
        inter_node_bandwidth=machine.inter_node_bandwidth,
    )
    rules = SplitRules(
        gpus_per_node=node,
        seq_length=seq_length,
        global_batch_size=len(lengths[0]),
        sequence_parallel=sequence_parallel,
    )
    options = MemoryOptions(
        precision=precision,
        recompute="none",
        seq_length=seq_length,
        chunked_loss=True,
        sequence_parallel=sequence_parallel,
    )
    work = Workload(geometry=geometry, batches=lengths, options=options, recomputes=("none", "selective", "full"))
    plan = search(work, cluster, rules, machine.memory_bytes, dict(layout))
    found: list[Estimate] = plan.fitting or plan.too_large
    return (found[0].seconds, bool(plan.fitting)) if found else None


def _tokens(answer_tokens: dict[str, int], name: str, spec: BenchmarkSpec) -> int:
    return spec.num_items * spec.num_samples * answer_tokens.get(name, ANSWER_TOKENS)


def size_text(num_bytes: float) -> str:
    """Return bytes in the largest fitting unit, such as 1.7 TB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB" if num_bytes < 1000 else f"{num_bytes:,.0f} TB"
