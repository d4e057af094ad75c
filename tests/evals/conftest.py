"""Problems for a small model, and the grader of programs."""

import json
import shutil
from pathlib import Path

import pytest

from evals.graders.code import CodeGrader


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tasks: addition with six problems, countdown with two."""
    folder = tmp_path / "data"
    folder.mkdir()
    additions = [(3, 5), (12, 9), (40, 2), (7, 7), (100, 1), (8, 64)]
    rows = [
        {
            "id": f"addition-{a}-{b}",
            "message": [{"role": "user", "content": f"Compute {a} + {b}."}],
            "answer": str(a + b),
        }
        for a, b in additions
    ]
    write_rows(folder / "addition.held_out.jsonl", rows)
    rows = [
        {"id": f"countdown-{n}", "prompt": f"Make {n} of 2 and 3.", "answer": {"numbers": [2, 3], "target": n}}
        for n in (5, 6)
    ]
    write_rows(folder / "countdown.held_out.jsonl", rows)
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def code_grader() -> CodeGrader:
    """A grader with a short time limit."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt-get install bubblewrap)")
    return CodeGrader(time_limit_s=2)
