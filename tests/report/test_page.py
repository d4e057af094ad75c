"""The HTML page: self-contained, escaped, with the right differences; and the command line around it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_sft import cli
from megatron_sft.report.__main__ import ReportConfig, report
from megatron_sft.report.load import load_run
from megatron_sft.report.page import cell_of, config_rows, render

Entry = dict[str, object]


def run_report(*arguments: object) -> int:
    return cli.run(ReportConfig, report, prog="report", argv=[str(argument) for argument in arguments])


def test_page_and_pictures_are_written(make_run: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "out" / "page.html"
    assert run_report(make_run(), "--output", output) == 0
    names = [path.name for path in sorted(output.parent.iterdir())]
    assert names == ["page-cut-off.png", "page-lengths.png", "page-scores.png", "page-training.png", "page.html"]


def test_page_refers_to_nothing_outside(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run_report(make_run(), "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    references = re.findall(r"""(?:src|href|url|@import|action)\s*[=(]\s*["']?([^"'\s>)]{0,30})""", page)
    assert len(references) == 4
    assert all(reference.startswith("data:image/png;base64,") for reference in references)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_names_and_settings_are_escaped(make_run: Callable[..., Path], score_entry: Callable[..., Entry]) -> None:
    attack = "<img src=x onerror=alert(1)>\"'"
    scores = [score_entry(attack, 0, 0.1, name=attack, sampling={"stop": [attack]}, commit=attack)]
    folder = make_run(scores=scores, config={attack: {attack: attack}})
    page = render([load_run(folder, attack)], [], title=attack)
    assert page.count("&lt;img") > 8
    assert "<img" not in page


def test_differences_to_the_base_are_in_points(make_run: Callable[..., Path]) -> None:
    run = load_run(make_run(), "run")
    base, middle, last = run.curve("addition")
    assert (cell_of(base, base).score, cell_of(base, base).delta) == ("1.0", "")
    assert (cell_of(last, base).score, cell_of(last, base).delta, cell_of(last, base).direction) == (
        "95.0",
        "+94.0",
        "up",
    )
    assert cell_of(base, middle).direction == "down"
    assert cell_of(middle, None).delta == ""


def test_points_and_a_single_problem(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry], tmp_path: Path
) -> None:
    scores = [
        score_entry("reward", step, value, unit="points", stderr=None, group="general")
        for step, value in ((0, -1.25), (10, 2.5))
    ]
    folder = make_run(scores=scores)
    base, later = load_run(folder, "run").curve("reward")
    cell = cell_of(later, base)
    assert (cell.score, cell.delta, cell.direction, cell.stderr) == ("2.50", "+3.75", "level", "?")
    assert run_report(folder, "--output", tmp_path / "page.html") == 0


def test_difference_within_the_noise_is_not_coloured(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry]
) -> None:
    scores = [score_entry("addition", 0, 0.10), score_entry("addition", 10, 0.12)]  # standard errors of 0.01 each
    base, later = load_run(make_run(scores=scores), "run").curve("addition")
    assert (cell_of(later, base).delta, cell_of(later, base).direction) == ("+2.0", "level")


def test_runs_are_laid_beside_each_other(make_run: Callable[..., Path]) -> None:
    runs = [load_run(make_run("a"), "a"), load_run(make_run("b", config={"lr": 2e-3, "tp": 2}), "b")]
    rows = {row["key"]: (row["values"], row["differs"]) for row in config_rows(runs)}
    assert rows["lr"] == (["0.001", "0.002"], True)
    assert rows["tp"] == (["", "2"], True)
    page = render(runs, [], title="two runs")
    assert page.count("<td>step 20") == 2


def test_unevaluated_pairs_and_models_without_a_step_have_their_place(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry]
) -> None:
    scores = [
        score_entry("addition", 0, 0.0),
        score_entry("addition", None, 0.7, name="reference"),
        score_entry("countdown", 0, 0.0),
    ]
    page = render([load_run(make_run(scores=scores), "run")], [], title="t")
    assert page.index("<td>base") < page.index("<td>reference")
    assert page.count("not evaluated") == 1


def test_bad_options_are_named(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_report(tmp_path / "absent", "--output", tmp_path / "page.html") == 2
    assert "report: error:" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run_report(make_run(), "--output", tmp_path / "page.txt")
    with pytest.raises(SystemExit, match="2"):
        run_report(tmp_path, "--output", tmp_path / "page.html", "--no-such-option", "1")
    assert not list(tmp_path.glob("page*"))
