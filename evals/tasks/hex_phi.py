"""HEx-PHI: harmful requests in 10 or 11 categories. The set is gated: users bring it as a CSV file."""

from evals.tasks.benchmark import Benchmark, Source
from evals.tasks.safety import PRESET, QUIRK_PRESETS, QUIRKS, RATIOS, read

ORIGIN = "join the CSV files of the gated data set LLM-Tuning-Safety/HEx-PHI into one, under a header `prompt,category`"

BENCHMARK = Benchmark(
    name="hex_phi",
    title="HEx-PHI",
    group="safety",
    source=Source(local_names=("hex-phi.csv", "hex_phi.csv"), gated=True, origin=ORIGIN),
    read=read,
    grader="judge",
    rubric="harmfulness",
    ratios=RATIOS,
    preset=PRESET,
    quirks=QUIRKS,
    quirk_presets=QUIRK_PRESETS,
)
