"""HarmBench's direct requests: its standard and contextual behaviours. Users bring the CSV file."""

from evals.tasks.benchmark import Benchmark, Source
from evals.tasks.safety import PRESET, RATIOS, read

ORIGIN = "take harmbench_behaviors_text_all.csv from the repository centerforaisafety/HarmBench"

BENCHMARK = Benchmark(
    name="harmbench",
    title="HarmBench",
    group="safety",
    source=Source(local_names=("harmbench.csv", "harmbench_behaviors_text_all.csv"), gated=True, origin=ORIGIN),
    read=read,
    grader="judge",
    rubric="harmfulness",
    ratios=RATIOS,
    preset=PRESET,
)
