"""From a run on a GPU to a Hugging Face folder: the same weights, and the answers that transformers gives."""

import pytest

pytest.importorskip("megatron.core")

import torch

from megatron_sft.convert.hf_weights import load_hf_into
from megatron_sft.convert.to_hf import export
from megatron_sft.data.shards import ShardReader
from megatron_sft.model.device import process_group, select_device
from megatron_sft.model.geometry import ModelGeometry
from megatron_sft.model.gpt import build_gpt, model_parallel, transformer_config
from megatron_sft.model.layout import ParallelLayout
from tests.convert.models import read_weights, same_bytes
from tests.gpu.test_packed import row_of

NUM_PROMPTS, NUM_NEW = 4, 24
CLEAR = 0.05
"""Logits that lie further apart are told apart in bf16 too."""


def test_weights_that_were_not_updated_come_back_bit_for_bit(train, gpu_model, tmp_path):
    options = ["--train-iters", "1", "--lr", "0", "--seq-length", "1024", "--init-from", str(gpu_model)]
    train(tmp_path / "run", *options, "--device", "cuda", flags=["--bf16"])
    export(tmp_path / "run", tmp_path / "out", say=lambda _: None)
    expected = {name: tensor.bfloat16() for name, tensor in read_weights(gpu_model).items()}
    assert same_bytes(expected, read_weights(tmp_path / "out"))


def test_greedy_answers_are_those_of_transformers(world, train, gpu_model, tmp_path):
    import transformers

    options = ["--train-iters", "6", "--lr", "1e-3", "--seq-length", "1024", "--init-from", str(gpu_model)]
    train(tmp_path / "run", *options, "--device", "cuda", flags=["--bf16"])
    folder = export(tmp_path / "run", tmp_path / "out", say=lambda _: None).output
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers = []
    reader = ShardReader(world.shards)
    for index in range(NUM_PROMPTS):
        sample = reader.sample(index)
        prompt = torch.from_numpy(sample.tokens[sample.trained == 0].astype("int64"))[None]
        answers.append(
            (
                prompt.shape[1],
                reference.generate(
                    prompt, max_new_tokens=NUM_NEW, min_new_tokens=NUM_NEW, do_sample=False, pad_token_id=0
                )[0],
            )
        )
    with torch.no_grad():
        expected = [reference(answer[None]).logits[0] for _, answer in answers]
    found = logits_on_gpu(folder, [answer for _, answer in answers])
    num_clear = num_equal = 0
    for (start, answer), ours, theirs in zip(answers, found, expected, strict=True):
        best = theirs.topk(2).values
        asked = torch.arange(start - 1, len(answer) - 1)
        # `generate` may not end an answer early: places where it had to pass over the likeliest token do not count.
        is_clear = ((best[:, 0] - best[:, 1]) > CLEAR)[asked] & (theirs.argmax(-1)[asked] == answer[asked + 1])
        num_clear += int(is_clear.sum())
        num_equal += int((ours.argmax(-1)[asked] == answer[asked + 1])[is_clear].sum())
    assert num_clear > NUM_PROMPTS * NUM_NEW / 2
    assert num_equal == num_clear


def logits_on_gpu(folder, documents: list[torch.Tensor]) -> list[torch.Tensor]:
    """[n, V] of each document, by TransformerEngine in bf16 from one packed row."""
    geometry = ModelGeometry.from_hf_config(folder)
    device = select_device("cuda")
    with process_group(device), device.activate(), model_parallel(ParallelLayout()), torch.no_grad():
        config = transformer_config(geometry, ParallelLayout(), device, dtype=torch.bfloat16)
        model = build_gpt(config, geometry, device).eval()
        load_hf_into(model, geometry, folder)
        row = row_of([document.to(device.torch_device) for document in documents])
        logits = model(row.tokens, row.position_ids, None, packed_seq_params=row.packed_seq_params())[0]
        return list(logits[:, : geometry.vocab_size].float().cpu().split([len(document) for document in documents]))
