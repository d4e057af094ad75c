"""AIME 2024: both papers, 30 problems with answers from 0 to 999."""

from evals.tasks import published
from evals.tasks.aime import read
from evals.tasks.benchmark import Benchmark, Preset, Source
from evals.tasks.math500 import MATH_QUIRKS

BENCHMARK = Benchmark(
    name="aime24",
    title="AIME 2024",
    group="in-domain",
    source=Source(
        local_names=("aime24.jsonl", "aime24.parquet"),
        hub_id="HuggingFaceH4/aime_2024",
        hub_files=("data/train-00000-of-00001.parquet",),
    ),
    read=read,
    grader="math",
    preset=Preset(num_samples_per_item=10),
    quirks=MATH_QUIRKS,
    quirk_graders={"box_in_trace": "math_paper"},
    published=published.AIME24,
)
