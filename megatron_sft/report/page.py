"""Renders the HTML page. Names and settings come from files that others wrote, so everything is escaped."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from megatron_sft.report.checks import CUT_OFF_LIMIT, common_settings, model_label, warnings_of
from megatron_sft.report.figures import Drawing
from megatron_sft.report.load import Run, Score

TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one task, as the table shows it."""

    score: str
    """Score in percent."""
    delta: str
    """Difference to the base model in points, with sign; empty for the base itself or without one."""
    direction: str
    """`up`, `down` or `level`: beyond two standard errors of the difference, or not."""
    stderr: str
    """Standard error in points."""
    num_samples: int
    """Generations graded."""
    mean_length: str
    """Mean length in tokens."""
    cut_off: str
    """Share cut off in percent."""
    is_cut_off_high: bool
    """Whether the share cut off is one that the warnings name."""


def render(runs: list[Run], drawings: list[Drawing], *, title: str) -> str:
    """The whole page as text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title,
        runs=[run_view(run) for run in runs],
        figures=[figure_view(drawing) for drawing in drawings],
        config=config_rows(runs),
    )


def run_view(run: Run) -> dict[str, Any]:
    """What the template needs to know about one run."""
    models = list(dict.fromkeys((score.iteration, score.model) for score in run.scores))
    models.sort(key=lambda model: (model[0] is None, model[0] or 0))
    rows = []
    for iteration, name in models:
        scores = {s.task: s for s in run.scores if s.model == name and s.iteration == iteration}
        cells = [cell_of(scores[task], run.base(task)) if task in scores else None for task, _ in run.tasks]
        rows.append({"label": model_label(next(iter(scores.values()))), "name": name, "cells": cells})
    return {
        "name": run.name,
        "warnings": warnings_of(run),
        "tasks": [{"name": task, "group": group} for task, group in run.tasks],
        "rows": rows,
        "protocol": {key: spell(value) for key, value in common_settings(run).items()} if run.scores else {},
        "training": training_summary(run),
    }


def cell_of(score: Score, base: Score | None) -> Cell:
    """Format one score beside the base model's."""
    delta, direction = "", "level"
    scale, digits = (1, 2) if score.unit == "points" else (100, 1)
    if base is not None and base is not score:
        difference = score.score - base.score
        delta = f"{scale * difference:+.{digits}f}"
        if score.stderr is not None and base.stderr is not None:
            noise = 2 * (score.stderr**2 + base.stderr**2) ** 0.5
            if abs(difference) > noise:
                direction = "up" if difference > 0 else "down"
    return Cell(
        score=f"{scale * score.score:.{digits}f}",
        delta=delta,
        direction=direction,
        stderr="?" if score.stderr is None else f"{scale * score.stderr:.{digits}f}",
        num_samples=score.num_samples,
        mean_length=f"{score.mean_length:,.0f}",
        cut_off=f"{100 * score.share_cut_off:.1f}",
        is_cut_off_high=score.share_cut_off > CUT_OFF_LIMIT,
    )


def training_summary(run: Run) -> str:
    """Steps, samples, tokens and last loss of the training, as one line."""
    if not run.steps:
        return ""
    first, last = run.steps[0], run.steps[-1]
    parts = [f"{len(run.steps):,} steps"]
    for key, unit in (("num_samples", "samples"), ("trained_tokens", "trained tokens")):
        values = [step[key] for step in run.steps if isinstance(step.get(key), int | float)]
        if values:
            parts.append(f"{sum(values):,.0f} {unit}")
    if isinstance(first.get("loss"), int | float) and isinstance(last.get("loss"), int | float):
        parts.append(f"loss {first['loss']:.3f} → {last['loss']:.3f}")
    return ", ".join(parts)


def figure_view(drawing: Drawing) -> dict[str, str]:
    """A drawing with its picture inside the page."""
    encoded = base64.b64encode(drawing.png).decode("ascii")
    return {"title": drawing.title, "caption": drawing.caption, "source": f"data:image/png;base64,{encoded}"}


def config_rows(runs: list[Run]) -> list[dict[str, Any]]:
    """One row for each configuration key, with each run's value and whether the runs differ; options come first."""
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    keys.sort(key=lambda key: (not key.startswith("options."), "hf_config." in key))
    rows = []
    for key in keys:
        values = [spell(run.config[key]) if key in run.config else "" for run in runs]
        rows.append({"key": key, "values": values, "differs": len(set(values)) > 1})
    return rows


def spell(value: Any) -> str:
    """A setting as text: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
