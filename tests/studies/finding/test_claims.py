"""Reading claims, and what figures say of them."""

from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.studies.claims import ClaimSpec
from megatron_sft.studies.finding.find import find, find_published
from megatron_sft.studies.finding.findings import ClaimFinding, Evidence, Outcome
from megatron_sft.studies.finding.judge_claims import verdict_of
from megatron_sft.studies.finding.judge_predictions import sign_outcome
from megatron_sft.studies.study import load
from tests.studies.finding.run_folders import STUDY, answer, write_result
from tests.studies.finding.test_measurements import arm, base, make_study

CLAIMS = """\
claims:
  1:
    text: long falls and rises
    predictions:
      - {text: it dips, PREDICTION}
  2: nobody says how to test this
"""


def with_claim(prediction: str) -> str:
    return STUDY + CLAIMS.replace("PREDICTION", prediction)


def test_claims_are_texts_or_have_predictions(tmp_path: Path) -> None:
    study = make_study(tmp_path, with_claim("shape: {arms: [long], benchmarks: [sums], verdicts: [dip and recovery]}"))
    assert study.claim("2") == ClaimSpec(text="nobody says how to test this")
    claim = study.claim("1")
    assert (claim.text, claim.predictions[0].text) == ("long falls and rises", "it dips")
    assert list(claim.predictions[0].kinds()) == ["shape"]


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        ("exceptions: [sums]", r"small.yaml:28: claim 1: a prediction has one of shape, .*; found none"),
        (
            "change: {arms: [long], benchmarks: [sums], sign: above}, order: {arms: [long, short], benchmarks: [sums]}",
            "found change and order: split it",
        ),
        (
            "change: {arms: [lang], benchmarks: [sums], sign: above}",
            "change: arm: there is no lang; .*nearest name is long",
        ),
        ("change: {arms: [long], benchmarks: [sum], sign: above}", "there is no sum; .*nearest name is sums"),
        ("change: {arms: [long], benchmarks: [sums], sign: up}", r"small.yaml:28: sign: up"),
        ("change: {arms: [], benchmarks: [sums], sign: above}", r"change: arms: \[\]: name at least one"),
        (
            "shape: {arms: [long], benchmarks: [sums]}",
            "shape: give verdicts, lowest_between, above_base_by or late_fall",
        ),
        ("shape: {arms: [long], benchmarks: [sums], verdicts: [dip]}", "verdicts: .dip.: dip: expected|dip"),
        (
            "shape: {arms: [long], benchmarks: [sums], lowest_between: [20]}",
            r"lowest_between: \[20\]: expected the first",
        ),
        ("difference: {first: [long], second: [], benchmarks: [sums], sign: above}", "1 and 0 arms: give as many"),
        ("order: {arms: [long], benchmarks: [sums]}", "order: arms: give two or more"),
        ("groups: {arms: [long], first: sums, second: outside, sign: below}", "benchmark: there is no outside"),
        ("asymmetry: {arms: [long], reasoning: sums, harm: harm, verdict: down}", "asymmetry: verdict: down: expected"),
        (
            "exceptions: [sums lang], change: {arms: [long], benchmarks: [sums], sign: above}",
            "exceptions: arm: there is no lang",
        ),
    ],
)
def test_predictions_that_cannot_be_tested_are_refused(tmp_path: Path, prediction: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_study(tmp_path, with_claim(prediction))


NUM_ITEMS = 60
SCORES = {
    # Share of right answers to the sums at steps 0, 10, 20.
    "long": (0.5, 0.1, 0.9),
    "short": (0.5, 0.5, 0.5),
    "other": (0.5, 0.3, 0.1),
}
WORDS = {"long": (0.0, 0.6, 0.9), "short": (0.0, 0.0, 0.0), "other": (0.0, 0.0, 0.1)}
HARM = {"long": (0.1, 0.1, 0.8), "short": (0.1, 0.1, 0.1), "other": (0.1, 0.1, 0.1)}
LENGTHS = {"long": (10, 60, 20), "short": (10, 20, 40), "other": (10, 10, 10)}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims")
    for task, table in (("sums", SCORES), ("words", WORDS), ("harm", HARM)):
        for name, shares in table.items():
            for place, step in enumerate((0, 10, 20)):
                lines = [
                    # The items that are right change little, and lengths differ within a step.
                    answer(
                        f"i{number}",
                        float(number < shares[place] * NUM_ITEMS),
                        num_tokens=LENGTHS[name][place] + number % 3,
                    )
                    for number in range(NUM_ITEMS)
                ]
                where = base(folder, "B" if name == "other" else "A") if step == 0 else arm(folder, name)
                if step or name != "short":
                    write_result(where, f"iter_{step:07d}" if step else where.name, task, step, lines)
    return folder


def judged(tmp_path: Path, run_folder: Path, prediction: str) -> ClaimFinding:
    return find(make_study(tmp_path, with_claim(prediction)), run_folder / "run").claims[0]


@pytest.mark.parametrize(
    ("prediction", "outcome"),
    [
        ("shape: {arms: [long], benchmarks: [sums], verdicts: [dip and recovery]}", "holds"),
        ("shape: {arms: [long], benchmarks: [in-domain], verdicts: [gain]}", "holds"),
        ("shape: {arms: [long], benchmarks: [sums], verdicts: [monotone gain]}", "fails"),
        ("shape: {arms: [long], benchmarks: [sums], verdicts: [decline, flat]}", "fails"),
        ("shape: {arms: [other], benchmarks: [sums], verdicts: [decline]}", "holds"),
        ("shape: {arms: [other], benchmarks: [sums], verdicts: [dip and recovery]}", "fails"),
        ("shape: {arms: [long], benchmarks: [sums], lowest_between: [10, 10]}", "holds"),
        ("shape: {arms: [long], benchmarks: [sums], lowest_between: [20, 20]}", "fails"),
        ("shape: {arms: [long], benchmarks: [sums], above_base_by: 20}", "holds"),
        ("shape: {arms: [long], benchmarks: [sums], above_base_by: 10}", "fails"),
        ("shape: {arms: [other], benchmarks: [sums], late_fall: true}", "holds"),
        ("shape: {arms: [long], benchmarks: [sums], late_fall: true}", "fails"),
        # Harm is turned: its rise is a decline.
        ("shape: {arms: [long], benchmarks: [harm], verdicts: [decline]}", "holds"),
        ("change: {arms: [long], benchmarks: [sums], sign: above}", "holds"),
        ("change: {arms: [long], benchmarks: [sums], sign: above, step: 10}", "fails"),
        ("change: {arms: [long], benchmarks: [sums], sign: not above}", "fails"),
        ("change: {arms: [other], benchmarks: [sums], sign: not above}", "holds"),
        ("change: {arms: [short], benchmarks: [sums], sign: above}", "open"),
        ("change: {arms: [long], benchmarks: [harm], sign: above}", "holds"),
        ("change: {arms: [long], benchmarks: [harm], sign: above, step: 15}", "no data"),
        ("difference: {first: [long], second: [short], benchmarks: [sums], sign: above}", "holds"),
        ("difference: {first: [short], second: [long], benchmarks: [sums], sign: above}", "fails"),
        # Below at step 10, above at step 20.
        ("difference: {first: [long], second: [short], benchmarks: [sums], sign: above, at: equal steps}", "open"),
        (
            "difference: {first: [long], second: [other], benchmarks: [sums], sign: above, of: change from base}",
            "holds",
        ),
        ("difference: {first: [short], second: [long], benchmarks: [sums], sign: above, of: length}", "holds"),
        ("order: {arms: [long, short, other], benchmarks: [in-domain]}", "holds"),
        ("groups: {arms: [long], first: out-of-domain, second: in-domain, sign: above, between: [10, 10]}", "holds"),
        ("groups: {arms: [long], first: out-of-domain, second: in-domain, sign: below}", "fails"),
        ("groups: {arms: [long], first: out-of-domain, second: general, sign: below}", "no data"),
        ("lengths: {arms: [long], benchmarks: [sums], turn: rise and fall}", "holds"),
        ("lengths: {arms: [long], benchmarks: [sums], turn: rise and fall, against_dip: same step}", "holds"),
        ("lengths: {arms: [long], benchmarks: [sums], turn: rise and fall, against_dip: score first}", "fails"),
        ("lengths: {arms: [short], benchmarks: [sums], turn: rise and fall}", "fails"),
        ("lengths: {arms: [short], benchmarks: [sums], turn: fall}", "fails"),
        ("asymmetry: {arms: [long], reasoning: out-of-domain, harm: harm}", "holds"),
        (
            "asymmetry: {arms: [long], reasoning: out-of-domain, harm: harm, verdict: 'reasoning down, safety down'}",
            "fails",
        ),
        ("asymmetry: {arms: [short], reasoning: out-of-domain, harm: harm}", "open"),
    ],
)
def test_predictions_against_planted_figures(
    tmp_path: Path, run_folder: Path, prediction: str, outcome: Outcome
) -> None:
    found = judged(tmp_path, run_folder, prediction)
    assert {one.outcome for one in found.evidence} == {outcome}, found.evidence
    verdicts = {"holds": "supported", "fails": "contradicted", "open": "not resolved", "no data": "not tested"}
    assert found.verdict == verdicts[outcome]


def test_evidence_says_figures_and_intervals(tmp_path: Path, run_folder: Path) -> None:
    prediction = "difference: {first: [long], second: [short], benchmarks: [sums, harm], sign: above}"
    sums, harm = judged(tmp_path, run_folder, prediction).evidence
    # 24 of 60 items differ by 100: sqrt(0.4 * 0.6 / 59) = 6.4 points.
    assert sums.text.startswith("long minus short, Sums: step 20 +40.0 (+2")
    assert sums.statement == "it dips"
    assert (sums.origin, sums.confidence, harm.confidence) == ("measured", 0.975, 0.975)


def test_more_predictions_widen_the_intervals(tmp_path: Path, run_folder: Path) -> None:
    one = judged(tmp_path, run_folder, "change: {arms: [long], benchmarks: [sums], sign: above}").evidence[0]
    many = judged(
        tmp_path, run_folder, "change: {arms: [long, short, other], benchmarks: [sums, words, harm], sign: above}"
    ).evidence[0]
    assert one.confidence == 0.95
    assert many.confidence == pytest.approx(1 - 0.05 / 9)
    low = [float(text.split("(")[1].split(" ")[0]) for text in (one.text, many.text)]
    assert low[1] < low[0]


def test_exceptions_are_no_part_of_the_verdict(tmp_path: Path, run_folder: Path) -> None:
    change = "change: {arms: [long, other], benchmarks: [sums], sign: above}"
    assert judged(tmp_path, run_folder, change).verdict == "mixed"
    found = judged(tmp_path, run_folder, f"exceptions: [sums other], {change}")
    assert found.verdict == "supported"
    assert [(one.outcome, one.is_exception) for one in found.evidence] == [("holds", False), ("holds", True)]
    assert found.evidence[1].text.endswith("(the claim makes an exception here)")
    # An exception where the claim holds all the same.
    found = judged(tmp_path, run_folder, f"exceptions: [sums long], {change}")
    assert (found.verdict, found.evidence[0].outcome) == ("contradicted", "fails")


def evidence(outcome: Outcome, statement: str = "a", *, is_exception: bool = False) -> Evidence:
    return Evidence(outcome=outcome, text="", origin="measured", statement=statement, is_exception=is_exception)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ("", "not tested"),
        ("no data/a", "not tested"),
        ("holds/a no data/b", "supported"),
        ("holds/a open/a", "supported"),
        ("holds/a open/a open/a", "not resolved"),
        # Every statement must be so.
        ("holds/a open/b", "not resolved"),
        ("holds/a fails/b", "mixed"),
        ("open/a fails/b", "contradicted"),
    ],
)
def test_verdicts_of_a_claim(outcomes: str, verdict: str) -> None:
    words = outcomes.replace("no data", "no-data").split()
    cells = [word.replace("no-data", "no data").split("/") for word in words]
    assert verdict_of([evidence(outcome, statement) for outcome, statement in cells]) == verdict  # type: ignore[arg-type]
    assert verdict_of([evidence("fails", is_exception=True)]) == "not tested"


@pytest.mark.parametrize(
    ("sign", "lower", "upper", "outcome"),
    [
        ("above", [1], [2], "holds"),
        ("above", [-2], [-1], "fails"),
        ("above", [-1, 1], [1, 2], "holds"),
        ("above", [-2, 1], [-1, 2], "open"),
        ("below", [-2], [-1], "holds"),
        ("not above", [-3], [4.9], "holds"),
        ("not above", [-3], [5.1], "open"),
        ("not above", [0.1], [1], "fails"),
        ("not below", [-4.9], [9], "holds"),
        ("not below", [-4.9], [-0.1], "fails"),
    ],
)
def test_signs(sign: str, lower: list[float], upper: list[float], outcome: str) -> None:
    assert sign_outcome(sign, lower, upper, 5.0) == outcome  # type: ignore[arg-type]


def test_claims_of_the_paper_on_its_own_numbers() -> None:
    found = {claim.number: claim for claim in find_published(load("paper")).claims}
    decided = {number: claim.verdict for number, claim in found.items() if claim.verdict != "not tested"}
    not_shown = dict.fromkeys(["1", "2", "5", "8", "10"], "not resolved")
    assert decided == not_shown | {"9": "supported", "11": "mixed"}
    fails = [one.text for claim in found.values() for one in claim.evidence if one.outcome == "fails"]
    assert len(fails) == 1
    assert fails[0].startswith("8b-math-cot minus 4b-math-cot, MMLU-Pro: change from base, step 640 -15.0 (")
    exceptions = {
        (number, one.text.split(":")[0]): one.outcome
        for number, claim in found.items()
        for one in claim.evidence
        if one.is_exception
    }
    assert exceptions["8", "4b-math-cot minus 4b-math-nocot, GPQA-Diamond"] == "open"
    assert exceptions["5", "14b-repeated minus 14b-fresh, HaluEval"] == "holds"
    assert len(exceptions) == 10
    aime = [one for one in found["8"].evidence if one.text.startswith("14b-math-cot minus 14b-math-nocot, AIME24")]
    assert [one.outcome for one in aime] == ["holds"]


def test_dropped_numbers_are_named() -> None:
    found = {claim.number: claim for claim in find_published(load("paper")).claims}
    texts = [one.text for one in found["8"].evidence if one.outcome == "no data"]
    assert any("48.3 (in doubt) at step 640" in text for text in texts)
    assert any("1.42 at step 640" in text and "spread not published" in text for text in texts)
