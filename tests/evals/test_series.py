"""A series of checkpoints: one engine whose weights are replaced answers as fresh engines do, and so do several."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from evals.evaluate import main
from evals.generate import _replace_weights
from megatron_sft.errors import EnvironmentProblem
from megatron_sft.generation.engine_messages import Completion, Reloaded
from megatron_sft.generation.model_folder import open_models

STEPS = (10, 20, 40, 80, 160, 320)


@pytest.fixture
def exports(random_model: Path, tmp_path: Path) -> Path:
    """A folder of exports: the same model with other weights for each step."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    weights = load_file(random_model / "model.safetensors")
    for step in STEPS:
        folder = tmp_path / "exports" / f"iter_{step:07d}"
        shutil.copytree(random_model, folder)
        generator = torch.Generator().manual_seed(step)
        changed = {
            name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) if tensor.ndim > 1 else tensor
            for name, tensor in weights.items()
        }
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        (folder / "megatron_sft.json").write_text(json.dumps({"iteration": step}))
    return tmp_path / "exports"


def evaluate(exports: Path, data: Path, output: Path, *options: str) -> tuple[dict[Any, Any], float]:
    began = time.perf_counter()
    common = [
        "--model",
        str(exports),
        "--steps",
        ",".join(map(str, STEPS)),
        "--data",
        str(data),
        "--output",
        str(output),
    ]
    common += ["--tasks", "addition,countdown", "--max-tokens", "24", "--num-samples-per-item", "2"]
    assert main([*common, *options]) == 0
    seconds = time.perf_counter() - began
    found = {}
    for file in output.glob("generations/*/*.jsonl"):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            found[file.parent.name, row["item"], row["sample"]] = row["token_ids"]
    return found, seconds


@pytest.mark.vllm
@pytest.mark.slow
def test_however_it_is_run_the_answers_are_the_same(exports: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    fresh, fresh_s = evaluate(exports, data, tmp_path / "fresh")
    assert len(fresh) == len(STEPS) * 8 * 2
    by_step = {step: [fresh[key] for key in sorted(fresh) if key[0] == f"iter_{step:07d}"] for step in STEPS}
    assert len({json.dumps(answers) for answers in by_step.values()}) == len(STEPS), "checkpoints must differ"
    reloaded, reloaded_s = evaluate(exports, data, tmp_path / "reloaded", "--reload-weights")
    assert reloaded == fresh
    print(f"six checkpoints: fresh engines {fresh_s:.1f} s, weights replaced {reloaded_s:.1f} s")
    processes = ("--num-engines", "2", "--data-parallel-size", "2")
    several, _ = evaluate(exports, data, tmp_path / "several", *processes)
    assert several == fresh
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("fresh", "reloaded", "several")]
    assert results[0] == results[1] == results[2]


def test_weights_that_stay_are_noticed(random_model: Path, tmp_path: Path) -> None:
    old = open_models((random_model,))[0]
    changed = tmp_path / "changed"
    shutil.copytree(random_model, changed)
    (changed / "config.json").write_text((random_model / "config.json").read_text().replace("256", "128"))
    other = open_models((changed,))[0]

    class Stuck:
        """An engine that answers from the weights that it had."""

        def load(self, *_: object) -> Reloaded:
            answer = Completion(key="probe", token_ids=[5], finish_reason="length", logprobs=[-1.0])
            return Reloaded(seconds=0.1, before=answer, after=answer)

    with pytest.raises(EnvironmentProblem, match="differ in more than their weights"):
        _replace_weights(Stuck(), old, other)  # type: ignore[arg-type]
    from dataclasses import replace

    _replace_weights(Stuck(), old, old)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentProblem, match="they have not been replaced"):
        _replace_weights(Stuck(), old, replace(old, fingerprint="another"))  # type: ignore[arg-type]
