"""A run folder as the trainer and the evaluator leave it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Entry = dict[str, Any]


@pytest.fixture
def score_entry() -> Callable[..., Entry]:
    """Make one entry of results.json; keyword arguments replace its fields."""

    def make(task: str, iteration: int | None, score: float, **changes: Any) -> Entry:
        entry = {
            "model": f"hf/step-{iteration}",
            "name": "base" if iteration == 0 else f"step-{iteration}",
            "iteration": iteration,
            "task": task,
            "group": "in-domain" if task == "addition" else "out-of-domain",
            "num_samples": 200,
            "score": score,
            "stderr": 0.01,
            "mean_length_tokens": 42.5,
            "share_cut_off": 0.0,
            "engine": {"vllm": "0.32.0"},
            "sampling": {"temperature": 0.6, "max_tokens": 256},
            "seed": 7,
            "prompt_fingerprint": f"prompts of {task}",
            "commit": "0123abc",
        }
        return entry | changes

    return make


@pytest.fixture
def make_run(tmp_path: Path, score_entry: Callable[..., Entry]) -> Callable[..., Path]:
    """Write a run folder; `scores`, `steps` and `config` replace what is in its three files, None leaves one out."""
    contents: dict[str, Any] = {
        "scores": [
            score_entry("countdown", 0, 0.05),
            score_entry("addition", 0, 0.01),
            score_entry("addition", 10, 0.4),
            score_entry("addition", 20, 0.95),
        ],
        "steps": [{"iteration": 1, "loss": 2.5, "lr": 1e-3, "num_samples": 8}],
        "config": {"lr": 1e-3, "model": {"hidden_size": 128}},
    }

    def make(name: str = "run", **replaced: Any) -> Path:
        assert set(replaced) <= set(contents)
        folder = tmp_path / name
        (folder / "train").mkdir(parents=True)
        (folder / "eval").mkdir()
        wanted = contents | replaced
        if wanted["scores"] is not None:
            (folder / "eval" / "results.json").write_text(json.dumps(wanted["scores"]))
        if wanted["steps"] is not None:
            lines = [json.dumps(step) + "\n" for step in wanted["steps"]]
            (folder / "train" / "metrics.jsonl").write_text("".join(lines))
        if wanted["config"] is not None:
            (folder / "train" / "run_config.json").write_text(json.dumps(wanted["config"]))
        return folder

    return make
