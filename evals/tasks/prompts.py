"""How problems are asked: as in training."""

from collections.abc import Sequence, Set

from megatron_sft.data.tasks.problem import SUFFIX

PROMPT_SPACE = {"prompt_space": "A space after the newline before the last sentence of the prompt; training has none."}
"""The quirk that `boxed_prompt` knows."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def boxed_prompt(question: str, quirks: Set[str] = frozenset()) -> list[dict[str, str]]:
    """Ask for steps and a box: question, one newline, the sentence that ends every training prompt."""
    space = " " if "prompt_space" in quirks else ""
    return user_turn(f"{question}\n{space}{SUFFIX}")


def choice_prompt(question: str, options: Sequence[str]) -> list[dict[str, str]]:
    """Ask for the letter of one of the options, in a box."""
    lettered = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    letters = f"{LETTERS[0]} to {LETTERS[len(options) - 1]}"
    return user_turn(
        f"{question}\n\n{lettered}\n\n"
        f"Please reason step by step, and put the letter of your final choice ({letters}) within \\boxed{{}}."
    )


def user_turn(content: str) -> list[dict[str, str]]:
    """Return a conversation of one turn."""
    return [{"role": "user", "content": content}]
