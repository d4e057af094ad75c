"""The last stage: the data card, and `dataset.json`, which makes the folder valid."""

import json
import platform
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megatron_sft.backends import installed_version
from megatron_sft.dataset_recipes import card, facts
from megatron_sft.dataset_recipes.options import BuildDatasetConfig
from megatron_sft.dataset_recipes.overlap import count_overlap
from megatron_sft.dataset_recipes.plan import Plan, resolved
from megatron_sft.dataset_recipes.row_files import numbered_rows
from megatron_sft.dataset_recipes.sources import Hashes, expand
from megatron_sft.dataset_recipes.stages import Stage
from megatron_sft.dataset_recipes.transform import read_chosen
from megatron_sft.files import write_bytes, write_json, write_text

FORMAT, FORMAT_VERSION = "megatron-sft-dataset", 1
PACKAGES = ("megatron-sft", "numpy", "pyarrow", "math-verify", "matplotlib")


def finishing_stage(plan: Plan, config: BuildDatasetConfig) -> Stage:
    """Return the stage that writes `card/` and `dataset.json`."""
    output = config.output
    hashes = Hashes(output / "stages" / "hashes.json")
    benchmarks = {name: expand("--benchmarks", [path])[0] for name, path in config.pairs("benchmarks").items()}
    described = _described(plan)
    versions = {name: installed_version(name) for name in PACKAGES} | {"python": platform.python_version()}

    def finish() -> dict[str, Any]:
        counts = {stage.name: _counts(output, stage.name) for stage in plan.stages}
        questions = [str((row or {}).get("question") or "") for _, row in numbered_rows(output / "rows.parquet")]
        overlap = {name: count_overlap(questions, path, config.tokenizer) for name, path in benchmarks.items()}
        content = described | {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "num_rows": counts["rows"]["rows"],
            "rows_sha256": hashes.sha256(output / "rows.parquet"),
            "shards_fingerprint": counts["shards"]["fingerprint"],
            "tokenizer_fingerprint": plan.tokenizer.fingerprint,
            "stages": counts,
            "dropped_by_reason": dict(sorted(_drops(counts).items())),
            "subset": read_chosen(output / "candidates") if "candidates" in counts else None,
            "overlap": overlap,
            "versions": versions,
        }
        known = facts.gather(output, content, plan.tokenizer)
        folder = output / "card"
        folder.mkdir(exist_ok=True)
        for name, png in card.pictures(known).items():
            write_bytes(folder / name, png)
        write_text(folder / "README.md", card.render(known))
        write_json(output / "dataset.json", content)
        return {"overlapping_questions": sum(found["repeated"] for found in overlap.values())}

    return Stage(
        name="card",
        title="data card and dataset.json",
        parts={
            "described": described,
            "benchmarks": {name: hashes.sha256(path) for name, path in benchmarks.items()},
            "versions": versions,
        },
        after=tuple(stage.name for stage in plan.stages),
        outputs=(output / "card", output / "dataset.json"),
        result=(output / "card" / "README.md", output / "dataset.json"),
        action=finish,
        cheap=True,
    )


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.recipe.name,
        "title": plan.recipe.title,
        "description": plan.recipe.description,
        "route": plan.route,
        "recipe": resolved(plan.recipe),
        "starts_from": resolved(plan.base),
        "generation": asdict(plan.generate) if plan.generate else None,
        "deviations": plan.deviations,
        "sources": {name: source.record | {"columns": source.columns} for name, source in plan.sources.items()},
    }


def _counts(output: Path, name: str) -> dict[str, Any]:
    mark = json.loads((output / "stages" / f"{name}.json").read_text(encoding="utf-8"))
    counts: dict[str, Any] = mark["counts"]
    return counts


def _drops(counts: dict[str, dict[str, Any]]) -> Counter[str]:
    """Return rows and queries that were left out, by stage and reason."""
    drops: Counter[str] = Counter()
    for name, stage in counts.items():
        for reason in ("dropped_by_reason", "rejected_by_reason"):
            for key, count in stage.get(reason, {}).items():
                drops[f"{name}: {key}"] += count
        for key in ("not_drawn", "query_not_drawn", "not_in_subset", "failed_samples"):
            if stage.get(key):
                drops[f"{name}: {key}"] += stage[key]
    return drops
