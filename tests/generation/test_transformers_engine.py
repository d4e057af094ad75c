"""The engine that needs no vLLM: its answers, where they end, and what it does not have."""

import queue
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.generation.engine import make_context, run_engine
from megatron_sft.generation.engine_messages import EngineReport, EngineSettings, Reload, Request
from megatron_sft.generation.transformers_engine import answer, batches, room

LIMIT = 12


def request(key: str, prompt: list[int], **changes: object) -> Request:
    values = {"temperature": 0.0, "top_p": 1.0, "max_tokens": LIMIT, "stop_token_ids": [], "seed": None}
    return Request(key=key, prompt_token_ids=prompt, **{**values, **changes})


def settings(model: Path, log: Path, **changes: object) -> EngineSettings:
    values = {
        "dtype": "auto", "max_model_len": 64, "max_num_seqs": 2, "tensor_parallel_size": 1, "seed": 0,
        "kv_bytes_per_token": 1, "kv_cache_bytes": None, "gpu_memory_utilization": None, "num_threads": 1,
        "kind": "transformers",
    }  # fmt: skip
    return EngineSettings(model=model, log=log, **{**values, **changes})


PROMPTS = {"a": [5, 6, 7, 8, 9], "b": [100], "c": [40, 41, 42]}


@pytest.fixture(scope="module")
def model(random_model: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(random_model, dtype=torch.float32).eval()


def greedy(model, prompt: list[int]) -> list[int]:
    """The likeliest token after the other, without a cache and without others beside it."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(LIMIT):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.slow
def test_a_process_answers_what_the_model_says(model, random_model: Path, tmp_path: Path) -> None:
    expected = {key: greedy(model, prompt) for key, prompt in PROMPTS.items()}
    assert len({tuple(ids) for ids in expected.values()}) == 3
    # The third token of the first answer ends that one, and may end others earlier or later.
    stop = expected["a"][2]
    requests = [request(key, prompt) for key, prompt in PROMPTS.items()]
    requests += [replace(one, key=f"{one.key} stopped", stop_token_ids=[stop]) for one in requests]
    requests.append(request("short", PROMPTS["a"], max_tokens=2))
    report = EngineReport()
    log = tmp_path / "logs" / "engine.log"
    found = {
        one.key: one
        for batch in run_engine(make_context("transformers"), settings(random_model, log), requests, report)
        for one in batch
    }
    assert found.keys() == {one.key for one in requests}
    for key, ids in expected.items():
        assert (found[key].token_ids, found[key].finish_reason) == (ids, "length"), key
        stopped = found[f"{key} stopped"]
        end = ids.index(stop) + 1 if stop in ids else LIMIT
        assert stopped.token_ids == ids[:end]
        assert stopped.finish_reason == ("stop" if stop in ids else "length")
    assert found["short"].token_ids == expected["a"][:2]
    assert report.versions["transformers"] == transformers.__version__
    assert report.versions["dtype"] == "float32"
    assert report.num_tokens == sum(len(one.token_ids) for one in found.values())


def test_a_missing_model_is_an_error_with_the_log(tmp_path: Path) -> None:
    one = settings(tmp_path / "nothing", tmp_path / "engine.log")
    with pytest.raises(EnvironmentProblem, match=r"the engine for .*nothing failed"):
        list(run_engine(make_context("transformers"), one, [request("a", [1])], EngineReport()))


def test_sampling_follows_the_seed_and_the_cut_offs(model, random_model: Path, tmp_path: Path) -> None:
    one = settings(random_model, tmp_path / "log")

    def sampled(seed: int, **changes: object) -> list[list[int]]:
        requests = [request(k, p, temperature=1.0, seed=seed, **changes) for k, p in PROMPTS.items()]
        return [completion.token_ids for completion in answer(model, requests, one)]

    assert sampled(1) == sampled(1) != sampled(2)
    assert sampled(1, top_k=1) == [greedy(model, prompt) for prompt in PROMPTS.values()]


def test_requests_that_are_sampled_alike_share_a_batch() -> None:
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    inbox.put([request("a", [1]), request("b", [2]), request("c", [3])])
    inbox.put([request("d", [4]), request("warm", [5], temperature=0.5)])
    inbox.put(None)
    found = [[one.key for one in batch] for batch in batches(inbox, 2)]
    assert found == [["a", "b"], ["c", "d"], ["warm"]]


def test_what_it_does_not_have_is_refused(model, random_model: Path, tmp_path: Path) -> None:
    one = settings(random_model, tmp_path / "log")
    with pytest.raises(EnvironmentProblem, match="need vLLM"):
        answer(model, [request("a", [1], logprobs=True)], one)
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    inbox.put(Reload(model=random_model, probe=request("a", [1])))
    with pytest.raises(EnvironmentProblem, match="--reload-weights needs vLLM"):
        next(batches(inbox, 2))
    assert room(request("a", [1] * 60), 64) == 4
    with pytest.raises(EnvironmentProblem, match="leaves no room in a context of 64"):
        room(request("a", [1] * 64), 64)
