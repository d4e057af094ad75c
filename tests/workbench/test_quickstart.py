"""The quickstart's plan: commands that fit together, and the closing table. integration/ runs it."""

import re
from pathlib import Path

import pytest

from megatron_sft.report.load import Score
from megatron_sft.workbench.quickstart import SIZES, chain, model_config, score_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_input_is_an_output_of_an_earlier_stage(size: str) -> None:
    made = [Path("{output}/config.json")]
    num_inputs = 0
    for stage in chain(SIZES[size], 2):
        for words in stage.commands:
            outputs = {words[i + 1] for i, word in enumerate(words) if word in ("--output", "--save")}
            inputs = {word for word in words if word.startswith("{output}/")} - outputs
            for name in inputs:
                assert any(Path(name).is_relative_to(path) for path in made), f"{stage.name}: {name}"
            num_inputs += len(inputs)
        made += [Path(path) for path in stage.outputs]
    assert num_inputs > 12


def test_every_program_exists() -> None:
    for stage in chain(SIZES["small"], 2):
        for words in stage.filled(Path("runs/quickstart")):
            program = words[words.index("2") + 1] if words[0] == "torchrun" else words[0]
            assert (ROOT / program).is_file(), program


def test_held_out_problems_suffice_for_the_claim() -> None:
    sizes = SIZES["small"]
    assert sizes.num_held_out >= 200
    assert sizes.trained_task in sizes.evaluated_tasks
    assert len(sizes.evaluated_tasks) > 1
    assert len(sizes.sft_save_iters) == 6


def test_model_is_a_qwen3_that_transformers_reads() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3Config(**model_config(SIZES["small"]), vocab_size=384)
    assert config.num_attention_heads * config.head_dim == config.hidden_size
    assert config.num_attention_heads % config.num_key_value_heads == 0


def test_table_compares_first_and_last_step() -> None:
    def score(task: str, iteration: int | None, value: float) -> Score:
        group = "in-domain" if task == "addition" else "out-of-domain"
        lengths = {"mean_length": 9.0, "share_cut_off": 0.0, "settings": {}}
        return Score(
            model="m",
            iteration=iteration,
            task=task,
            group=group,
            num_samples=250,
            score=value,
            stderr=0.0,
            unit="share",
            **lengths,
        )

    scores = [score("addition", 20, 0.985), score("addition", 0, 0.01), score("addition", 10, 0.5)]
    lines = score_table([*scores, score("counting", 0, 0.5), score("counting", 20, 0.25)]).splitlines()
    assert re.fullmatch(r"addition +in-domain +1\.0 +98\.5 +\+97\.5 +n = 250, step 20", lines[1])
    assert re.fullmatch(r"counting +out-of-domain +50\.0 +25\.0 +-25\.0 +n = 250, step 20", lines[2])
