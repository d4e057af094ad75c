"""IFEval's checks: a table by hand, and lm-eval's verdicts on every prompt with real and made-up responses."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.graders.ifeval.grader import MAX_CHARS, IfevalGrader, loose_variants
from evals.graders.ifeval.instructions import ARGUMENTS, INSTRUCTIONS
from evals.items import Item
from evals.lm_eval_adapter import offline_sentence_model
from evals.tasks.ifeval import BENCHMARK
from evals.tasks.load import load_benchmark

for module in ("langdetect", "nltk", "punkt"):
    pytest.importorskip(module, reason='IFEval needs the extra "eval"')


@pytest.fixture(scope="module")
def grader() -> IfevalGrader:
    return IfevalGrader()


def one(name: str, **arguments: Any) -> dict[str, Any]:
    return {"instructions": [{"id": name, "arguments": arguments}]}


ENGLISH = "The weather in the mountains was pleasant, and all of us walked along the river for hours."

# Instruction, arguments, a response that follows it, one that does not.
TABLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "Dogs chase a CAT.", "Dogs chase birds."),
    ("keywords:frequency", {"keyword": "so", "relation": "at least", "frequency": 2}, "So, also.", "So it is."),
    ("keywords:frequency", {"keyword": "so", "relation": "less than", "frequency": 2}, "So it is.", "So, also."),
    ("keywords:forbidden_words", {"forbidden_words": ["can"]}, "I cannot.", "Yes I Can!"),
    ("keywords:letter_frequency", {"letter": "q", "let_relation": "at least", "let_frequency": 2}, "Quiq", "Quit"),
    ("keywords:letter_frequency", {"letter": "!", "let_relation": "less than", "let_frequency": 1}, "No.", "No!"),
    ("language:response_language", {"language": "de"}, "Das Wetter in den Bergen war heute sehr angenehm.", ENGLISH),
    ("language:response_language", {"language": "de"}, "1234", ENGLISH),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "I am. Am I?", "Dr. No is."),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 2}, "Dr. No is.", "I am. Am I?"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "It's", "It's so."),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        "One.\n\n'Weekend, at last.",
        "One.\n\nThe weekend.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a] and [b\n]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. p. s. Buy milk", "Bye. PS: Buy milk"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S Buy milk", "P.S. Buy milk"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "Two:\n* a\n  - b", "* a\n** b **\n1. c"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and * *"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na\nsection 2\nb",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "So:\n<<A title>>", "<<a\ntitle>>"),
    ("combination:two_responses", {}, "a\n******\nb\n******\n", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, "  say it. Done.", "Done. Say it."),
    ("startend:end_checker", {"end_phrase": "That is all."}, 'Well. that is ALL."', "That is all. Bye"),
    ("startend:quotation", {}, ' "yes" ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "NASA and the U.S.A",
        "NASA and Esa",
    ),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_lowercase", {}, ENGLISH.lower(), ENGLISH),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]


def test_the_table_has_every_instruction() -> None:
    assert {name for name, *_ in TABLE} == set(ARGUMENTS) == set(INSTRUCTIONS)
    assert len(ARGUMENTS) == 25


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), TABLE)
def test_each_instruction(name: str, arguments: dict[str, Any], good: str, bad: str, grader: IfevalGrader) -> None:
    answer = one(name, **arguments)
    assert grader.grade(good, answer).correct is True
    assert grader.grade(bad, answer).correct is False
    assert grader.grade("", answer).correct is False
    assert name in grader.grade(bad, answer).reason


def test_figures_count_strict_and_loose_instructions(grader: IfevalGrader) -> None:
    answer = {
        "instructions": [
            {"id": "startend:quotation", "arguments": {}},
            {"id": "punctuation:no_comma", "arguments": {}},
            {"id": "detectable_format:title", "arguments": {}},
        ]
    }
    verdict = grader.grade('\n\nSure, here it is:\n"it"', answer)
    assert verdict.correct is False
    assert verdict.figures == {
        "num_prompts": 1,
        "prompt_strict": 0,
        "prompt_loose": 0,
        "num_instructions": 3,
        "num_followed_strict": 0,
        "num_followed_loose": 2,
    }


def test_loose_variants_are_the_seven_others_each_once() -> None:
    assert list(loose_variants("a*\n*b\nc")) == ["a\nb\nc", "*b\nc", "a*\n*b", "*b", "b\nc", "a\nb", "b"]
    assert list(loose_variants("a\nb")) == ["a\nb", "b", "a", ""]


def test_languages_are_the_same_in_every_run(grader: IfevalGrader) -> None:
    # Short and mixed: without a seed, langdetect's answers to it vary.
    unsure = "hotel taxi radio"
    verdicts = {grader.grade(unsure, one("language:response_language", language="it")).correct for _ in range(20)}
    assert len(verdicts) == 1


def test_hostile_responses_are_decided_soon(grader: IfevalGrader) -> None:
    for text in ("[" * 400_000, "<<" * 200_000, " \n" * 199_999 + "x", "p. " * 130_000, "*" * 400_000, "{" * 100_000):
        for name, arguments, *_ in TABLE:
            if "sentences" not in name and "capital_word" not in name:
                assert grader.grade(text, one(name, **arguments)).correct in (True, False)
    endless = grader.grade("a" * (MAX_CHARS + 1), one("punctuation:no_comma"))
    assert (endless.correct, endless.reason.partition(":")[0]) == (False, "too_long")
    assert endless.figures["num_followed_loose"] == 0


def test_items_of_another_kind_are_undecided(grader: IfevalGrader) -> None:
    for answer in ("x", {}, {"instructions": []}, {"instructions": [{"id": "no:such", "arguments": {}}]}):
        assert grader.grade("a", answer).correct is None


@pytest.fixture(scope="module")
def lm_eval_verdicts() -> Iterator[Any]:
    """lm-eval's own `process_results`, with langdetect's seed set and the sentence model from the package `punkt`."""
    pytest.importorskip("lm_eval", reason='the comparison needs the extra "lm-eval"')
    import langdetect

    with offline_sentence_model():
        from lm_eval.tasks.ifeval.utils import process_results

        langdetect.DetectorFactory.seed = 0
        yield process_results


def without_signs(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out letter frequencies of signs: in place of "#" and "!" lm-eval counts a letter that it draws anew."""
    kept = [
        (name, arguments)
        for name, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True)
        if arguments.get("letter", "a").isalpha()
    ]
    return {**row, "instruction_id_list": [name for name, _ in kept], "kwargs": [arguments for _, arguments in kept]}


def load(shared_data: Path, folder: Path) -> tuple[list[dict[str, Any]], list[Item], list[str]]:
    """Return rows, items and the real response to each."""
    with (shared_data / "eval" / "ifeval_input_data.jsonl").open(encoding="utf-8") as lines:
        published = [json.loads(line) for line in lines]
    rows = [without_signs(row) for row in published]
    assert sum(len(row["kwargs"]) for row in published) - sum(len(row["kwargs"]) for row in rows) == 2
    (folder / "ifeval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = load_benchmark(BENCHMARK, folder)
    with gzip.open(shared_data / "traces" / "unireason_rl_ifeval.jsonl.gz", "rt", encoding="utf-8") as lines:
        traces = [json.loads(line) for line in lines]
    responses = []
    for row, trace in zip(rows, traces, strict=True):
        assert row["prompt"][:40] in trace["input"]
        responses.append(trace["output"])
    return rows, items, responses


def variants(rows: list[dict[str, Any]], responses: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Give the names and responses of each way to answer all prompts."""
    finals = [response.rpartition("</think>")[2].lstrip() for response in responses]
    yield "real", responses
    yield "real, without trace", finals
    yield "empty", ["" for _ in rows]
    yield "lower case", [final.lower() for final in finals]
    yield "capitals", [final.upper() for final in finals]
    yield "of the next prompt", [*finals[1:], finals[0]]
    yield "of a distant prompt", [*finals[77:], *finals[:77]]
    yield "prompt, then answer", [f"{row['prompt']}\n\n{final}" for row, final in zip(rows, finals, strict=True)]
    yield "quoted", [f'"{final}"' for final in finals]
    yield "JSON", [f"```json\n{json.dumps({'answer': final})}\n```" for final in finals]
    yield "with a preface and an ending", [f"Sure! Here it is:\n{final}\nP.S. Hope it helps." for final in finals]
    yield "in stars", [f"***\n<<{final[:30]}>>\n\n***\n* {final}\n- x\n***\n" for final in finals]
    yield "twice", [f"{final}\n******\n{final[:100]}" for final in finals]
    yield "cut", [final[: len(final) // 3] for final in finals]
    for language, text in OTHER_LANGUAGES.items():
        yield language, [text for _ in rows]


OTHER_LANGUAGES = {
    "Hindi": "आज मौसम बहुत अच्छा है और हम सब नदी के किनारे घूमने जा रहे हैं। शाम को हम घर लौटेंगे।",
    "German": "Das Wetter ist heute schön. Wir gehen am Fluss spazieren, und abends kommen wir zurück!",
    "Russian": "Сегодня хорошая погода. Мы гуляем вдоль реки, потом вернёмся домой.",
    "Vietnamese": "Hôm nay thời tiết rất đẹp. Chúng tôi đi dạo dọc bờ sông và tối sẽ về nhà.",
    "mixed": "Das ist ein test of languages. C'est la vie. 12345 **x** [y] <<z>> P.S. no",
}


@pytest.mark.slow
def test_verdicts_equal_lm_evals(
    shared_data: Path, tmp_path: Path, lm_eval_verdicts: Any, grader: IfevalGrader
) -> None:
    rows, items, responses = load(shared_data, tmp_path)
    num_compared = num_followed = num_only_loose = 0
    for name, texts in variants(rows, responses):
        for row, item, text in zip(rows, items, texts, strict=True):
            ours, theirs = grader.grade(text, item.answer), lm_eval_verdicts(row, [text.lstrip()])
            expected = {
                "num_prompts": 1,
                "prompt_strict": theirs["prompt_level_strict_acc"],
                "prompt_loose": theirs["prompt_level_loose_acc"],
                "num_instructions": len(theirs["inst_level_strict_acc"]),
                "num_followed_strict": sum(theirs["inst_level_strict_acc"]),
                "num_followed_loose": sum(theirs["inst_level_loose_acc"]),
            }
            assert dict(ours.figures) == expected, (name, item.id)
            assert ours.correct is theirs["prompt_level_strict_acc"]
            num_compared += 1
            num_followed += bool(ours.correct)
            num_only_loose += bool(theirs["prompt_level_loose_acc"]) and not ours.correct
    assert num_compared == 541 * 19
    print(f"{num_compared} responses compared, {num_followed} follow strictly, {num_only_loose} loosely only")
    assert num_followed > 1_000
    assert num_only_loose > 100
