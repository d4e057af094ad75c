import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_sft.studies.finding.dump import as_json, write_findings
from megatron_sft.studies.finding.find import find, find_published
from megatron_sft.studies.finding.findings import Findings
from megatron_sft.studies.finding.tables import TABLES, csv_text, write_csv
from megatron_sft.studies.finding.tensorboard import write_events
from megatron_sft.studies.study import load
from tests.studies.finding.run_folders import STUDY
from tests.studies.finding.test_find import write_small_run
from tests.studies.finding.test_measurements import make_study

CLAIM = """\
claims:
  1:
    text: long is better
    predictions:
      - text: at the end
        difference: {first: [long], second: [short], benchmarks: [sums], sign: above}
"""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("tables")
    write_small_run(folder)
    stages = folder / "run" / "stages"
    stages.mkdir()
    (stages / "train-long.json").write_text('{"state": "done", "kind": "train", "seconds": 12.5, "attempts": 2}')
    return find(make_study(folder, STUDY + CLAIM), folder / "run")


def read(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_is_written(findings: Findings, tmp_path: Path) -> None:
    paths = write_csv(findings, tmp_path)
    assert [path.stem for path in paths] == list(TABLES)
    assert all(read(tmp_path, name) for name in TABLES)
    assert [row["arm"] for row in read(tmp_path, "arms")] == ["long", "short", "other"]
    assert read(tmp_path, "arms")[1]["data_set"] == "E"
    assert read(tmp_path, "times") == [{"name": "train-long", "kind": "train", "seconds": "12.5", "attempts": "2"}]


def test_scores_and_verdicts(findings: Findings, tmp_path: Path) -> None:
    write_csv(findings, tmp_path)
    rows = [row for row in read(tmp_path, "scores") if (row["arm"], row["benchmark"]) == ("long", "sums")]
    assert [(row["step"], row["score"], row["change"], row["mean_length"]) for row in rows] == [
        *(("0", "50", "0", "10"), ("10", "12.5", "-37.5", "40"), ("20", "100", "50", "20")),
    ]
    assert rows[0]["change_lower"] == ""
    assert float(rows[2]["change_lower"]) < 50 < float(rows[2]["change_upper"])
    verdict = next(row for row in read(tmp_path, "verdicts") if (row["arm"], row["benchmark"]) == ("long", "harm"))
    assert (verdict["verdict"], verdict["final_change"], verdict["better"]) == ("decline", "100", "lower")
    average = next(row for row in read(tmp_path, "verdicts") if row["is_average"] == "yes")
    assert average["members"] == "sums"
    turns = next(row for row in read(tmp_path, "turns") if (row["arm"], row["benchmark"]) == ("long", "words"))
    assert (turns["turn"], turns["longest_step"]) == ("rise and fall", "10")
    form = [row for row in read(tmp_path, "form") if (row["arm"], row["benchmark"]) == ("long", "words")]
    assert [(row["step"], row["form"]) for row in form] == [("10", "0"), ("20", "25")]


def test_comparisons_and_claims(findings: Findings, tmp_path: Path) -> None:
    write_csv(findings, tmp_path)
    rows = [row for row in read(tmp_path, "comparisons") if (row["comparison"], row["benchmark"]) == ("data", "sums")]
    assert [(row["step"], row["difference"], row["paired"]) for row in rows] == [
        *(("10", "-37.5", "yes"), ("20", "37.5", "yes")),
    ]
    (claim,) = read(tmp_path, "claims")
    (evidence,) = read(tmp_path, "evidence")
    assert claim["verdict"] == findings.claims[0].verdict
    assert sum(int(claim[name]) for name in ("holds", "fails", "open", "no_data")) == 1
    assert evidence["text"].startswith("long minus short, Sums: step 20 +37.5 (")


def test_cells_of_csv() -> None:
    rows = [{"a": None, "b": float("nan")}, {"a": True, "b": (10, 20)}, {"a": 'say "x", y', "b": 1 / 3}]
    assert csv_text("a b", rows).splitlines() == ["a,b", ",", "yes,10 20", '"say ""x"", y",0.33333333']


def test_everything_stands_in_one_file_for_machines(findings: Findings, tmp_path: Path) -> None:
    write_findings(findings, tmp_path / "report" / "findings.json")
    text = (tmp_path / "report" / "findings.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert found["study"]["base"]["model"] == "A"
    first = found["trajectories"][0]
    assert (first["arm"], first["benchmark"], first["curve"]["means"]) == ("long", "sums", [50, 12.5, 100])
    assert first["shape"]["verdict"] == findings.trajectories[0].shape.verdict.value  # type: ignore[union-attr]
    assert first["lengths"]["curve"]["means"] == [10, 40, 20]
    assert '"max_t"' not in text
    assert len(text) < 300_000
    assert as_json({"x": float("inf"), "y": (1.5, None, True)}, 0.95) == {"x": None, "y": [1.5, None, True]}


def test_events_can_be_read_by_tensorboard(findings: Findings, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    for _ in range(2):
        assert write_events(findings, tmp_path) == 3
    events = accumulator.EventAccumulator(str(tmp_path / "long"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("study/sums/score")] == [
        (0, 50),
        (10, 12.5),
        (20, 100),
    ]
    assert [point.value for point in events.Scalars("study/sums/median_length")] == [10, 40, 20]
    assert [point.step for point in events.Scalars("study/in-domain/change")] == [10, 20]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    started = parse_session_start_info_plugin_data(content)
    assert started.hparams["data_set"].string_value == "D"
    assert started.hparams["learning_rate"].number_value == 5e-5
    head = accumulator.EventAccumulator(str(tmp_path))
    head.Reload()
    assert "_hparams_/experiment" in head.summary_metadata


def test_the_table_of_hyper_parameters_is_what_tensorboard_shows(findings: Findings, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    write_events(findings, tmp_path)
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = backend_context.Context(TBContext(data_provider=provider))
    request, metadata = RequestContext(), api_pb2.ListSessionGroupsRequest(slice_size=10)
    metadata.allowed_statuses.extend(api_pb2.Status.values())
    experiment = context.experiment_from_metadata(
        request,
        "",
        True,
        context.hparams_metadata(request, ""),
        provider.list_hyperparameters(request, experiment_ids=[""]),
    )
    assert "learning_rate" in [info.name for info in experiment.hparam_infos]
    handler = list_session_groups.Handler(request, context, "", metadata)
    groups = {group.name: group for group in handler.run().session_groups}
    assert set(groups) == {"long, measured", "short, measured", "other, measured"}
    assert groups["long, measured"].sessions[0].status == api_pb2.STATUS_SUCCESS
    values = {value.name.tag: value.value for value in groups["long, measured"].metric_values}
    assert values["study/sums/score"] == 100


def test_published_findings_can_be_written(tmp_path: Path) -> None:
    found = find_published(load("paper"))
    write_csv(found, tmp_path / "csv")
    write_findings(found, tmp_path / "findings.json")
    assert write_events(found, tmp_path / "tensorboard") == len({one.arm for one in found.trajectories})
    assert (tmp_path / "tensorboard" / "published" / "4b-math-cot").is_dir()
    rows = read(tmp_path / "csv", "scores")
    four = [row for row in rows if (row["arm"], row["benchmark"]) == ("4b-math-cot", "math500")]
    assert [row["score"] for row in four] == ["70.8", "64.9", "62.9", "71.5", "77.1", "78.8", "86.3", "87.1", "86.2"]
    assert len(read(tmp_path / "csv", "arms")) == 33


def test_studies_do_not_import_torch() -> None:
    program = (
        "import sys, tempfile, pathlib\n"
        "from megatron_sft.studies.finding import dump, find, tables, tensorboard\n"
        "from megatron_sft.studies.study import load\n"
        "found = find.find_published(load('paper'))\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    tensorboard.write_events(found, pathlib.Path(folder))\n"
        "print(sorted({'torch', 'tensorflow', 'transformers'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
