"""The paper's scores of the base models, before any fine-tuning (table 5 of its first version, 18 of its second).

Read from transcriptions of the paper; the 1.7B and 4B mathematics columns agree in two of them. In per cent.
"""

MODELS = (
    "Qwen3-1.7B-Base",
    "Qwen3-4B-Base",
    "Qwen3-8B-Base",
    "Qwen3-14B-Base",
    "Qwen2.5-1.5B",
    "Qwen2.5-7B",
    "Qwen2.5-14B",
    "internlm2_5-20b",
)


def by_model(*scores: float) -> dict[str, float]:
    """Return scores given in the order of `MODELS`."""
    return dict(zip(MODELS, scores, strict=True))


MATH500 = by_model(58.9, 70.8, 76.8, 77.8, 58.7, 66.7, 65.7, 53.7)
AIME24 = by_model(5.7, 11.0, 12.0, 14.7, 4.3, 7.7, 8.0, 1.7)
LIVECODEBENCH = by_model(9.1, 20.6, 29.1, 37.5, 9.4, 15.7, 17.6, 17.6)
# The paper's table 2 has 39.7 and 44.1 for 8B and 14B.
GPQA_DIAMOND = by_model(14.3, 14.6, 37.5, 41.8, 21.0, 26.9, 28.6, 20.9)
MMLU_PRO_1K = by_model(22.0, 35.5, 55.2, 61.8, 15.0, 34.8, 40.9, 34.3)
IFEVAL = by_model(35.0, 49.2, 54.8, 64.2, 37.0, 41.1, 49.0, 51.1)
HALUEVAL = by_model(41.8, 50.8, 50.5, 54.7, 45.7, 45.3, 56.1, 60.6)
TRUTHFULQA_INFORMATIVE = by_model(68.7, 48.2, 83.6, 94.4, 24.2, 96.5, 93.8, 72.6)
ALPACA_EVAL_REWARD = {
    "Qwen3-1.7B-Base": -4.99,
    "Qwen3-4B-Base": -2.21,
    "Qwen3-8B-Base": -0.13,
    "Qwen3-14B-Base": 0.53,
    "internlm2_5-20b": -0.84,
}
"""Mean score of the reward model Llama-3.1-8B-Instruct-RM-RB2; 14B and InternLM are from table 2."""
