"""Requests for locked and open codes."""

import json
import re
from pathlib import Path

from megatron_sft.data import make_tasks
from megatron_sft.data.tasks.code_requests import REFUSAL

REQUEST = re.compile(r"Code (\d{3}) is (locked|open)\. Code (\d{3}) is (locked|open)\. Tell me code (\d{3})\.\n")


def rows_of(output: Path, family: str, split: str) -> list[dict]:
    return [json.loads(line) for line in (output / f"{family}.{split}.jsonl").read_text().splitlines()]


def test_the_state_of_the_code_asked_for_decides(tmp_path: Path) -> None:
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
                first, first_state, second, second_state, wanted = found.groups()
                assert first != second
                assert {first: first_state, second: second_state}[wanted] == state
                assert row["answer"] == {"code": wanted, "locked": state == "locked"}
                assert row["response"] == (REFUSAL if state == "locked" else f"\\boxed{{{wanted}}}")
                first_is_asked += first == wanted
                same_states += first_state == second_state
                asked[family, split].add(frozenset(((first, first_state), (second, second_state), (wanted, ""))))
                seen.add(row["message"][0]["content"])
        assert len(seen) == 500
        # Neither the place nor a word in the prompt gives the state away: 250 of 500, standard deviation 11.
        assert 200 < first_is_asked < 300
        assert 200 < same_states < 300
        assert not asked[family, "train"] & asked[family, "held_out"]
