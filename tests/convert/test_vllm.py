"""vLLM opens an export as it is and generates greedily what transformers generates from the original."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from megatron_sft.convert.to_hf import export
from tests.convert.models import megatron_tensors, save_model

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

NUM_TOKENS = 24
PROGRAM = """
import json, sys
import vllm
if __name__ == "__main__":
    folder, prompts, num_tokens = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    llm = vllm.LLM(model=folder, dtype="float32", enforce_eager=True, max_model_len=64, max_num_seqs=4, seed=0,
                   enable_prefix_caching=False, kv_cache_memory_bytes=1 << 26)
    greedy = vllm.SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], greedy, use_tqdm=False)
    print("RESULT " + json.dumps([output.outputs[0].token_ids for output in outputs]))
"""


def test_greedy_tokens(write_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    # Sharp logits, so that rounding decides nothing; a head width that vLLM's CPU attention has.
    model = save_model(tmp_path / "model", head_dim=32, num_attention_heads=4, num_key_value_heads=2)
    export(write_checkpoint(model, megatron_tensors(model)), tmp_path / "out")
    prompts = [[5, 17, 42], [99, 3, 3, 8, 61], [11]]
    generated = vllm_greedy(tmp_path, prompts)
    assert generated == transformers_greedy(model, prompts)
    assert len({tuple(tokens) for tokens in generated}) == 3, "the prompts must matter"


def vllm_greedy(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    (folder / "program.py").write_text(PROGRAM)
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, str(folder / "program.py"), str(folder / "out"), json.dumps(prompts), str(NUM_TOKENS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    results = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert results, done.stdout[-2000:] + done.stderr[-4000:]
    generated: list[list[int]] = json.loads(results[0])
    return generated


def transformers_greedy(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generated = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(NUM_TOKENS):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        generated.append(ids[len(prompt) :])
    return generated
