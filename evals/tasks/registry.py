"""All benchmarks by name."""

from evals.tasks import (
    aime24,
    aime25,
    alpaca_eval,
    code_requests,
    countdown,
    gpqa_diamond,
    gsm8k,
    halueval,
    harmbench,
    hex_phi,
    humaneval,
    ifeval,
    livecodebench,
    math500,
    mmlu_pro,
    mmlu_pro_1k,
    reasoning_gym,
    truthfulqa,
)
from evals.tasks.benchmark import Benchmark

PAPER = "paper"
"""Stands for all of the paper's benchmarks in --tasks."""
PAPER_TASKS = (
    "math500",
    "aime24",
    "livecodebench",
    "gpqa_diamond",
    "mmlu_pro_1k",
    "ifeval",
    "alpaca_eval",
    "halueval",
    "truthfulqa",
    "hex_phi",
)


def builtin_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by its name: the paper's first, in its order."""
    benchmarks = (
        math500.BENCHMARK,
        aime24.BENCHMARK,
        livecodebench.BENCHMARK,
        gpqa_diamond.BENCHMARK,
        mmlu_pro_1k.BENCHMARK,
        ifeval.BENCHMARK,
        alpaca_eval.BENCHMARK,
        *halueval.BENCHMARKS,
        truthfulqa.BENCHMARK,
        hex_phi.BENCHMARK,
        mmlu_pro.BENCHMARK,
        aime25.BENCHMARK,
        gsm8k.BENCHMARK,
        humaneval.BENCHMARK,
        harmbench.BENCHMARK,
        countdown.BENCHMARK,
        *code_requests.BENCHMARKS,
        *reasoning_gym.BENCHMARKS,
    )
    return {benchmark.name: benchmark for benchmark in benchmarks}
