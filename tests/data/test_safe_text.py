"""Text that nobody vouches for: nothing of it acts on the terminal, everything else stays."""

import pytest

from megatron_sft.data.safe_text import neutralise


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a + b = 7 → ok, 答案 π ≤ é", "a + b = 7 → ok, 答案 π ≤ é"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\x00c\x7fd\x9be", "a\\rb\\x00c\\x7fd\\x9be"),
        ("abc\u202edef\u200b\u2066", "abc\\u202edef\\u200b\\u2066"),
        ("line\u2028end\u2029", "line\\u2028end\\u2029"),
        ("\ud800 \U000e0001 \ue000", "\\ud800 \\U000e0001 \\ue000"),
        ("two\nlines\tand", "two\\nlines\\tand"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    assert neutralise(text) == shown


def test_kept_characters_and_marks() -> None:
    assert neutralise("a\n\x1b\tb", keep="\n\t", before="<", after=">") == "a\n<\\x1b>\tb"
