"""What a reader must know before trusting the figures: found by looking over the scores of a run."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from megatron_sft.report.load import Run, Score

CUT_OFF_LIMIT = 0.05
# Settings that must agree between the steps of one task, or the curve compares different things.
PROTOCOL_SETTINGS = ("sampling", "quirks", "grader", "seed", "prompt_fingerprint", "engine", "commit")


def warnings_of(run: Run) -> list[str]:
    """Every warning about one run, missing files first."""
    return [*run.warnings, *base_warnings(run), *cut_off_warnings(run), *protocol_warnings(run)]


def base_warnings(run: Run) -> Iterator[str]:
    """Tasks without a base model to compare with."""
    without = [task for task, _ in run.tasks if run.base(task) is None]
    if without:
        yield f"no base model (iteration 0) was evaluated on {', '.join(without)}: differences cannot be given"


def cut_off_warnings(run: Run) -> Iterator[str]:
    """Tasks where the length limit ended many generations: their score says as much about the limit as the model."""
    for task, _ in run.tasks:
        cut = [score for score in run.scores if score.task == task and score.share_cut_off > CUT_OFF_LIMIT]
        if cut:
            worst = max(cut, key=lambda score: score.share_cut_off)
            yield (
                f"{task}: more than {CUT_OFF_LIMIT:.0%} of the generations were cut off at {describe_models(cut)} "
                f"(up to {worst.share_cut_off:.0%} at {model_label(worst)}); a cut generation counts as wrong"
            )


def protocol_warnings(run: Run) -> Iterator[str]:
    """Tasks whose models were not all evaluated in the same way."""
    for task, _ in run.tasks:
        scores = [score for score in run.scores if score.task == task]
        differing = [name for name in PROTOCOL_SETTINGS if len(values_of(scores, name)) > 1]
        if len({score.num_samples for score in scores}) > 1:
            differing.insert(0, "num_samples")
        if differing:
            yield f"{task}: evaluated with different {', '.join(differing)}: these scores cannot be compared"


def values_of(scores: list[Score], setting: str) -> dict[str, list[Score]]:
    """The scores by the value of one setting, spelt as JSON."""
    by_value: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_value[json.dumps(score.settings.get(setting), sort_keys=True, default=str)].append(score)
    return by_value


def common_settings(run: Run) -> dict[str, Any]:
    """The settings that all scores of a run share, for the page's account of the protocol."""
    names = dict.fromkeys(name for score in run.scores for name in score.settings)
    return {name: run.scores[0].settings[name] for name in names if len(values_of(list(run.scores), name)) == 1}


def describe_models(scores: list[Score]) -> str:
    """A short list of models."""
    labels = [model_label(score) for score in scores]
    return ", ".join(labels) if len(labels) <= 4 else f"{len(labels)} models"


def model_label(score: Score) -> str:
    """How a model is called in tables: its step, or its name where it belongs to no step."""
    if score.iteration is None:
        return score.model
    return "base" if score.iteration == 0 else f"step {score.iteration}"
