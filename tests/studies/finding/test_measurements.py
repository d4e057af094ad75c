import json
from pathlib import Path

import numpy as np
import pytest

from megatron_sft.errors import DataError
from megatron_sft.studies.finding.measurements import Measurements, read_measurements
from megatron_sft.studies.study import Study, load
from tests.studies.finding.run_folders import STUDY, answer, marks, write_result


def make_study(tmp_path: Path, text: str = STUDY) -> Study:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load(str(path))


def read(tmp_path: Path, text: str = STUDY) -> Measurements:
    return read_measurements(make_study(tmp_path, text), tmp_path / "run")


def base(tmp_path: Path, model: str = "A") -> Path:
    return tmp_path / "run" / "eval" / "base" / model


def arm(tmp_path: Path, name: str = "long", part: str = "") -> Path:
    return tmp_path / "run" / "eval" / "arms" / name / part


def test_arrays_hold_the_answers_with_items_in_one_order(tmp_path: Path) -> None:
    write_result(
        base(tmp_path),
        "A",
        "sums",
        0,
        [
            *(answer("a", 1.0, 0, num_tokens=4), answer("a", 0.0, 1, num_tokens=9, cut_off=True, extracted=False)),
            *(answer("b", 0.0, 0, num_tokens=5), answer("b", 0.0, 1, num_tokens=6)),
        ],
    )
    # Another order of items and samples, and an item that base has not.
    lines = [
        answer("b", 1.0, 1, num_tokens=2),
        answer("b", 1.0, 0, num_tokens=1),
        answer("c", 0.0),
        answer("c", 1.0, 1),
    ]
    write_result(arm(tmp_path), "iter_0000020", "sums", 20, [*lines, answer("a", 1.0, 0), answer("a", 1.0, 1)])
    found = read(tmp_path).found["long", "sums"]
    assert found.steps == (0, 20)
    assert found.items == ("a", "b", "c")
    np.testing.assert_array_equal(found.scores, [[50, 0, np.nan], [100, 100, 50]])
    np.testing.assert_array_equal(found.extracted, [[0.5, 1, np.nan], [1, 1, 1]])
    assert found.whole.tolist() == [True, True, False]
    assert found.lengths.tolist() == [[[4, 9], [5, 6]], [[10, 10], [1, 2]]]
    assert found.cut.tolist() == [[[False, True], [False, False]], [[False, False], [False, False]]]


def test_parts_are_joined_and_base_is_that_of_the_model(tmp_path: Path) -> None:
    write_result(base(tmp_path, "A"), "A", "sums", 0, marks([0, 0]))
    write_result(base(tmp_path, "B"), "B", "sums", 0, marks([1, 0]))
    for name in ("long", "other"):
        write_result(arm(tmp_path, name, "part-0"), "iter_0000010", "sums", 10, marks([0, 1]))
        write_result(arm(tmp_path, name, "part-1"), "iter_0000020", "sums", 20, marks([1, 1]))
    found = read(tmp_path).found
    assert found["long", "sums"].scores.tolist() == [[0, 0], [0, 100], [100, 100]]
    assert found["other", "sums"].scores.tolist() == [[100, 0], [0, 100], [100, 100]]
    # The same measurement twice is one; another one is stale.
    write_result(arm(tmp_path, "long"), "iter_0000010", "sums", 10, marks([0, 1]))
    assert len(read(tmp_path).found) == 2
    write_result(arm(tmp_path, "long", "part-2"), "iter_0000020", "sums", 20, marks([1, 0]))
    with pytest.raises(DataError, match=r"arm long, sums, step 20: .*part-1.*part-2.* another score: remove"):
        read(tmp_path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    write_result(base(tmp_path), "A", "sums", 0, marks([0, 0]))
    write_result(arm(tmp_path), "iter_0000010", "sums", 10, marks([0, 1]), grader="exact@2")
    write_result(arm(tmp_path), "iter_0000030", "sums", 30, marks([0, 1]))
    write_result(arm(tmp_path), "iter_0000010", "harm", 10, marks([0, 1]))
    found = read(tmp_path)
    assert list(found.found) == [("long", "sums")]
    assert found.warnings == (
        "base models that are not evaluated, so that their arms have no curve: B",
        "arm long is not evaluated at step 20 on sums, harm",
        "arm long is not evaluated at any step on words",
        "arm long has results at step 30, which the study does not evaluate; left out",
        "arms that are not evaluated: short, other",
        "arm long, sums: another grader than base at step 10: a change may not be the model's",
    )
    assert found.provenance == {"evaluation commit": "abc", "evaluation seed": "0", "engine": "vllm 1"}


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.found == {}
    assert found.warnings[-1] == "arms that are not evaluated: long, short, other"


def test_judged_scores_and_ratios(tmp_path: Path) -> None:
    text = STUDY.replace("title: Words,", "title: Words, figure: helpful,")
    lines = [
        [answer("a", 0.0, ratios={"helpful": [1.0, 1.0]}), answer("b", 1.0, ratios={"helpful": [0.0, 1.0]})],
        [answer("a", None), answer("b", 1.0, ratios={"helpful": [1.0, 1.0]})],
    ]
    ratio = [{"helpful": {"value": value}} for value in (0.5, 1.0)]
    write_result(base(tmp_path), "A", "words", 0, lines[0], unit="points", ratios=ratio[0])
    write_result(arm(tmp_path), "iter_0000020", "words", 20, lines[1], unit="points", ratios=ratio[1])
    for folder, name, step in ((base(tmp_path), "A", 0), (arm(tmp_path), "iter_0000020", 20)):
        write_result(folder, name, "harm", step, marks([step / 20, 0.0]), unit="points")
        write_result(folder, name, "sums", step, marks([step / 20 * 5, 0.0]), unit="points")
    found = read(tmp_path, text.replace("group: in-domain, unit: per cent", "group: in-domain, unit: points")).found
    np.testing.assert_array_equal(found["long", "words"].scores, [[100, 0], [np.nan, 100]])
    assert found["long", "harm"].scores.tolist() == [[0, 0], [100, 0]]
    assert found["long", "sums"].scores.tolist() == [[0, 0], [5, 0]]
    with pytest.raises(DataError, match=r"sums: scores from 0 to 5 are no shares: .*unit: points"):
        read(tmp_path, text)


def test_a_judge_that_gave_nothing_leaves_the_step_out(tmp_path: Path) -> None:
    write_result(base(tmp_path), "A", "harm", 0, marks([0, 0]))
    write_result(arm(tmp_path), "iter_0000010", "harm", 10, [answer("i0", None), answer("i1", None)])
    write_result(arm(tmp_path), "iter_0000020", "harm", 20, marks([0, 1]))
    found = read(tmp_path)
    assert found.found["long", "harm"].steps == (0, 20)
    assert "arm long, harm: nothing was scored at step 10" in found.warnings


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"score": 0.25}, "score is 0.5, but 0.25 in"),
        ({"num_items": 3}, "num_items is 2, but 3 in"),
        ({"share_cut_off": 0.5}, "share_cut_off is 0.0, but 0.5"),
        ({"mean_length_tokens": 11.0}, "mean_length_tokens is 10.0, but 11.0"),
        ({"ratios": {"helpful": {"value": 1.0}}}, "ratios helpful is None, but 1.0"),
    ],
)
def test_answers_that_do_not_add_up_are_refused(tmp_path: Path, changed: dict, words: str) -> None:
    write_result(base(tmp_path), "A", "sums", 0, marks([0, 0]))
    write_result(arm(tmp_path), "iter_0000020", "sums", 20, marks([0, 1]), **changed)
    with pytest.raises(DataError, match=words):
        read(tmp_path)


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    write_result(base(tmp_path), "A", "sums", 0, marks([0, 0]))
    write_result(arm(tmp_path), "iter_0000020", "sums", 20, [answer("i0", 0), answer("i0", 1)])
    with pytest.raises(DataError, match=r"sums.jsonl:2: item i0, sample 0: stands there twice"):
        read(tmp_path)
    path = arm(tmp_path) / "answers" / "iter_0000020" / "sums.jsonl"
    path.write_text(json.dumps({"item": "i0"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"sums.jsonl:1: not an answer .*sample"):
        read(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"sums.jsonl is missing, .*--stage grade"):
        read(tmp_path)
    write_result(arm(tmp_path), "checkpoint", "sums", None, marks([0, 1]))
    with pytest.raises(DataError, match="checkpoint: its results have no iteration"):
        read(tmp_path)
    (arm(tmp_path) / "results.json").write_text("[{}]", encoding="utf-8")
    with pytest.raises(DataError, match=r"results.json: expected a list of results"):
        read(tmp_path)
