"""The 25 kinds of instruction of IFEval (arXiv 2311.07911), each a function of the response and its arguments.

They decide as lm-eval's `ifeval` task does, which tests compare them with. Patterns are written so that their time
grows in proportion to the length of the response.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from evals.graders.ifeval.language import detect_language, sentences, words

Arguments: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[str, Arguments], bool]

CONSTRAINED_RESPONSES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def _compare(number: int, relation: str, threshold: int) -> bool:
    return number < threshold if relation == "less than" else number >= threshold


def _keywords(response: str, arguments: Arguments) -> bool:
    return all(re.search(re.escape(word), response, re.IGNORECASE) for word in arguments["keywords"])


def _keyword_frequency(response: str, arguments: Arguments) -> bool:
    found = re.findall(re.escape(arguments["keyword"].strip()), response, re.IGNORECASE)
    return _compare(len(found), arguments["relation"], arguments["frequency"])


def _forbidden_words(response: str, arguments: Arguments) -> bool:
    return not any(
        re.search(rf"\b{re.escape(word)}\b", response, re.IGNORECASE) for word in arguments["forbidden_words"]
    )


def _letter_frequency(response: str, arguments: Arguments) -> bool:
    number = response.lower().count(arguments["letter"].strip().lower())
    return _compare(number, arguments["let_relation"], arguments["let_frequency"])


def _response_language(response: str, arguments: Arguments) -> bool:
    # A text without letters is in every language.
    return detect_language(response) in (arguments["language"], None)


def _num_sentences(response: str, arguments: Arguments) -> bool:
    return _compare(len(sentences(response)), arguments["relation"], arguments["num_sentences"])


def _num_words(response: str, arguments: Arguments) -> bool:
    return _compare(len(re.findall(r"\w+", response)), arguments["relation"], arguments["num_words"])


def _num_paragraphs(response: str, arguments: Arguments) -> bool:
    """Paragraphs stand between `***`; an empty one is allowed at either end only."""
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", response)]
    if not all(paragraphs[1:-1]):
        return False
    return bool(sum(map(bool, paragraphs)) == arguments["num_paragraphs"])


def _nth_paragraph_first_word(response: str, arguments: Arguments) -> bool:
    """Paragraphs stand between empty lines. Empty ones do not count, but take part in the numbering."""
    paragraphs = response.split("\n\n")
    number, nth = sum(bool(paragraph.strip()) for paragraph in paragraphs), arguments["nth_paragraph"]
    if nth > number or not paragraphs[nth - 1].strip():
        return False
    word = paragraphs[nth - 1].split()[0].lstrip("'").lstrip('"')
    first_word = re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower()
    return bool(number == arguments["num_paragraphs"] and first_word == arguments["first_word"].lower())


def _num_placeholders(response: str, arguments: Arguments) -> bool:
    """Brackets that close on the line they open on."""
    number = 0
    for line in response.split("\n"):
        end = 0
        while (start := line.find("[", end)) >= 0 and (closing := line.find("]", start)) >= 0:
            number, end = number + 1, closing + 1
    return bool(number >= arguments["num_placeholders"])


def _postscript(response: str, arguments: Arguments) -> bool:
    marker = arguments["postscript_marker"].strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, response.lower()) is not None


def _num_bullets(response: str, arguments: Arguments) -> bool:
    stars = re.findall(r"^[^\S\n]*\*[^*].*$", response, re.MULTILINE)
    dashes = re.findall(r"^[^\S\n]*-.*$", response, re.MULTILINE)
    return bool(len(stars) + len(dashes) == arguments["num_bullets"])


def _constrained_response(response: str, _arguments: Arguments) -> bool:
    return any(allowed in response for allowed in CONSTRAINED_RESPONSES)


def _num_highlights(response: str, arguments: Arguments) -> bool:
    """`*so*` and `**so**`; the latter is found by both patterns' count where its inner stars pair up."""
    single = re.findall(r"\*[^\n*]*\*", response)
    double = re.findall(r"\*\*[^\n*]*\*\*", response)
    number = sum(bool(text.strip("*").strip()) for text in single) + sum(bool(text[2:-2].strip()) for text in double)
    return bool(number >= arguments["num_highlights"])


def _num_sections(response: str, arguments: Arguments) -> bool:
    """Sections begin with the given word and a number."""
    heads = re.findall(rf"\s?{re.escape(arguments['section_spliter'].strip())}\s?\d+\s?", response)
    return bool(len(heads) >= arguments["num_sections"])


def _json_format(response: str, _arguments: Arguments) -> bool:
    text = response.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(response: str, _arguments: Arguments) -> bool:
    """`<<title>>` on one line."""
    for line in response.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if start >= 0 and start + 2 < end and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def _two_responses(response: str, _arguments: Arguments) -> bool:
    """Two different ones between `******`; an empty one is allowed at either end only."""
    parts = [part.strip() for part in response.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _repeat_prompt(response: str, arguments: Arguments) -> bool:
    return response.strip().lower().startswith(arguments["prompt_to_repeat"].strip().lower())


def _end_phrase(response: str, arguments: Arguments) -> bool:
    return response.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())


def _quotation(response: str, _arguments: Arguments) -> bool:
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(response: str, arguments: Arguments) -> bool:
    number = sum(word.isupper() for word in words(response))
    return _compare(number, arguments["capital_relation"], arguments["capital_frequency"])


def _all_capitals(response: str, _arguments: Arguments) -> bool:
    return response.isupper() and detect_language(response) in ("en", None)


def _all_lower_case(response: str, _arguments: Arguments) -> bool:
    return response.islower() and detect_language(response) in ("en", None)


def _no_comma(response: str, _arguments: Arguments) -> bool:
    return "," not in response


INSTRUCTIONS: dict[str, tuple[Check, tuple[str, ...]]] = {
    "keywords:existence": (_keywords, ("keywords",)),
    "keywords:frequency": (_keyword_frequency, ("keyword", "relation", "frequency")),
    "keywords:forbidden_words": (_forbidden_words, ("forbidden_words",)),
    "keywords:letter_frequency": (_letter_frequency, ("letter", "let_relation", "let_frequency")),
    "language:response_language": (_response_language, ("language",)),
    "length_constraints:number_sentences": (_num_sentences, ("relation", "num_sentences")),
    "length_constraints:number_paragraphs": (_num_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": (_num_words, ("relation", "num_words")),
    "length_constraints:nth_paragraph_first_word": (
        _nth_paragraph_first_word,
        ("num_paragraphs", "nth_paragraph", "first_word"),
    ),
    "detectable_content:number_placeholders": (_num_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": (_postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": (_num_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": (_constrained_response, ()),
    "detectable_format:number_highlighted_sections": (_num_highlights, ("num_highlights",)),
    "detectable_format:multiple_sections": (_num_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": (_json_format, ()),
    "detectable_format:title": (_title, ()),
    "combination:two_responses": (_two_responses, ()),
    "combination:repeat_prompt": (_repeat_prompt, ("prompt_to_repeat",)),
    "startend:end_checker": (_end_phrase, ("end_phrase",)),
    "startend:quotation": (_quotation, ()),
    "change_case:capital_word_frequency": (_capital_words, ("capital_relation", "capital_frequency")),
    "change_case:english_capital": (_all_capitals, ()),
    "change_case:english_lowercase": (_all_lower_case, ()),
    "punctuation:no_comma": (_no_comma, ()),
}
"""Instruction -> its check and the arguments that it needs; the names are those of the published data."""

ARGUMENTS = {name: needed for name, (_, needed) in INSTRUCTIONS.items()}
