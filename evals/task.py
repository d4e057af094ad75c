"""The tasks of a run: benchmarks by name, and held-out problems of the user's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evals.config import EvaluateConfig
from evals.graders.registry import JUDGE, builtin_graders, choose_grader
from evals.items import Item, load_items
from evals.tasks.benchmark import HELD_OUT_PRESET, Benchmark, Preset
from evals.tasks.load import load_benchmark
from evals.tasks.registry import builtin_benchmarks
from megatron_sft.errors import ConfigError, DataError

ALL_QUIRKS = "all"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a run."""

    name: str
    group: str
    """in-domain, out-of-domain, general or safety."""
    grader: str
    items: list[Item]
    preset: Preset = HELD_OUT_PRESET
    quirks: tuple[str, ...] = ()
    """The paper's deviations that are switched on, sorted."""
    rubric: str | None = None
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)


def load_tasks(config: EvaluateConfig) -> list[Task]:
    """Read the problems of every task and choose its grader. A file of held-out problems goes before a benchmark.

    Raises:
        ConfigError: for a grader that does not exist, or a quirk that no task has.
        DataError: for a task that is neither, and for files that are missing or cannot be read.
    """
    benchmarks = builtin_benchmarks()
    chosen = [(name, _benchmark(name, config.data, benchmarks)) for name in config.task_names()]
    quirks = _quirks(config.quirk_names(), [benchmark for _, benchmark in chosen if benchmark])
    return [
        _held_out(config, name) if benchmark is None else _of_benchmark(config, benchmark, quirks)
        for name, benchmark in chosen
    ]


def _benchmark(name: str, data: Path, benchmarks: Mapping[str, Benchmark]) -> Benchmark | None:
    """Return the benchmark of this name; None where DATA has held-out problems of this name."""
    path = data / f"{name}.held_out.jsonl"
    if path.is_file():
        return None
    if name not in benchmarks:
        raise DataError(
            f"task {name}: {path} does not exist, and there is no benchmark of this name: name the folder with --data, "
            f"write the file with tools/make_tasks, or choose among {', '.join(benchmarks)}"
        )
    return benchmarks[name]


def _held_out(config: EvaluateConfig, name: str) -> Task:
    items = load_items(config.data, name, config.limit)
    group = "in-domain" if name in config.in_domain_names() else "out-of-domain"
    return Task(name=name, group=group, grader=choose_grader(name, items, config.grader_choices()), items=items)


def _of_benchmark(config: EvaluateConfig, benchmark: Benchmark, wanted: set[str]) -> Task:
    quirks = wanted & set(benchmark.quirks)
    grader = config.grader_choices().get(benchmark.name, benchmark.grader_with(quirks))
    if grader not in builtin_graders() and grader != JUDGE:
        raise ConfigError(f"--graders: no grader {grader!r}; known are {', '.join(builtin_graders())}")
    return Task(
        name=benchmark.name,
        group="in-domain" if benchmark.name in config.in_domain_names() else benchmark.group,
        grader=grader,
        items=load_benchmark(benchmark, config.data, config.limit, quirks=quirks),
        preset=benchmark.preset_with(quirks),
        quirks=tuple(sorted(quirks)),
        rubric=benchmark.rubric if grader == JUDGE else None,
        ratios=benchmark.ratios,
        published=benchmark.published,
    )


def _quirks(names: list[str], benchmarks: list[Benchmark]) -> set[str]:
    known = {quirk for benchmark in benchmarks for quirk in benchmark.quirks}
    if names == [ALL_QUIRKS]:
        return known
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--paper-quirks: no task of this run has {name!r}; they have {', '.join(sorted(known)) or 'none'}"
            )
    return set(names)
