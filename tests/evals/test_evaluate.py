"""The whole program with a real engine: greedy tokens equal transformers', runs can be resumed and graded again."""

import json
import shutil
from pathlib import Path

import pytest

from evals.evaluate import main
from megatron_sft.generation.model_folder import open_models

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

NUM_NEW_TOKENS = 24


def evaluate(model: Path, data: Path, output: Path, *options: str) -> int:
    common = ["--model", str(model), "--data", str(data), "--output", str(output), "--max-tokens", str(NUM_NEW_TOKENS)]
    return main([*common, "--tasks", "addition,countdown", "--in-domain", "addition", *options])


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_greedy_run_equals_transformers_and_resumes(
    random_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "eval"
    greedy = ("--temperature", "0")
    assert evaluate(random_model, data, output, *greedy) == 0
    generations = output / "generations" / "step-40" / "addition.jsonl"
    before = records(generations)
    assert len(before) == 6

    assert {row["item"]: row["token_ids"] for row in before} == transformers_greedy(random_model, data)
    assert len({tuple(row["token_ids"]) for row in before}) > 1, "the answers must differ for this to show anything"
    for row in before:
        cut_off = row["finish_reason"] == "length"
        assert row["num_tokens"] == len(row["token_ids"]) <= NUM_NEW_TOKENS
        assert cut_off == (row["num_tokens"] == NUM_NEW_TOKENS)

    results = json.loads((output / "results.json").read_text())
    assert [(entry["task"], entry["group"], entry["iteration"]) for entry in results] == [
        ("addition", "in-domain", 40),
        ("countdown", "out-of-domain", 40),
    ]
    share_cut_off = sum(row["finish_reason"] == "length" for row in before) / 6
    assert results[0]["share_cut_off"] == pytest.approx(share_cut_off)
    assert results[0]["mean_length_tokens"] == pytest.approx(sum(row["num_tokens"] for row in before) / 6)
    assert results[0]["engine"]["vllm"]
    assert results[0]["engine"]["torch"]
    assert list((output / "tensorboard").iterdir())

    # A killed run leaves a half-written line: that answer and the one cut away are generated again, no other.
    whole = generations.read_bytes()
    lines = whole.splitlines(keepends=True)
    generations.write_bytes(b"".join(lines[:4]) + lines[4][:40])
    capsys.readouterr()
    assert evaluate(random_model, data, output, *greedy) == 0
    assert "2 answers generated, 6 reused" in capsys.readouterr().out
    assert {row["item"]: row["token_ids"] for row in records(generations)} == {
        row["item"]: row["token_ids"] for row in before
    }

    # Nothing is missing now, so grading needs no engine; an answer edited on file is graded as it stands.
    edited = records(generations)
    # Rows are in the order in which they were finished.
    first = next(row for row in edited if row["item"] == "addition-3-5")
    first |= {"finish_reason": "stop", "text": "<think>3+5</think> \\boxed{8}"}
    generations.write_text("".join(json.dumps(row) + "\n" for row in edited))
    assert evaluate(random_model, data, output, *greedy, "--stage", "grade") == 0
    assert json.loads((output / "results.json").read_text())[0]["score"] == pytest.approx(1 / 6)


def transformers_greedy(model_folder: Path, data: Path) -> dict[str, list[int]]:
    """The same prompts, one by one, through transformers."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = open_models((model_folder,))[0].tokenizer
    model = transformers.Qwen3ForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    generated = {}
    for row in records(data / "addition.held_out.jsonl"):
        prompt = torch.tensor([tokenizer.encode_prompt(row["message"])])
        ids = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NUM_NEW_TOKENS
        )
        generated[row["id"]] = ids[0, prompt.shape[1] :].tolist()
    return generated


def test_samples_differ_and_are_repeatable(random_model: Path, data: Path, tmp_path: Path) -> None:
    options = ("--num-samples-per-item", "4", "--seed", "7", "--limit", "2", "--stage", "generate")
    runs = []
    for name in ("a", "b"):
        assert evaluate(random_model, data, tmp_path / name, *options) == 0
        runs.append([row["token_ids"] for row in records(tmp_path / name / "generations/step-40/addition.jsonl")])
    assert runs[0] == runs[1]
    assert len({tuple(ids) for ids in runs[0]}) == 8
    assert not (tmp_path / "a" / "results.json").exists(), "the stage generate does not score"


def test_a_failing_engine_is_reported_with_its_log(
    random_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(random_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert evaluate(broken, data, tmp_path / "eval", "--limit", "1") == 2
    error = capsys.readouterr().err
    assert "error: the engine for" in error
    assert "eval/logs/broken.log" in error


def test_the_stage_grade_says_what_is_missing(
    random_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(random_model, data, tmp_path / "eval", "--stage", "grade") == 2
    assert "6 of 6 answers are missing" in capsys.readouterr().err


def test_a_gpu_option_on_cpu_is_refused(
    random_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("vLLM found a GPU here")
    assert evaluate(random_model, data, tmp_path / "eval", "--limit", "1", "--gpu-memory-utilization", "0.5") == 2
    assert "--gpu-memory-utilization has no effect on CPU" in capsys.readouterr().err
