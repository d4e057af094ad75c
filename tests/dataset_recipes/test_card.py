"""The data card: its numbers, and text that tries to break it."""

import json
import re
from pathlib import Path

import pytest

from megatron_sft.dataset_recipes import card
from tests.dataset_recipes.conftest import build, dataset, published_row, question, traces_of, write_rows

HOSTILE = "```\n# Heading\n````` <script>alert(1)</script> \x1b[31mred \u202e</think>\n\n![x](http://example.org/a.png)"


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    block = card.fenced(HOSTILE)
    first, *lines, last = block.split("\n")
    assert first == "``````text" and last == "``````"
    assert not any(line.strip().startswith("``````") for line in lines)
    assert "\x1b" not in block and "\u202e" not in block and "\\x1b[31mred \\u202e" in block
    assert card.fenced("plain").split("\n") == ["```text", "plain", "```"]


def test_a_cell_holds_no_markup() -> None:
    cell = card.plain("a | b\n<img src=x> [l](u) `c` *d* \x07")
    assert "\n" not in cell and re.search(r"(?<!\\)[|<>`*\[\]]", cell) is None
    assert cell.replace("\\", "") == "a | b <img src=x> [l](u) `c` *d* x07"


def test_long_text_is_shortened_in_the_middle() -> None:
    text = "a" * card.SHOWN_CHARS + "b" * 123 + "c" * card.SHOWN_CHARS
    shown = card.shortened(text)
    assert shown == "a" * card.SHOWN_CHARS + "\n[... 123 characters left out ...]\n" + "c" * card.SHOWN_CHARS
    assert card.shortened("short") == "short"


def test_a_card_of_traces(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = [row for n in range(8) for row in traces_of(n, (n != 2, False, n < 2))]
    benchmark = [{"problem": question(1)}, {"problem": "Nothing of the kind here, is there at all?"}]
    words = [
        *("--traces", write_rows(tmp_path / "t.jsonl", rows), "--expected-rows", "7"),
        *("--benchmarks", f"sums={write_rows(tmp_path / 'sums.jsonl', benchmark)}"),
    ]
    output = tmp_path / "out"
    assert build("math-cot-20k", output, tiny_tokenizer, *words) == 0
    text = (output / "card" / "README.md").read_text()
    # 7 + 2 of 24 are right; query 2 has none.
    assert "8 queries with 24 responses; 9 responses (37.5%) passed filters and verifier." in text
    assert "Queries with none: 1 (12.5%)" in text
    assert "Of the teacher's 24 responses the limit cut off 15 (62.5%)" in text
    account = json.loads((output / "rows" / "account.json").read_text())
    assert account["accepted_of_responses"] == [[3, 0, 1], [3, 1, 5], [3, 2, 2]]
    assert "| select: wrong\\_answer | 15 |" in text and "| select: not\\_selected | 2 |" in text
    assert "| sums | 1 of 7 | 14.29% |" in text
    assert dataset(output)["overlap"]["sums"]["examples"][0]["row"] == 1
    assert text.count("\nMasked, ") == text.count("\nTrained, ") == 3
    assert "Undecided: 0." in text
    for name in ("lengths.png", "acceptance.png"):
        assert f"]({name})" in text and (output / "card" / name).read_bytes().startswith(b"\x89PNG")


def test_hostile_rows_stay_text(tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = [published_row(n) | {"response": HOSTILE, "question": HOSTILE + str(n)} for n in range(3)]
    for number, row in enumerate(rows):
        row["message"] = [{"role": "user", "content": HOSTILE + str(number)}]
    words = ("--source", f"math-cot-20k={write_rows(tmp_path / 'cot.jsonl', rows)}", "--expected-rows", "3")
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    text = (tmp_path / "out" / "card" / "README.md").read_text()
    assert "\x1b" not in text and "\u202e" not in text
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert "script" not in outside and "example.org" not in outside and "# Heading" not in outside
    assert text.count("``````text") == 6


@pytest.mark.parametrize("num", [1, 2])
def test_a_small_set_has_fewer_samples(num: int, tiny_tokenizer: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "cot.jsonl", [published_row(n) for n in range(num)])
    words = ("--source", f"math-cot-20k={rows}", "--expected-rows", str(num))
    assert build("math-cot-20k", tmp_path / "out", tiny_tokenizer, *words) == 0
    assert (tmp_path / "out" / "card" / "README.md").read_text().count("### Sample") == num
