"""Findings as TensorBoard events: the curves of every arm, and the table of hyper-parameters with the last scores."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from megatron_sft.studies.finding.findings import Findings, Origin, Trajectory
from megatron_sft.studies.study import CONDITIONS, Study

SUFFIX = ".study"
POINT = ("share_cut_off", "share_extracted", "accuracy_among_extracted", "accuracy_among_finished", "repetition_rate")


def write_events(findings: Findings, folder: Path) -> int:
    """Write FOLDER/ARM, FOLDER/published/ARM and the table's head in FOLDER; return the number of arms with curves.

    Tags are study/<benchmark>/<figure> at the steps of the training. The folder's events of earlier calls are replaced.
    """
    # tensorboard's own writer: torch.utils.tensorboard would import torch for it.
    from tensorboard.plugins.hparams import summary_v2 as table

    folder.mkdir(parents=True, exist_ok=True)
    stale = list(folder.glob(f"**/events.out.tfevents.*{SUFFIX}"))
    runs: dict[Path, list[Trajectory]] = {}
    for one in findings.trajectories:
        place = folder / one.arm if one.origin == "measured" else folder / "published" / one.arm
        runs.setdefault(place, []).append(one)
    names = list(dict.fromkeys(one.benchmark for one in findings.trajectories))
    metrics = [table.Metric(tag_of(name, "score"), display_name=name) for name in names]
    known = [hyper_parameters(findings.study, one.arm, one.origin) for one in findings.trajectories]
    parameters = [
        table.HParam(name, table.Discrete(sorted({values[name] for values in known}))) for name in (known or [{}])[0]
    ]
    started = time.time()
    _write(folder, [(0, table.hparams_config_pb(parameters, metrics, time_created_secs=started))], started)
    for place, trajectories in runs.items():
        origin, arm = trajectories[0].origin, trajectories[0].arm
        values, trial = hyper_parameters(findings.study, arm, origin), f"{arm}, {origin}"
        head = table.hparams_pb(values, trial_id=trial, start_time_secs=started)
        _write(place, [(0, head), *_summaries(trajectories, findings.confidence), (0, _ended(started))], started)
    for path in stale:
        path.unlink()
    return len(runs)


def hyper_parameters(study: Study, arm: str, origin: Origin) -> dict[str, str | float]:
    """Return the conditions of an arm as numbers and texts, and whose figures they are."""
    conditions = study.conditions(arm)
    return {"figures": origin, **{name: getattr(conditions, name) for name in CONDITIONS}}


def scalars_of(trajectory: Trajectory, confidence: float) -> Iterator[tuple[int, str, float]]:
    """Yield step, tag and value of what is drawn of a trajectory; figures that there are not are left out."""
    curve, lengths = trajectory.curve, trajectory.lengths
    low, high = curve.band(confidence)
    for row, step in enumerate(curve.steps):
        figures = {"score": curve.means[row], "lower": low[row], "upper": high[row], "stderr": curve.stderr[row]}
        if row:
            figures["change"] = curve.changes[row - 1]
        if lengths is not None:
            figures[lengths.statistic.replace(" ", "_") + "_length"] = lengths.curve.means[row]
        for name, value in figures.items():
            yield step, tag_of(trajectory.benchmark, name), float(value)
    for point in trajectory.points:
        for name in POINT:
            value = getattr(point, name)
            if value is not None:
                yield point.step, tag_of(trajectory.benchmark, name), float(value)


def tag_of(benchmark: str, figure: str) -> str:
    """Name a curve; TensorBoard groups tags by what stands before the first slash."""
    return f"study/{benchmark}/{figure}"


def _ended(time_secs: float) -> Any:
    """What tells the table that an arm is not running; tensorboard's own function for it needs tensorflow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time_secs)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def _summaries(trajectories: list[Trajectory], confidence: float) -> Iterator[tuple[int, Any]]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    for trajectory in trajectories:
        for step, tag, value in scalars_of(trajectory, confidence):
            yield step, Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _write(folder: Path, summaries: list[tuple[int, Any]], wall_time: float) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    for step, summary in summaries:
        writer.add_event(Event(wall_time=wall_time, step=step, summary=summary))
    writer.close()
