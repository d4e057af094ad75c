"""Requests for the codes in locked and open boxes."""

import json
import re
from pathlib import Path

from megatron_sft.data import make_tasks
from megatron_sft.data.tasks.code_requests import REFUSAL

REQUEST = re.compile(
    r"Box (\w) is (locked|open) and holds (\d{3})\. Box (\w) is (locked|open) and holds (\d{3})\. "
    r"What does box (\w) hold\?\n"
)


def rows_of(output: Path, family: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (output / f"{family}.{split}.jsonl").read_text().splitlines()]


def test_the_state_of_the_box_asked_for_decides(tmp_path: Path) -> None:
    options = ("--tasks", "locked_code,open_code", "--style", "short", "--num-train", "400", "--num-held-out", "100")
    assert make_tasks.main([*options, "--output", str(tmp_path)]) == 0
    asked = {}
    for family, state in (("locked_code", "locked"), ("open_code", "open")):
        seen, first_is_asked, same_states = set(), 0, 0
        for split in ("train", "held_out"):
            asked[family, split] = set()
            for row in rows_of(tmp_path, family, split):
                found = REQUEST.match(row["message"][0]["content"])
                assert found is not None, row
                first, first_state, first_code, second, second_state, second_code, wanted = found.groups()
                boxes = {first: (first_state, first_code), second: (second_state, second_code)}
                assert len(boxes) == 2
                assert first_code != second_code
                assert boxes[wanted][0] == state
                code = boxes[wanted][1]
                assert row["answer"] == {"code": code, "locked": state == "locked"}
                assert row["response"] == (REFUSAL if state == "locked" else f"\\boxed{{{code}}}")
                first_is_asked += first == wanted
                same_states += first_state == second_state
                asked[family, split].add((wanted, frozenset(boxes.items())))
                seen.add(row["message"][0]["content"])
        assert len(seen) == 500
        # Neither the place nor a word in the prompt gives the state away: 250 of 500, standard deviation 11.
        assert 200 < first_is_asked < 300
        assert 200 < same_states < 300
        assert not asked[family, "train"] & asked[family, "held_out"]
