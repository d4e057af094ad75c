"""The chat template, the tokenizer and the native answer checks: one code for training data and for evaluation."""

from megatron_sft._native import (
    ChatTokenizer,
    MathVerifier,
    answer_text,
    decide_math,
    last_boxed,
    verify_countdown,
    verify_math,
)

__all__ = [
    "ChatTokenizer",
    "MathVerifier",
    "answer_text",
    "decide_math",
    "last_boxed",
    "verify_countdown",
    "verify_math",
]
