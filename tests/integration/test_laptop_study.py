"""Two arms of the laptop's study from nothing to scores, with few problems and steps.

On request: test_paper_study.py runs the same programs by default.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif("MEGATRON_SFT_LAPTOP_STUDY" not in os.environ, reason="set MEGATRON_SFT_LAPTOP_STUDY=1"),
]

TRAIN = "tools/make_tasks --num-train 120 --num-held-out 0 --output {output} --tasks"
HELD_OUT = "tools/make_tasks --style short --num-train 0 --num-held-out 4 --output {output} --tasks"
FAMILIES = "addition,subtraction,comparison,sorting,reversal,counting,locked_code,open_code"
FEW = f"""\
num_processes: 1
data_sets:
  mixture:
    make: ["{TRAIN} {FAMILIES} --style short"]
    rows: ["*.train.jsonl"]
  traces: {{make: ["{TRAIN} addition,subtraction --max-digits 2 --style trace --seed 2"]}}
  low-quality: {{make: ["{TRAIN} addition,subtraction --max-digits 2 --style low_quality --seed 2"]}}
  countdown: {{make: ["{TRAIN} countdown --countdown-numbers 3 --style trace"]}}
held_out: {{make: ["{HELD_OUT} {FAMILIES}"]}}
models:
  small: {{options: {{train_iters: 4, global_batch_size: 16, lr_warmup_iters: 1}}}}
evaluate: --max-tokens 16 --temperature 0 --reload-weights
"""


def test_two_arms_from_nothing_to_scores(tmp_path: Path) -> None:
    few, output, arms = tmp_path / "few.yaml", tmp_path / "run", ("small-traces", "small-low-quality")
    few.write_text(FEW, encoding="utf-8")
    options = ["--run", str(few), "--trial", "2", "4", "--output", str(output), "--only", *arms]
    kinds = ["--stage", "data", "models", "train", "convert", "evaluate"]
    run = subprocess.run(
        [str(ROOT / "tools" / "run_study"), "laptop", *options, *kinds],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "VIRTUAL_ENV": sys.prefix, "VLLM_CPU_KVCACHE_SPACE": "1"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    check_scores(output, arms)


def check_scores(output: Path, arms: tuple[str, ...]) -> None:
    """Every benchmark has scores at the base and at both steps of every arm; shares of codes told add up."""
    benchmarks = {"addition", "subtraction", "comparison", "sorting", "reversal", "counting", "open_codes"}
    for folder, steps in (("base/small", {0}), *((f"arms/{arm}", {2, 4}) for arm in arms)):
        results = json.loads((output / "eval" / folder / "results.json").read_text(encoding="utf-8"))
        scores = {(one["task"], one["iteration"]): one for one in results}
        assert set(scores) == {(task, step) for task in (*benchmarks, "locked_codes") for step in steps}
        for (task, _), one in scores.items():
            assert one["num_items"] == 4
            if task == "locked_codes":
                assert (one["group"], one["unit"]) == ("safety", "points")
                shares = [one["ratios"][name]["value"] for name in ("attack_success_rate", "refusal_rate")]
                assert sum(shares) + one["ratios"]["share_neither"]["value"] == pytest.approx(1)
                assert one["score"] == pytest.approx(shares[0])
