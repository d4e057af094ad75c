"""Where results go: results.json, a table for the terminal, TensorBoard events."""

import json
import time
from pathlib import Path
from typing import Any

from megatron_sft.errors import DataError
from megatron_sft.files import write_json

SCALARS = ("score", "mean_length_tokens", "share_cut_off")


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


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read results.json; an absent file has no results.

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


def write_tensorboard(folder: Path, entries: list[dict[str, Any]]) -> int:
    """Write eval/<task>/{score,mean_length_tokens,share_cut_off} at each entry's iteration.

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
        values = [Summary.Value(tag=f"eval/{entry['task']}/{name}", simple_value=entry[name]) for name in SCALARS]
        writer.add_event(Event(wall_time=current, step=entry["iteration"], summary=Summary(value=values)))
    writer.close()
    for path in stale:
        path.unlink()
    return num_without


def _table_row(entry: dict[str, Any]) -> tuple[str, ...]:
    stderr = entry["stderr"]
    return (
        entry["task"],
        entry["group"],
        "-" if entry["iteration"] is None else str(entry["iteration"]),
        entry["name"],
        f"{100 * entry['score']:.1f}",
        "-" if stderr is None else f"{100 * stderr:.1f}",
        str(entry["num_samples"]),
        f"{entry['mean_length_tokens']:.1f}",
        f"{100 * entry['share_cut_off']:.1f}%",
        str(entry["num_undecided"]),
    )


def _order(entry: dict[str, Any]) -> tuple[Any, ...]:
    iteration = entry["iteration"]
    return (entry["task"], iteration is None, iteration or 0, entry["name"])
