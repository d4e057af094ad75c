"""docs/benchmarks.md names every benchmark, grader and quirk, and shows a file as it is."""

import re
from pathlib import Path

from evals.tasks.registry import builtin_benchmarks

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_the_example_is_the_real_file() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert example.strip() in (ROOT / "evals" / "tasks" / "gsm8k.py").read_text(encoding="utf-8")


def test_every_benchmark_and_quirk_is_named() -> None:
    for name, benchmark in builtin_benchmarks().items():
        spelled = name.removeprefix("halueval").removeprefix("rg_") if "_" in name else name
        assert f"{spelled}`" in TEXT, name
        for quirk in benchmark.quirks:
            assert f"| `{quirk}` |" in TEXT, (name, quirk)
        assert f"`{benchmark.grader}`" in TEXT
