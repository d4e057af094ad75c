r"""Multiple choice: the letter that a response names, extracted strictly; nothing is guessed.

1. The last `\boxed{}` decides alone where there is one. Its text, without what only sets type, must be a letter, bare
   or as `(C)`, `C.`, `C)`, `C:`, `Option C`, or such a letter and then the option's text: `C) 12 m`, `(C) 12 m`.
   A bare letter and text (`A tree`) is no choice.
2. Without a box, the last sentence that names the answer counts: `answer`, `option` or `choice`, then `is` or a colon,
   then a capital letter behind which the clause ends or a bracket closes: "the answer is (C)", "**Answer:** C) 12 m",
   "the best option is C.", also "the answer is option C" and in Chinese 答案是C, 答案为C, 选C. "Answer: A tree" and
   "the answer is A and B" name none.

A letter beyond the item's options is wrong with the reason `no_option`.
"""

import re
from typing import Any

from evals.graders.boxed import plain_text
from evals.graders.verdict import Verdict
from megatron_sft.data.chat import last_boxed

MAX_BOX_CHARS = 5_000
"""A longer box is no choice."""

_BOX_LETTER = re.compile(r"(?i:(?:option|choice|answer)[\s:]+)?(?:\(([A-Za-z])\)|([A-Za-z])[).:]?)")
_BOX_LETTER_AND_TEXT = re.compile(
    r"(?i:(?:option|choice|answer)[\s:]+)?(?:\(([A-Z])\)|([A-Z])(?:\)|[.:](?=\s)))\s*\S.*", re.DOTALL
)

_NAMES = r"(?i:\b(?:answer|option|choice)\b)[\s*_]{0,6}(?:(?i:\bis\b)|:)[\s*_:$]{0,10}"
# Escapes stand for the typographic apostrophe, the wide colon and the wide bracket.
_NO_OTHER = r"(?![)*_$]{0,4}(?:,?\s+(?:and|or)\s+|,\s*|\s*[&/]\s*)[(*_]{0,3}[A-HJ-Z]\b(?!['\u2019]))"
_CLAUSE_ENDS = r"(?:\)|\*\*(?!\s+(?:and|or)\b)|[*_$]{0,4}(?:[.,;:!?)]|[^\S\n]{0,4}(?:\n|\Z)))"
_SENTENCE = re.compile(
    rf"{_NAMES}\(?([A-Z]){_NO_OTHER}{_CLAUSE_ENDS}"
    rf"|{_NAMES}(?i:option|choice)[\s*_]{{1,4}}\(?([A-Z])\b{_NO_OTHER}(?!['\u2019])"
    r"|(?:答案(?:是|为|[\uff1a:])|选(?:择|项)?)[\s*_\uff1a:]{0,6}[(\uff08]?([A-Z])(?![A-Za-z])"
)


def extract_letter(final: str) -> str | None:
    """Return the letter that the text after the trace names, or None."""
    boxed = last_boxed(final)
    if boxed is not None:
        return _letter_in_box(boxed)
    letter = None
    for match in _SENTENCE.finditer(final):
        letter = next(group for group in match.groups() if group)
    return letter


def _letter_in_box(boxed: str) -> str | None:
    if len(boxed) > MAX_BOX_CHARS:
        return None
    text = plain_text(boxed)
    match = _BOX_LETTER.fullmatch(text) or _BOX_LETTER_AND_TEXT.fullmatch(text)
    return (match[1] or match[2]).upper() if match else None


class ChoiceGrader:
    """Compares the named letter with an item's answer `{"letter": "C", "num_options": 10}`."""

    name = "choice@1"
    reads_trace = False

    def extract(self, text: str) -> str | None:
        """Return the letter that the response names."""
        return extract_letter(text)

    def grade(self, final: str, answer: Any) -> Verdict:
        """See `Grader`."""
        if not _is_answer(answer):
            return Verdict(correct=None, reason=f"bad item: expected letter and num_options, not {str(answer)[:80]!r}")
        letter = self.extract(final)
        if letter is None:
            return Verdict(correct=False, reason="no_letter")
        if ord(letter) - ord("A") >= answer["num_options"]:
            return Verdict(correct=False, reason=f"no_option: {letter} of {answer['num_options']}")
        if letter == answer["letter"]:
            return Verdict(correct=True, reason="")
        return Verdict(correct=False, reason=f"wrong_answer: {letter} is not {answer['letter']}")

    def close(self) -> None:
        """See `Grader`."""


class GpqaPaperGrader(ChoiceGrader):
    r"""As the paper's code for GPQA: a box must hold the bare letter, `\boxed{\text{A}}` does not count.

    A final full stop or slash is removed. Without a box, the last of "answer is C", "choose C", "option C" counts, in
    any case and whatever follows.
    """

    name = "choice_gpqa_paper@1"

    _LOOSE = re.compile(
        r"\b(?:answer\s+is|answer:|choose|choice\s+is|select|option)[\s:*]{0,6}\(?([A-D])\b", re.IGNORECASE
    )

    def extract(self, text: str) -> str | None:
        """Return the letter that the response names."""
        boxed = last_boxed(text)
        if boxed is None:
            found = self._LOOSE.findall(text)
            return found[-1].upper() if found else None
        letter = boxed.strip().rstrip("./").strip()
        return letter if letter in ("A", "B", "C", "D") else None


class MmluProPaperGrader(ChoiceGrader):
    r"""As the paper's code for MMLU-Pro: the first `answer is (X` or `\boxed{X` of the response, trace included."""

    name = "choice_mmlu_pro_paper@1"
    reads_trace = True

    _FIRST = re.compile(r"answer is \(?([A-J])\)?|\\boxed\{(?:\\text\{)?\(?([A-J])")

    def extract(self, text: str) -> str | None:
        """Return the letter that the response names."""
        match = self._FIRST.search(text)
        return match[1] or match[2] if match else None


def _is_answer(answer: Any) -> bool:
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("letter"), str)
        and len(answer["letter"]) == 1
        and isinstance(answer.get("num_options"), int)
    )
