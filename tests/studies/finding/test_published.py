import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.shape import Verdict, shape_of
from megatron_sft.studies.finding.published import (
    binomial_stderr,
    published_cells,
    published_curve,
    published_curves,
    usable,
)
from megatron_sft.studies.reference import Cell
from megatron_sft.studies.study import Study, load

MARGIN = 5.0


@pytest.fixture(scope="module")
def study() -> Study:
    return load("paper")


def test_standard_errors_are_about_those_of_the_notes() -> None:
    # Section 4.7: MATH500 1.9 to 2.2 at 0.5 to 0.75, AIME24 9, IFEval 2.1.
    assert binomial_stderr(75, 500) == pytest.approx(1.9, abs=0.05)
    assert binomial_stderr(50, 500) == pytest.approx(2.2, abs=0.05)
    assert binomial_stderr(50, 30) == pytest.approx(9.1, abs=0.05)
    assert binomial_stderr(0, 30) > 3


def test_cells_in_doubt_are_left_out() -> None:
    cells = {0: Cell(value=35.0, mark="", tags=()), 10: Cell(value=None, mark="unreadable", tags=())}
    assert usable(cells | {20: Cell(value=30.5, mark="doubtful", tags=())}) == {0: 35.0}


def test_starred_steps_are_no_points_of_the_curve(study: Study) -> None:
    curve = published_curve(study, "1.7b-math-cot", "ifeval", seed=0)
    assert curve.steps == (0, 10, 20, 40, 80, 480)


@pytest.mark.parametrize(
    ("arm", "column", "verdict"),
    [
        ("1.7b-math-cot", "math500", Verdict.DIP),
        ("1.7b-math-cot", "aime24", Verdict.NOT_RESOLVED),
        ("1.7b-math-cot", "mmlu_pro_1k", Verdict.DIP_AND_RECOVERY),
        ("4b-math-cot", "math500", Verdict.GAIN),
        ("4b-math-cot", "aime24", Verdict.NOT_RESOLVED),
        ("4b-math-cot", "gpqa_diamond", Verdict.GAIN),
        ("4b-math-cot", "livecodebench", Verdict.NOT_RESOLVED),
        ("4b-math-cot", "ifeval", Verdict.DIP),
    ],
)
def test_verdicts_on_published_curves(study: Study, arm: str, column: str, verdict: Verdict) -> None:
    curve = published_curve(study, arm, column, seed=0, correlation=0.0)
    assert shape_of(curve, margin=MARGIN).verdict == verdict


def test_paired_items_would_resolve_the_dip_of_4b(study: Study) -> None:
    for column, seed in (("math500", 0), ("mmlu_pro_1k", 1)):
        curve = published_curve(study, "4b-math-cot", column, seed, correlation=0.5)
        shape = shape_of(curve, margin=MARGIN)
        assert shape.verdict == Verdict.DIP_AND_RECOVERY
        assert shape.dip.step == 20


def test_points_and_missing_bases_are_refused(study: Study) -> None:
    with pytest.raises(ConfigError, match="alpaca_eval: points: only scores in per cent"):
        published_curve(study, "14b-math-cot", "alpaca_eval", seed=0)
    with pytest.raises(ConfigError, match=r"14b-math-cot: gpqa_diamond: a curve needs step 0"):
        published_curve(study, "14b-math-cot", "gpqa_diamond", seed=0)


def test_arms_have_the_columns_that_can_be_trusted(study: Study) -> None:
    # GPQA of the 14B base model is in doubt, AlpacaEval is in points.
    assert list(published_curves(study, "14b-math-cot", 0)) == [
        *("math500", "aime24", "livecodebench", "mmlu_pro_1k", "ifeval", "halueval", "truthfulqa"),
    ]
    small = published_curves(study, "1.7b-math-cot", 0)
    assert small["ifeval"].steps == (0, 10, 20, 40, 80, 480)
    assert small["math500"].steps[-1] == 640
    # Two benchmarks with the same standard error have draws of their own.
    assert not (small["math500"].draws[:, 0] - small["math500"].means[0] == 0).any()
    assert len({float(curve.draws[0, 0] - curve.means[0]) for curve in small.values()}) == len(small)


def test_tables_are_joined_with_the_base_model_of_another_one(study: Study) -> None:
    cells = published_cells(study, "1.7b-math-nocot", "math500")
    assert list(cells) == [0, 10, 40, 80, 160, 320, 480, 640]
    assert [cell.value for cell in cells.values()] == [58.9, 55.2, 58.9, 58.1, 58.0, 60.7, 61.3, 59.5]
