"""Where results go: results.json, comparisons.json, tables for the terminal and in Markdown, TensorBoard events."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evals.compare import comparison_order
from megatron_sft.errors import DataError
from megatron_sft.files import write_json, write_text

SCALARS = ("score", "stderr", "mean_length_tokens", "share_cut_off", "accuracy_among_finished", "repetition_rate")
NOTHING = "-"


def merge_results(path: Path, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put `entries` into results.json in place of those with the same name and task, and return all of them.

    The file is sorted by task, iteration and name, and replaced as a whole.
    """
    fresh = {(entry["name"], entry["task"]) for entry in entries}
    kept = [entry for entry in read_results(path) if (entry["name"], entry["task"]) not in fresh]
    results = sorted(kept + entries, key=_order)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, results, sort_keys=False)
    return results


def merge_comparisons(path: Path, entries: list[dict[str, Any]], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put `entries` into comparisons.json in place of those of the same task and models, and return all of them.

    Of the others those stay whose two scores are still those of `results`: no comparison outlives its figures.
    """
    scores = {(entry["task"], entry["name"]): entry["score"] for entry in results}
    fresh = {_compared(entry) for entry in entries}
    kept = [
        entry
        for entry in read_results(path)
        if _compared(entry) not in fresh
        and scores.get((entry["task"], entry["name"])) == entry["score"]
        and scores.get((entry["task"], entry["against"])) == entry["against_score"]
    ]
    comparisons = sorted(kept + entries, key=comparison_order)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, comparisons, sort_keys=False)
    return comparisons


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read results.json or comparisons.json; an absent file has no results.

    Raises:
        DataError: for a file of another form.
    """
    if not path.exists():
        return []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}: move it away") from error
    if not isinstance(results, list) or not all(
        isinstance(entry, dict) and {"name", "task"} <= entry.keys() for entry in results
    ):
        raise DataError(f"{path}: expected a list of results with `name` and `task`: move it away")
    return results


def format_table(entries: list[dict[str, Any]]) -> str:
    """Return the results as aligned columns, one line per model and task."""
    header = ("task", "group", "iteration", "model", "score", "+/-", "samples", "length", "cut off", "undecided")
    rows = [header, *(_table_row(entry) for entry in sorted(entries, key=_order))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    left_aligned = (0, 1, 3)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left_aligned else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write_markdown(path: Path, results: list[dict[str, Any]], comparisons: list[dict[str, Any]]) -> None:
    """Write results.md: a row for each task and model, then the differences to the base on the same items."""
    lines = [
        "# Results",
        "",
        "Scores in per cent (in points where marked), ± the standard error clustered by item; the interval is the "
        "95 % bootstrap interval over items. Lengths in tokens, right-censored at the budget. Undecided answers count "
        "as wrong.",
        "",
        *_markdown_table(RESULT_COLUMNS, map(_result_cells, sorted(results, key=_order))),
    ]
    to_base = [entry for entry in comparisons if "base" in entry["roles"]]
    if to_base:
        lines += [
            "",
            "## Differences to the base",
            "",
            "Mean over the items that both have of one model's score minus the base's; p by random changes of sign. "
            "No correction is made for looking at many differences.",
            "",
            *_markdown_table(DIFFERENCE_COLUMNS, map(_difference_cells, to_base)),
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


def write_tensorboard(folder: Path, entries: list[dict[str, Any]]) -> int:
    """Write eval/<task>/<figure> at each entry's iteration: `scalars_of` an entry.

    Entries without an iteration cannot be drawn; their number is returned. The folder's evaluation events are
    replaced, so that a second run does not draw every point twice.
    """
    # tensorboard's own writer: torch.utils.tensorboard would import torch for it.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True, exist_ok=True)
    stale = list(folder.glob("events.out.tfevents.*.eval"))
    writer = EventFileWriter(str(folder), filename_suffix=".eval")
    current = time.time()
    num_without = 0
    for entry in sorted(entries, key=_order):
        if entry["iteration"] is None:
            num_without += 1
            continue
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars_of(entry)]
        writer.add_event(Event(wall_time=current, step=entry["iteration"], summary=Summary(value=values)))
    writer.close()
    for path in stale:
        path.unlink()
    return num_without


def scalars_of(entry: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield tag and value of what TensorBoard shows of an entry; figures that it has none of are left out."""
    figures = {name: entry.get(name) for name in SCALARS}
    figures["median_length_tokens"] = entry.get("length_tokens", {}).get("all", {}).get("median")
    figures |= {name: ratio["value"] for name, ratio in entry.get("ratios", {}).items()}
    for name, value in figures.items():
        if value is not None:
            yield f"eval/{entry['task']}/{name}", value


def _table_row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["task"],
        entry["group"],
        _iteration(entry["iteration"]),
        entry["name"],
        _score(entry["score"], entry),
        _score(entry["stderr"], entry),
        str(entry["num_samples"]),
        f"{entry['mean_length_tokens']:.1f}",
        f"{100 * entry['share_cut_off']:.1f}%",
        str(entry["num_undecided"]),
    )


RESULT_COLUMNS = (
    *("task", "group", "iteration", "model", "score", "interval", "items", "samples", "mean length", "median length"),
    *("cut off", "score among finished", "undecided"),
)
DIFFERENCE_COLUMNS = ("task", "iteration", "model", "against", "difference", "interval", "p", "items", "unlike")


def _result_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    among = entry.get("accuracy_among_finished")
    finished = f" of {entry['num_finished']}" if among is not None else ""
    unit = " points" if entry.get("unit") == "points" else ""
    median = entry.get("length_tokens", {}).get("all", {}).get("median")
    return (
        entry["task"],
        entry["group"],
        _iteration(entry["iteration"]),
        entry["name"],
        f"{_score(entry['score'], entry)} ± {_score(entry['stderr'], entry)}{unit}",
        _interval(entry),
        str(entry["num_items"]),
        str(entry["num_samples"]),
        f"{entry['mean_length_tokens']:,.0f}",
        NOTHING if median is None else f"{median:,.0f}",
        f"{100 * entry['share_cut_off']:.1f} %",
        f"{_score(among, entry)}{finished}",
        str(entry["num_undecided"]),
    )


def _difference_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    unit = " points" if entry["unit"] == "points" else ""
    missing = entry["num_only_here"] + entry["num_only_there"]
    return (
        entry["task"],
        _iteration(entry["iteration"]),
        entry["name"],
        entry["against"],
        f"{_score(entry['difference'], entry, signed=True)} ± {_score(entry['stderr'], entry)}{unit}",
        _interval(entry, signed=True),
        NOTHING if entry["p_value"] is None else f"{entry['p_value']:.4f}",
        f"{entry['num_items']}" + (f" ({missing} not in both)" if missing else ""),
        ", ".join(entry["unlike"]) or NOTHING,
    )


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(map(escape_markdown, row))} |"


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it stands, within one cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def _score(value: float | None, entry: dict[str, Any], *, signed: bool = False) -> str:
    """Spell a figure in the unit of its score: per cent, or points."""
    if value is None:
        return NOTHING
    sign = "+" if signed else ""
    return f"{value:{sign}.2f}" if entry.get("unit") == "points" else f"{100 * value:{sign}.1f}"


def _interval(entry: dict[str, Any], *, signed: bool = False) -> str:
    bounds = entry.get("interval")
    return NOTHING if bounds is None else " to ".join(_score(bound, entry, signed=signed) for bound in bounds)


def _iteration(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _compared(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["task"], entry["name"], entry["against"]


def _order(entry: dict[str, Any]) -> tuple[Any, ...]:
    iteration = entry["iteration"]
    return (entry["task"], iteration is None, iteration or 0, entry["name"])
