"""How often traces backtrack, verify and set sub-goals: counts of phrases from fixed lists.

A phrase is a hint, not a proof: "wait" may be said without going back on anything, and a model that verifies without
saying so is not counted. What the figures are for is the comparison of checkpoints and of models by one rule.

How the lists below are read:

- case does not matter, and a typographic apostrophe is a plain one; a blank is one blank;
- Latin phrases stand between word boundaries; Chinese ones anywhere, as Chinese has no blanks between words;
- `^` in front: only at the beginning of a clause, i.e. at the start or after punctuation or a line end; marks of
  Markdown and one word such as "but" or "oh" may stand between;
- `#` is a number;
- phrases of one behaviour that overlap count once.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

PHRASES: Mapping[str, tuple[str, ...]] = {
    "backtracking": (
        *("^wait", "^hold on", "^hang on", "^oops", "^scratch that", "^on second thought", "^alternatively"),
        *("^actually, no", "^hmm, no", "^no, that", "that's not right", "that's wrong", "that can't be right"),
        *("that isn't right", "that is not right", "that doesn't work", "this doesn't work", "that is wrong"),
        *("made a mistake", "made an error", "my mistake", "was wrong", "go back to", "going back to", "back up a"),
        *("start over", "try again", "try another", "try a different", "another approach", "different approach"),
        *("dead end", "backtrack", "backtracking", "reconsider", "rethink", "think again"),
        *(
            "^等等",
            "^等一下",
            "^不对",
            "不行",
            "重新考虑",
            "重新想",
            "重新思考",
            "重新来",
            "换个思路",
            "换一种",
            "换个方法",
        ),
        *("算错了", "我错了", "搞错了", "弄错了"),
    ),
    "verification": (
        *("let me check", "let me just check", "let's check", "i'll check", "to check", "check again", "check my"),
        *("check if", "check whether", "check that", "check this", "check the", "double-check", "double check"),
        *("double-checking", "double checking", "recheck", "re-check", "sanity check", "sanity-check"),
        *("verify", "verifying", "verifies", "verification", "let me confirm", "let's confirm", "to confirm"),
        *("let me make sure", "to make sure", "let me test", "let's test", "plug back", "plugging back"),
        *("plug it back", "substitute back", "substituting back"),
        *("验证", "检查", "检验", "核对", "核实", "确认一下", "验算"),
    ),
    "sub_goals": (
        *("^first,", "^first i", "^first let", "^firstly", "^second,", "^secondly", "^third,", "^thirdly", "^next,"),
        *("^finally,", "^step #", "first step", "next step", "step by step", "let's start", "let me start"),
        *("let's begin", "let me begin", "start by", "begin by", "let's first", "let me first", "break this down"),
        *("break it down", "break down", "breaking this down", "breaking it down", "the goal is", "my goal is"),
        *("need to find", "need to determine", "need to figure out", "need to compute", "need to calculate"),
        *("need to show", "need to prove", "need to solve", "subproblem", "sub-problem", "subgoal", "sub-goal"),
        *("首先", "其次", "接下来", "第一步", "第二步", "第三步", "^最后", "我们需要", "分为以下", "一步一步", "逐步"),
    ),
}
MAX_CHARACTERS = 4_000_000
"""Of a longer trace only so many are looked at, and its tokens counted in proportion; no budget in use comes near."""
THINK_OPENING, THINK_CLOSING = "<think>", "</think>"

_LATIN = r"[a-z0-9_\u00c0-\u024f]"
_INTERJECTIONS = "but|oh|no|so|and|or|okay|ok|hmm|well|ah|yes|now|then"
# Punctuation, the wide kinds by code: ellipsis, dashes, quotation marks, and those of Chinese.
_PUNCTUATION = (
    r".,;:!?\n()\[\]{}\"|"
    r"\u2026\u2013\u2014\u201c\u201d\u3001\u3002\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
_CLAUSE_START = re.compile(rf"[{_PUNCTUATION}][\s*_#>\-]*(?:(?:{_INTERJECTIONS})\s+)?\Z")
_LOOK_BACK = 24


@dataclass(frozen=True, kw_only=True)
class _Anchor:
    """Phrases that begin with the same word: one search, as fast as that of a single text."""

    pattern: re.Pattern[str]
    at_clause_start: bool
    is_latin: bool


class PhraseCounter:
    """Counts the phrases of each behaviour."""

    def __init__(self, phrases: Mapping[str, tuple[str, ...]] = PHRASES) -> None:
        """Compile the lists; see the module for how they are read."""
        self._anchors = {name: list(_anchors(listed)) for name, listed in phrases.items()}

    def count(self, trace: str) -> dict[str, int]:
        """Return behaviour -> number of phrases in `trace`, in linear time."""
        text = trace.lower().replace("\u2019", "'")
        return {name: _count_apart(_spans(text, anchors)) for name, anchors in self._anchors.items()}


def trace_of(text: str) -> str:
    """Return what stands in the think block, up to its end or that of the response; without a block, the response.

    The opening tag may be in the prompt, so a closing one is enough.
    """
    end = text.rfind(THINK_CLOSING)
    before = text if end < 0 else text[:end]
    start = before.find(THINK_OPENING)
    return before if start < 0 else before[start + len(THINK_OPENING) :]


def behaviour_rates(responses: Iterable[tuple[str, int]], counter: PhraseCounter) -> dict[str, dict[str, float]]:
    """Return behaviour -> share of responses with at least one phrase, and phrases per 1,000 tokens of all traces.

    Args:
        responses: text and number of tokens of each. A trace has its share of the tokens by characters.
        counter: of the phrases.
    """
    num_responses, num_tokens = 0, 0.0
    num_with: defaultdict[str, int] = defaultdict(int)
    num_phrases: defaultdict[str, int] = defaultdict(int)
    for text, tokens in responses:
        trace = trace_of(text)[:MAX_CHARACTERS]
        num_responses += 1
        num_tokens += tokens * len(trace) / max(len(text), 1)
        for name, count in counter.count(trace).items():
            num_phrases[name] += count
            num_with[name] += count > 0
    return {
        name: {
            "share": num_with[name] / num_responses,
            "per_1000_tokens": 1000 * num_phrases[name] / num_tokens if num_tokens else 0.0,
        }
        for name in num_phrases
    }


def _anchors(phrases: tuple[str, ...]) -> Iterator[_Anchor]:
    by_start: defaultdict[tuple[bool, str], list[str]] = defaultdict(list)
    for phrase in phrases:
        words = phrase.removeprefix("^")
        first = re.split(r"(?<=[ ,\-])", words)[0] if words.isascii() else words
        by_start[phrase.startswith("^"), first].append(words[len(first) :])
    for (at_clause_start, first), rests in by_start.items():
        tails = (_tail(first + rest, rest) for rest in sorted(rests, key=len, reverse=True))
        pattern = re.compile(re.escape(first) + f"(?:{'|'.join(tails)})")
        yield _Anchor(pattern=pattern, at_clause_start=at_clause_start, is_latin=first.isascii())


def _tail(phrase: str, rest: str) -> str:
    boundary = f"(?!{_LATIN})" if phrase.isascii() and phrase[-1] not in "," else ""
    return re.escape(rest).replace(r"\#", "[0-9]+") + boundary


def _spans(text: str, anchors: list[_Anchor]) -> Iterator[tuple[int, int]]:
    latin = re.compile(_LATIN)
    for anchor in anchors:
        for found in anchor.pattern.finditer(text):
            start = found.start()
            if anchor.is_latin and start and latin.match(text, start - 1):
                continue
            if anchor.at_clause_start:
                before = text[max(0, start - _LOOK_BACK) : start]
                if not _CLAUSE_START.search("\n" + before if start <= _LOOK_BACK else before):
                    continue
            yield found.span()


def _count_apart(spans: Iterable[tuple[int, int]]) -> int:
    """Return how many of the spans remain when each that overlaps an earlier one is left out."""
    num_apart = last_end = 0
    for start, end in sorted(spans):
        if start >= last_end:
            num_apart += 1
            last_end = end
    return num_apart
