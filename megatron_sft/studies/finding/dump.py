"""Findings as one JSON file for machines: the dataclasses of `findings`, curves without their draws."""

import dataclasses
import math
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from megatron_sft.files import write_json
from megatron_sft.studies.analysis.curve import Curve
from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.study import Study


def write_findings(findings: Findings, path: Path) -> None:
    """Write findings.json; docs/study-findings.md says what is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, as_json(findings, findings.confidence), sort_keys=False)


def as_json(value: Any, confidence: float) -> Any:
    """Return a value as what JSON can hold: dataclasses as objects by field, what is no finite number as null."""
    if isinstance(value, Curve):
        return _curve(value, confidence)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        # How a study is run is no finding, and holds what is read later.
        kept = [name for name in names if not (isinstance(value, Study) and name == "run")]
        return {name: as_json(getattr(value, name), confidence) for name in kept}
    if isinstance(value, dict):
        return {str(key): as_json(one, confidence) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [as_json(one, confidence) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist(), confidence)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    assert value is None or isinstance(value, str | int), f"JSON has no {type(value)}"
    return value


def _curve(curve: Curve, confidence: float) -> dict[str, Any]:
    low, high = curve.band(confidence)
    change_low, change_high = curve.contrasts.band(confidence)
    after = len(curve.steps) - 1
    fields = {
        "steps": curve.steps,
        "means": curve.means,
        "stderr": curve.stderr,
        "lower": low,
        "upper": high,
        "changes": curve.changes,
        "changes_lower": change_low[:after],
        "changes_upper": change_high[:after],
        "num_items": curve.num_items,
    }
    return {name: as_json(value, confidence) for name, value in fields.items()}
