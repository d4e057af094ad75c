"""AIME 2025: both papers, 30 problems. Not among the paper's benchmarks; asked and sampled as AIME 2024."""

from evals.tasks.aime import read
from evals.tasks.benchmark import Benchmark, Preset, Source
from evals.tasks.math500 import MATH_QUIRKS

BENCHMARK = Benchmark(
    name="aime25",
    title="AIME 2025",
    group="in-domain",
    source=Source(
        local_names=("aime25.jsonl", "aime25.parquet"),
        hub_id="math-ai/aime25",
        hub_files=("test.jsonl",),
    ),
    read=read,
    grader="math",
    preset=Preset(num_samples_per_item=10),
    quirks=MATH_QUIRKS,
    quirk_graders={"box_in_trace": "math_paper"},
)
