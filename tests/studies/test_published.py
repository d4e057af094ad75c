import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.studies.analysis.shape import Verdict, shape_of
from megatron_sft.studies.published import binomial_stderr, published_curve, usable
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
    curve = published_curve(study, study.reference["1.7b-math-cot"], "1.7b-math-cot", "ifeval", seed=0)
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
    curve = published_curve(study, study.reference[arm], arm, column, seed=0, correlation=0.0)
    assert shape_of(curve, margin=MARGIN).verdict == verdict


def test_paired_items_would_resolve_the_dip_of_4b(study: Study) -> None:
    table = study.reference["4b-math-cot"]
    for column, seed in (("math500", 0), ("mmlu_pro_1k", 1)):
        curve = published_curve(study, table, "4b-math-cot", column, seed, correlation=0.5)
        shape = shape_of(curve, margin=MARGIN)
        assert shape.verdict == Verdict.DIP_AND_RECOVERY
        assert shape.dip.step == 20


def test_points_and_missing_bases_are_refused(study: Study) -> None:
    with pytest.raises(ConfigError, match="alpaca_eval: points: only scores in per cent"):
        published_curve(study, study.reference["table2"], "14b-math-cot", "alpaca_eval", seed=0)
    with pytest.raises(ConfigError, match=r"1.7b-math-nocot: math500: a curve needs step 0"):
        published_curve(study, study.reference["1.7b-math-nocot"], "1.7b-math-nocot", "math500", seed=0)
