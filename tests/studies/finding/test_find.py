from pathlib import Path

import numpy as np
import pytest

from megatron_sft.studies.finding.find import find, find_published
from megatron_sft.studies.finding.findings import ArmDifference, Findings
from megatron_sft.studies.finding.published import published_cells, usable
from megatron_sft.studies.study import Study, load
from tests.studies.finding.run_folders import STUDY, answer, marks, write_result
from tests.studies.finding.test_measurements import arm, base, make_study

NUM_ITEMS = 8
HALF = [1.0] * 4 + [0.0] * 4


def write_small_run(tmp_path: Path) -> None:
    """Base A right on half of the sums; `long` falls to one and rises to all, `short` stays, `other` gains one."""
    for model in "AB":
        write_result(base(tmp_path, model), model, "sums", 0, marks(HALF, num_tokens=10))
        write_result(base(tmp_path, model), model, "words", 0, marks([0.0] * 8, num_tokens=10, extracted=False))
        write_result(base(tmp_path, model), model, "harm", 0, marks([0.0] * 8), unit="points")
    sums = {
        ("long", 10): [1.0] + [0.0] * 7,
        ("long", 20): [1.0] * 8,
        ("short", 10): HALF,
        ("short", 20): [1.0] * 5 + [0.0] * 3,
        ("other", 10): HALF,
        ("other", 20): [1.0] * 5 + [0.0] * 3,
    }
    for (name, step), scores in sums.items():
        length = 40 if step == 10 else 20
        write_result(arm(tmp_path, name), f"iter_{step:07d}", "sums", step, marks(scores, num_tokens=length))
        words = marks([1.0] * 2 + [0.0] * 6 if step == 20 else [0.0] * 8, num_tokens=length)
        write_result(arm(tmp_path, name), f"iter_{step:07d}", "words", step, words)
        harm = marks([1.0] * 8 if name == "long" and step == 20 else [0.0] * 8)
        write_result(arm(tmp_path, name), f"iter_{step:07d}", "harm", step, harm, unit="points")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("small")
    write_small_run(folder)
    return find(make_study(folder), folder / "run")


def test_trajectories_of_a_run(small: Findings) -> None:
    names = [(one.arm, one.benchmark) for one in small.trajectories]
    columns = ["sums", "words", "harm", "in-domain", "out-of-domain", "safety"]
    assert names == [(name, column) for name in ("long", "short", "other") for column in columns]
    long = small.trajectory("long", "sums", "measured")
    assert long is not None and long.shape is not None
    assert long.curve.means.tolist() == [50, 12.5, 100]
    assert (long.shape.final_gain, long.shape.dip.depth, long.shape.dip.step) == (50, 37.5, 10)
    assert long.final_change[0] == 50
    assert long.final_change[1] < 50 < long.final_change[2]
    assert [(point.step, point.num_items, point.mean_length) for point in long.points] == [
        *((0, 8, 10), (10, 8, 40), (20, 8, 20)),
    ]
    assert long.points[0].repetition_rate == 0.25
    average = small.trajectory("long", "in-domain", "measured")
    assert average is not None
    assert average.is_average and average.members == ("sums",)
    np.testing.assert_allclose(average.curve.means, long.curve.means)
    assert small.warnings == ()


def test_harm_is_turned_for_its_shape_only(small: Findings) -> None:
    harm = small.trajectory("long", "harm", "measured")
    assert harm is not None and harm.shape is not None
    assert harm.curve.means.tolist() == [0, 0, 100]
    assert harm.shape.final_gain == -100
    assert harm.shape.verdict.value == "decline"
    assert harm.final_change[0] == 100


def test_lengths_and_form(small: Findings) -> None:
    words = small.trajectory("long", "words", "measured")
    assert words is not None and words.lengths is not None and words.turning is not None and words.parts is not None
    assert words.lengths.curve.means.tolist() == [10, 40, 20]
    assert words.turning.turn.value == "rise and fall"
    assert words.turning.step == 10
    # Nothing was extracted from base, everything later: all of the gain is form.
    assert words.parts.gain.tolist() == [0, 25]
    np.testing.assert_allclose(words.parts.form, [0, 25])
    np.testing.assert_allclose(words.parts.accuracy, [0, 0], atol=1e-12)
    assert words.parts.share_extracted.tolist() == [0, 1, 1]
    harm = small.trajectory("long", "harm", "measured")
    assert harm is not None
    assert harm.parts is None, "a judge's score is not a share of the extracted"


def difference(found: Findings, comparison: str, benchmark: str) -> ArmDifference:
    (one,) = [one for one in found.differences if (one.comparison, one.benchmark) == (comparison, benchmark)]
    return one


def test_differences_of_arms_are_paired(small: Findings) -> None:
    sums = difference(small, "data", "sums")
    assert (sums.first, sums.second, sums.what, sums.paired) == ("long", "short", "score", True)
    assert sums.differences.steps == (10, 20)
    assert sums.differences.estimate.tolist() == [-37.5, 37.5]
    # Three of eight items differ by 100: sqrt(var / 8), the same at both steps.
    expected = np.std([100.0] * 3 + [0.0] * 5, ddof=1) / np.sqrt(8)
    np.testing.assert_allclose(sums.differences.stderr, [expected, expected])
    models = difference(small, "models", "sums")
    assert (models.what, models.differences.steps) == ("change from base", (20,))
    # Long changes four items, other one of them.
    assert models.differences.estimate.tolist() == [37.5]
    assert difference(small, "models", "in-domain").differences.estimate.tolist() == [37.5]
    assert difference(small, "data", "in-domain").differences.estimate.tolist() == [-37.5, 37.5]


def test_asymmetry_of_an_arm(small: Findings) -> None:
    found = {(one.arm, one.reasoning): one.asymmetry for one in small.asymmetries}
    assert set(found) == {(a, g) for a in ("long", "short", "other") for g in ("in-domain", "out-of-domain")}
    long = found["long", "in-domain"]
    assert long.gain.estimate.tolist() == [-37.5, 50]
    assert long.harm.estimate.tolist() == [0, 100]
    assert "safety down" in long.verdict
    assert "safety not resolved" in found["short", "in-domain"].verdict


def test_power_is_measured_and_assumed(small: Findings) -> None:
    rows = [row for row in small.power if row.benchmark == "sums"]
    assert [row.basis.split(":")[0].split(",")[0] for row in rows] == ["standard errors measured", "assumed", "assumed"]
    assert (rows[0].num_items, rows[0].num_samples, rows[1].num_samples) == (8, 1, 2)
    shapes = [one.shape for one in small.trajectories if one.benchmark == "sums"]
    assert rows[0].detectable == np.median([shape.detectable for shape in shapes if shape is not None])


def test_a_study_half_done_has_findings(tmp_path: Path) -> None:
    write_result(base(tmp_path), "A", "sums", 0, marks(HALF))
    write_result(arm(tmp_path), "iter_0000010", "sums", 10, marks([1.0] * 8))
    found = find(make_study(tmp_path), tmp_path / "run")
    (sums, average) = found.trajectories
    assert (sums.benchmark, average.benchmark) == ("sums", "in-domain")
    # Base and one step: no shape, but a change.
    assert sums.shape is None
    assert sums.final_change[0] == 50
    assert found.differences == ()
    assert "arms that are not evaluated: short, other" in found.warnings
    assert find(make_study(tmp_path), tmp_path / "nowhere").trajectories == ()


def test_stages_are_timed(tmp_path: Path) -> None:
    stages = tmp_path / "run" / "stages"
    stages.mkdir(parents=True)
    (stages / "a.json").write_text('{"state": "done", "kind": "train", "seconds": 12.5, "attempts": 2, "ended": "T2"}')
    (stages / "z.json").write_text('{"state": "done", "kind": "data", "seconds": 1, "attempts": 1, "ended": "T1"}')
    (stages / "b.json").write_text(
        '{"state": "failed", "kind": "evaluate", "seconds": 1, "why": "log:\\nno memory\\n(whole output: b.log)"}'
    )
    (stages / "report.json").write_text('{"state": "failed", "kind": "report", "seconds": 1, "why": "no figure"}')
    found = find(make_study(tmp_path), tmp_path / "run")
    assert [(one.name, one.kind, one.seconds, one.attempts) for one in found.times] == [
        *(("z", "data", 1, 1), ("a", "train", 12.5, 2)),
    ]
    assert [text for text in found.warnings if text.startswith("stage")] == ["stage b is failed: no memory"]


def test_steps_without_common_items_are_left_out(tmp_path: Path) -> None:
    write_result(base(tmp_path), "A", "sums", 0, [answer("a", 1.0), answer("b", 0.0)])
    write_result(arm(tmp_path), "iter_0000020", "sums", 20, [answer("c", 1.0), answer("b", 0.0)])
    found = find(make_study(tmp_path), tmp_path / "run")
    assert found.trajectories == ()
    assert "arm long, sums: steps share less than 2 items; left out" in found.warnings


def test_equal_runs_give_equal_findings(tmp_path: Path, small: Findings) -> None:
    write_small_run(tmp_path)
    again = find(make_study(tmp_path), tmp_path / "run")
    for one, other in zip(small.trajectories, again.trajectories, strict=True):
        np.testing.assert_array_equal(one.curve.draws, other.curve.draws)
    other_seed = find(make_study(tmp_path), tmp_path / "run", seed=1)
    assert not np.array_equal(other_seed.trajectories[0].curve.draws, small.trajectories[0].curve.draws)


@pytest.fixture(scope="module")
def published() -> tuple[Study, Findings]:
    study = load("paper")
    return study, find_published(study)


LEFT_OUT = {
    # In points, whose spread nobody published.
    *(("14b-math-cot", "alpaca_eval"), ("14b-repeated", "alpaca_eval"), ("14b-fresh", "alpaca_eval")),
    *((f"{size}-{data}", "alpaca_eval") for size in ("14b", "8b") for data in ("math-nocot", "numina", "countdown")),
    *(("8b-math-cot", "alpaca_eval"), ("internlm-math-cot", "alpaca_eval"), ("internlm-numina", "alpaca_eval")),
    ("internlm-countdown", "alpaca_eval"),
    # Base numbers in doubt: GPQA of 14B and 8B, TruthfulQA of 8B.
    *(
        (f"14b-{data}", "gpqa_diamond")
        for data in ("math-cot", "repeated", "fresh", "math-nocot", "numina", "countdown")
    ),
    *((f"8b-{data}", "gpqa_diamond") for data in ("math-cot", "math-nocot", "numina", "countdown")),
    *((f"8b-{data}", "truthfulqa") for data in ("math-cot", "math-nocot", "numina", "countdown")),
}


@pytest.mark.parametrize("key", ["table1", "table2", "4b-math-cot", "1.7b-math-cot"])
def test_published_numbers_come_out_as_they_went_in(published: tuple[Study, Findings], key: str) -> None:
    study, found = published
    table, num_seen, left_out = study.reference[key], 0, set()
    for row in table.rows:
        if row.arm is None:
            continue
        for column, cell in table.row_cells(row).items():
            one = found.trajectory(row.arm, column, "published")
            if cell.value is None or cell.mark:
                assert one is None or row.step not in one.curve.steps
            elif one is None:
                left_out.add((row.arm, column))
            else:
                assert one.curve.means[one.curve.steps.index(row.step)] == cell.value
                num_seen += 1
    assert num_seen > 15
    assert left_out <= LEFT_OUT
    if key == "table2":
        assert left_out == {pair for pair in LEFT_OUT if not pair[0].endswith(("repeated", "fresh"))}


def test_differences_of_table_1_and_2(published: tuple[Study, Findings]) -> None:
    study, found = published
    aime = [one for one in found.differences if one.comparison == "repeated or fresh" and one.benchmark == "aime24"]
    assert [(one.second, round(float(one.differences.estimate[0]), 6)) for one in aime] == [
        *(("14b-repeated", 4.3), ("14b-fresh", 18.0)),
    ]
    assert not aime[0].paired
    # GPQA needs no base to be compared between two arms of one model.
    gpqa = [one for one in found.differences if one.comparison == "data 14B" and one.benchmark == "gpqa_diamond"]
    assert [round(float(one.differences.estimate[0]), 6) for one in gpqa] == [15.0, 24.9, 10.3]
    numbers = [usable(published_cells(study, name, "gpqa_diamond"))[640] for name in ("14b-math-cot", "14b-math-nocot")]
    p = [(value / 100 * 198 + 1) / 200 for value in numbers]
    stderr = 100 * np.sqrt(sum(x * (1 - x) for x in p) / 198)
    assert gpqa[0].differences.stderr[0] == pytest.approx(stderr)
    assert gpqa[0].differences.upper[0] - 15.0 == pytest.approx(1.959964 * stderr)


def test_published_numbers_stand_beside_the_measured_ones(tmp_path: Path) -> None:
    text = STUDY + (
        "tags: {HERE: known}\n"
        "reference:\n"
        "  known:\n"
        "    title: Known\n"
        "    columns: sums\n"
        "    tags: [HERE]\n"
        "    rows:\n"
        '      - {model: A, step: 0, cells: "50"}\n'
        '      - {arm: long, step: 20, cells: "75"}\n'
    )
    write_small_run(tmp_path)
    found = find(make_study(tmp_path, text), tmp_path / "run")
    assert [one.origin for one in found.trajectories if one.arm == "long" and one.benchmark == "sums"] == [
        *("measured", "published"),
    ]
    known = found.trajectory("long", "sums", "published")
    assert known is not None
    assert known.curve.means.tolist() == [50, 75]
