"""The stages: queries, traces, candidates, selection, rows, shards."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_sft.dataset_recipes import programs
from megatron_sft.dataset_recipes.kept_rows import Choice, write_kept
from megatron_sft.dataset_recipes.options import BuildDatasetConfig
from megatron_sft.dataset_recipes.queries import example_turns, write_queries
from megatron_sft.dataset_recipes.recipe import Recipe, SelectSpec, TransformSpec
from megatron_sft.dataset_recipes.row_files import check_columns, has_column, numbered_rows
from megatron_sft.dataset_recipes.sources import Source, expand
from megatron_sft.dataset_recipes.stages import Stage
from megatron_sft.dataset_recipes.transform import write_candidates
from megatron_sft.errors import DataError, UserError
from megatron_sft.stages.programs import run_module

if TYPE_CHECKING:
    from megatron_sft.dataset_recipes.plan import Plan

BUILD_SHARDS, GENERATE_TRACES = "megatron_sft.data.build_shards", "megatron_sft.traces"


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Rows among which `build_shards` selects."""

    source: Source | None = None
    """Files that are there when the build begins."""
    pattern: Path | None = None
    """Files that a stage makes."""
    after: tuple[str, ...]
    """The stages that make them."""
    order: Path | None
    """Queries that give the order of the rows."""
    columns: dict[str, str]
    """Field: column, where they differ."""
    keep_order: bool = False
    dropped: Path | None = None
    """Lines about rows that did not become candidates."""

    def files(self) -> list[Path]:
        """Return them, once they are there."""
        if self.source is not None:
            return self.source.files
        assert self.pattern is not None
        return expand("traces", [str(self.pattern)])


def generated(
    plan: "Plan", config: BuildDatasetConfig, recipe: Recipe, source: Source, folder: Path, prefix: str
) -> Candidates:
    """Add the stages that make queries and have them answered."""
    spec, generate, teacher = recipe.queries, recipe.generate, config.teacher_options
    assert spec is not None and generate is not None
    queries, traces = folder / "queries", folder / "traces"
    plan.stages.append(
        Stage(
            name=f"{prefix}queries",
            title=f"queries of {source.name}",
            parts={"source": source.fingerprint, "queries": asdict(spec), "answer": recipe.answer},
            after=(),
            outputs=(queries,),
            result=(queries / "queries.jsonl",),
            action=lambda: write_queries(source, spec, recipe.answer, queries),
        )
    )
    sampling = {name: value for name, value in asdict(generate).items() if name != "teacher"}
    words = [str(queries / "queries.jsonl"), "--output", str(traces), *teacher.words()]
    for name, value in sampling.items():
        words += ["--" + name.replace("_", "-"), str(value)]

    def generate_traces() -> dict[str, Any]:
        log = config.output / "logs" / f"{prefix}traces.log"
        try:
            run_module(GENERATE_TRACES, words, log)
        except UserError:
            failed = sum(file.stat().st_size > 0 for file in traces.glob("failures-*.jsonl"))
            if not (config.allow_failed_samples and failed):
                raise
        return trace_counts(traces)

    dialect = None if teacher.endpoint is None else teacher.endpoint_dialect or "vllm"
    identity = {"teacher": teacher.teacher, "dtype": teacher.dtype, "endpoint_dialect": dialect}
    plan.stages.append(
        Stage(
            name=f"{prefix}traces",
            title=f"{sampling['num_samples']} answers each by {teacher.teacher}",
            parts=sampling | identity,
            after=(f"{prefix}queries",),
            outputs=(traces,),
            result=(traces / "config.json",),
            action=generate_traces,
            grows="num_samples",
            keeps_partial=True,
        )
    )
    return Candidates(
        pattern=traces / "traces-*.jsonl",
        after=(f"{prefix}traces",),
        order=queries / "queries.jsonl",
        columns={},
        dropped=queries / "dropped.jsonl",
    )


def trace_counts(traces: Path) -> dict[str, Any]:
    """Return what `dataset.json` says of a folder of traces."""
    failures = [line for file in sorted(traces.glob("failures-*.jsonl")) for line in file.open(encoding="utf-8")]
    counts: dict[str, Any] = {
        "failed_samples": sum(len(json.loads(line).get("samples", ())) for line in failures),
        "settings": json.loads((traces / "config.json").read_text(encoding="utf-8")),
    }
    manifest = traces / "manifest.json"
    if manifest.is_file():
        content = json.loads(manifest.read_text(encoding="utf-8"))
        counts |= {name: content[name] for name in ("num_rows", "num_tokens", "finish_reasons", "engines")}
    return counts


def started(
    plan: "Plan",
    config: BuildDatasetConfig,
    recipe: Recipe,
    start: Source | None,
    made_by: str,
    joined: Source | None,
) -> Candidates:
    """Add the stage that turns rows which exist, or which the stage `made_by` makes, into candidates."""
    folder = config.output / "candidates"
    transform = recipe.transform or TransformSpec()
    rows = config.output / "base" / "rows.parquet"
    origin = start or Source(name=made_by, files=[rows], columns={}, record={"files": []})
    parts: dict[str, Any] = {"transform": asdict(transform), "answer": recipe.answer}
    begin = recipe.start
    if start is not None:
        parts["source"] = start.fingerprint
        parts["prompt"] = begin.prompt if begin else None
    if joined is not None:
        parts["joined"] = joined.fingerprint
    plan.stages.append(
        Stage(
            name="candidates",
            title=f"rows of {origin.name}{_steps(transform)}",
            parts=parts,
            after=(made_by,) if made_by else (),
            outputs=(folder,),
            result=(folder / "candidates.parquet",),
            action=lambda: write_candidates(origin, transform, joined, folder, answer=recipe.answer, begin=begin),
        )
    )
    pattern = folder / "candidates.parquet"
    dropped = folder / "dropped.jsonl"
    return Candidates(pattern=pattern, after=("candidates",), order=None, columns={}, keep_order=True, dropped=dropped)


def _steps(spec: TransformSpec) -> str:
    steps = [
        *([f"{spec.subset.how} {spec.subset.num} of them"] if spec.subset else []),
        *([f"responses of {spec.join.source}"] if spec.join else []),
        *(["without think blocks"] if spec.strip_think else []),
    ]
    return f" ({', '.join(steps)})" if steps else ""


def add_rows(
    plan: "Plan", config: BuildDatasetConfig, recipe: Recipe, candidates: Candidates, *, folder: Path, prefix: str
) -> None:
    """Add the stages that select among candidates and file the rows."""
    select, selected = recipe.select, folder / "selected"
    parts: dict[str, Any] = {
        "select": {name: value for name, value in asdict(select).items() if name != "num_queries"},
        "shards": asdict(recipe.shards),
        "tokenizer": plan.tokenizer.fingerprint,
        "columns": candidates.columns,
    }
    if candidates.source is not None:
        parts["traces"] = candidates.source.fingerprint
    if select.filters is not None and select.filters.decontaminate:
        parts["decontaminate"] = [_sha256(file) for file in expand("decontaminate", select.filters.decontaminate)]
    log = config.output / "logs" / f"{prefix}select.log"

    def run_select() -> dict[str, Any]:
        if candidates.source is not None:
            _check_traces(candidates.source, select)
        words = [*map(str, candidates.files()), "--output", str(selected), *select_words(select)]
        # Where there is a choice, a response that fits is chosen.
        over_length = "reject" if select.which != "all" else recipe.shards.over_length
        words += [*programs.column_words(candidates.columns), *_common_words(config, recipe, over_length)]
        run_module(BUILD_SHARDS, words, log)
        return _manifest(selected)

    plan.stages.append(
        Stage(
            name=f"{prefix}select",
            title=f"verify {select.verify}, select {select.which}",
            parts=parts,
            after=candidates.after,
            outputs=(selected,),
            result=(selected / "manifest.json", selected / "rejects.jsonl"),
            action=run_select,
            keeps_partial=True,
        )
    )
    examples = example_turns(recipe.queries) if recipe.queries else []
    choice = Choice(num_queries=select.num_queries, seed=select.seed, expected_rows=recipe.expected_rows)
    data_source = recipe.queries.source if recipe.queries else recipe.name
    plan.stages.append(
        Stage(
            name=f"{prefix}rows",
            title=f"rows in the published schema, {recipe.expected_rows or 'any number'} expected",
            parts=asdict(choice) | {"answer": recipe.answer, "data_source": data_source, "examples": examples},
            after=(f"{prefix}select",),
            outputs=(folder / "rows", folder / "rows.parquet"),
            result=(folder / "rows.parquet", folder / "rows" / "account.json"),
            action=lambda: write_kept(
                candidates.files(),
                selected,
                candidates.order,
                folder,
                keep_order=candidates.keep_order,
                columns=candidates.columns,
                answer=recipe.answer,
                data_source=data_source,
                choice=choice,
                tokenizer=plan.tokenizer,
                dropped=candidates.dropped,
                examples=examples,
            ),
        )
    )


def _check_traces(source: Source, select: SelectSpec) -> None:
    """Check that traces which others made have what is read of them."""
    first = next((row for _, row in numbered_rows(source.files[0]) if row is not None), {})
    message, prompt = (source.columns.get(name, name) for name in ("message", "prompt"))
    names = ["response", "prompt" if has_column(first, prompt) and not has_column(first, message) else "message"]
    names += ["answer"] if select.verify != "none" else []
    check_columns(source.files, {name: source.columns.get(name, name) for name in names}, source=source.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def select_words(select: SelectSpec) -> list[str]:
    """Return what is selected as words of `build_shards`'s command line."""
    words = ["--verify", select.verify, "--select", select.which, "--seed", str(select.seed)]
    if select.filters is None:
        return [*words, "--keep-duplicates", *programs.filter_words(programs.NO_FILTERS)]
    return [*words, *programs.filter_words(select.filters)]


def add_shards(plan: "Plan", config: BuildDatasetConfig, recipe: Recipe) -> None:
    """Add the stage that makes shards of the rows: the same samples in the same order."""
    rows, shards = config.output / "rows.parquet", config.output / "shards"
    everything = SelectSpec()

    def run_build() -> dict[str, Any]:
        words = [str(rows), "--output", str(shards), *select_words(everything)]
        words += _common_words(config, recipe, recipe.shards.over_length)
        run_module(BUILD_SHARDS, words, config.output / "logs" / "shards.log")
        counts = _manifest(shards)
        if counts["rejected_by_reason"]:
            raise DataError(f"{shards}: rows were dropped that had been kept before: {counts['rejected_by_reason']}")
        return counts

    plan.stages.append(
        Stage(
            name="shards",
            title=f"samples of at most {recipe.shards.max_length} tokens",
            parts={"shards": asdict(recipe.shards), "tokenizer": plan.tokenizer.fingerprint},
            after=("rows",),
            outputs=(shards,),
            result=(shards / "manifest.json",),
            action=run_build,
        )
    )


def _common_words(config: BuildDatasetConfig, recipe: Recipe, over_length: str) -> list[str]:
    shards = recipe.shards
    words = ["--tokenizer", str(config.tokenizer), "--max-length", str(shards.max_length)]
    words += ["--over-length", over_length]
    return words if config.workers is None else [*words, "--workers", str(config.workers)]


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return programs.manifest_counts(manifest)
