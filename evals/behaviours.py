"""How often traces backtrack, verify and set sub-goals: counts of phrases from fixed lists.

A phrase is a hint, not a proof: "wait" may be said without going back on anything, and a model that verifies without
saying so is not counted. What the figures are for is the comparison of checkpoints and of models by one rule.

How the lists below are read:

- case does not matter, and a typographic apostrophe is a plain one; a blank is one blank;
- Latin phrases stand between word boundaries; Chinese ones anywhere, as Chinese has no blanks between words;
- `^` in front: only at the beginning of a clause, i.e. at the start or after punctuation or a line end; marks of
  Markdown and one word such as "but" or "oh" may stand between;
- `#` is a number;
- where phrases overlap the first one counts, of those that begin together the longest.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

PHRASES: Mapping[str, tuple[str, ...]] = {
    "backtracking": (
        *("^wait", "^hold on", "^hang on", "^oops", "^scratch that", "^on second thought", "^alternatively"),
        *("^actually, no", "^hmm, no", "^no, that", "that's not right", "that's wrong", "that can't be right"),
        *("that isn't right", "that is not right", "that doesn't work", "this doesn't work", "that is wrong"),
        *("made a mistake", "made an error", "my mistake", "i was wrong", "go back to", "going back to"),
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
MAX_CHARACTERS = 2_000_000
"""Of a longer trace only so many are looked at, and its tokens counted in proportion; no budget in use comes near."""
THINK_OPENING, THINK_CLOSING = "<think>", "</think>"

_LATIN = r"a-z0-9_\u00c0-\u024f"
_INTERJECTIONS = "but|oh|no|so|and|or|okay|ok|hmm|well|ah|yes|now|then"
# Punctuation, the wide kinds by code: ellipsis, dashes, quotation marks, and those of Chinese.
_PUNCTUATION = (
    r".,;:!?\n()\[\]{}\"|"
    r"\u2026\u2013\u2014\u201c\u201d\u3001\u3002\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
_CLAUSE_START = re.compile(rf"[{_PUNCTUATION}][\s*_#>\-]*(?:(?:{_INTERJECTIONS})\s+)?\Z")
_LOOK_BACK = 24
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


class PhraseCounter:
    """Counts the phrases of each behaviour."""

    def __init__(self, phrases: Mapping[str, tuple[str, ...]] = PHRASES) -> None:
        """Compile the lists; see the module for how they are read."""
        self.names = tuple(phrases)
        listed = [(phrase, name) for name, some in phrases.items() for phrase in some]
        self._behaviour_of = {phrase.removeprefix("^"): name for phrase, name in listed}
        self._only_at_clause_start = {phrase.removeprefix("^") for phrase, _ in listed if phrase.startswith("^")}
        latin = [phrase for phrase in self._behaviour_of if phrase.isascii()]
        chinese = [phrase for phrase in self._behaviour_of if not phrase.isascii()]
        self._latin = re.compile(f"(?:[^{_LATIN}])({_any_of(latin)})") if latin else None
        self._chinese = re.compile(f"({_any_of(chinese)})") if chinese else None

    def count(self, trace: str) -> dict[str, int]:
        """Return behaviour -> number of phrases in `trace`, in linear time."""
        # A line end in front stands for the start, which begins a word and a clause as well.
        text = "\n" + trace.lower().replace("\u2019", "'")
        counts = dict.fromkeys(self.names, 0)
        for pattern in (self._latin, self._chinese if _CHINESE.search(text) else None):
            for found in pattern.finditer(text) if pattern else ():
                phrase = found[1] if found[1] in self._behaviour_of else re.sub("[0-9]+", "#", found[1])
                start = found.start(1)
                if phrase in self._only_at_clause_start and not _CLAUSE_START.search(
                    text[max(0, start - _LOOK_BACK) : start]
                ):
                    continue
                counts[self._behaviour_of[phrase]] += 1
        return counts


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
    num_with = dict.fromkeys(counter.names, 0)
    num_phrases = dict.fromkeys(counter.names, 0)
    for text, tokens in responses:
        trace = trace_of(text)[:MAX_CHARACTERS]
        num_responses += 1
        num_tokens += tokens * len(trace) / max(len(text), 1)
        for name, count in counter.count(trace).items():
            num_phrases[name] += count
            num_with[name] += count > 0
    return {
        name: {
            "share": num_with[name] / num_responses if num_responses else 0.0,
            "per_1000_tokens": 1000 * num_phrases[name] / num_tokens if num_tokens else 0.0,
        }
        for name in num_phrases
    }


def _any_of(phrases: list[str]) -> str:
    """Return a pattern for any of the phrases, by first character and then the longest first.

    Python's `re` looks at the first character of every alternative in turn: few of them make it several times faster.
    """
    by_character: defaultdict[str, list[str]] = defaultdict(list)
    for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase)):
        by_character[phrase[0]].append(phrase[1:])
    return "|".join(
        f"{re.escape(first)}(?:{'|'.join(map(_rest_pattern, rests))})" for first, rests in by_character.items()
    )


def _rest_pattern(rest: str) -> str:
    ends_a_word = f"(?![{_LATIN}])" if re.search(r"[a-z#]\Z", rest) else ""
    return re.escape(rest).replace(r"\#", "[0-9]+") + ends_a_word
