"""lm-eval's own IFEval on a model folder, with a local data set in the place of the hub's."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.lm_eval_adapter import LmEvalConfig, generation_arguments, main, model_arguments
from megatron_sft.backends import installed_version

PROMPTS: list[dict[str, Any]] = [
    {
        "key": 1,
        "prompt": "Say something without a comma.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_sentences"],
        "kwargs": [{}, {"relation": "less than", "num_sentences": 5}],
    },
    {"key": 2, "prompt": "Give JSON.", "instruction_id_list": ["detectable_format:json_format"], "kwargs": [{}]},
    {
        "key": 3,
        "prompt": "Ten words at least.",
        "instruction_id_list": ["length_constraints:number_words"],
        "kwargs": [{"relation": "at least", "num_words": 10}],
    },
]
TASK = """
task: ifeval_local
dataset_path: json
dataset_kwargs: {{data_files: {{train: "{data}"}}}}
output_type: generate_until
test_split: train
num_fewshot: 0
doc_to_text: prompt
doc_to_target: 0
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 16}}
process_results: !function functions.process_results
metric_list:
  - {{metric: prompt_level_strict_acc, aggregation: mean, higher_is_better: true}}
  - {{metric: prompt_level_loose_acc, aggregation: mean, higher_is_better: true}}
  - {{metric: inst_level_strict_acc, aggregation: !function functions.agg_inst_level_acc, higher_is_better: true}}
  - {{metric: inst_level_loose_acc, aggregation: !function functions.agg_inst_level_acc, higher_is_better: true}}
"""
FUNCTIONS = '''"""lm-eval's own verdicts; the rows' absent arguments come as null."""

from lm_eval.tasks.ifeval.utils import agg_inst_level_acc, process_results

__all__ = ["agg_inst_level_acc", "process_results"]
'''


@pytest.mark.slow
def test_lm_evals_results_are_those_of_our_grader_on_its_answers(random_model: Path, tmp_path: Path) -> None:
    for module in ("lm_eval", "punkt", "langdetect"):
        pytest.importorskip(module, reason='needs the extras "lm-eval" and "eval"')
    from evals.graders.ifeval.grader import IfevalGrader
    from evals.tasks.benchmark import Row
    from evals.tasks.ifeval import read

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS), encoding="utf-8")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "ifeval_local.yaml").write_text(TASK.format(data=tmp_path / "rows.jsonl"), encoding="utf-8")
    (tasks / "functions.py").write_text(FUNCTIONS, encoding="utf-8")
    options = ["--model", str(random_model), "--output", str(tmp_path / "out"), "--engine", "hf"]
    options += ["--tasks", "ifeval_local", "--task-folder", str(tasks), "--max-tokens", "40", "--temperature", "0"]
    assert main(options) == 0

    results = json.loads((tmp_path / "out" / f"{random_model.name}.json").read_text(encoding="utf-8"))
    lines = (tmp_path / "out" / f"{random_model.name}.ifeval_local.samples.jsonl").read_text(encoding="utf-8")
    samples = [json.loads(line) for line in lines.split("\n") if line]
    assert [sample["doc"]["key"] for sample in samples] == [1, 2, 3]
    items = read([Row(fields=row, where="row") for row in PROMPTS], set())
    figures = [
        IfevalGrader().grade(sample["resps"][0][0], item.answer).figures
        for sample, item in zip(samples, items, strict=True)
    ]
    metrics = results["results"]["ifeval_local"]
    assert metrics["prompt_level_strict_acc,none"] == pytest.approx(sum(f["prompt_strict"] for f in figures) / 3)
    assert metrics["prompt_level_loose_acc,none"] == pytest.approx(sum(f["prompt_loose"] for f in figures) / 3)
    num_instructions = sum(f["num_instructions"] for f in figures)
    strict = sum(f["num_followed_strict"] for f in figures) / num_instructions
    assert metrics["inst_level_strict_acc,none"] == pytest.approx(strict)
    assert 0 < strict < 1
    # The folder's template, and an answer of more than the task's own 16 tokens.
    assert "<|im_start|>assistant" in json.dumps(samples[0]["arguments"])
    assert results["lm_eval_version"]


def test_what_is_handed_to_lm_eval() -> None:
    config = LmEvalConfig(model=(Path("m"),), output=Path("o"), max_tokens=100, max_model_len=200)
    assert model_arguments(config, Path("m")) == {
        "pretrained": "m",
        "think_end_token": "</think>",
        "seed": 0,
        "max_gen_toks": 100,
        "max_model_len": 200,
    }
    assert generation_arguments(config) == {
        "until": [],
        "max_gen_toks": 100,
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
    }


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("lm_eval", "punkt"):
        pytest.importorskip(module, reason='needs the extra "lm-eval"')
    options = ["--model", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main([*options, "--engine", "hf"]) == 2
    assert "no config.json: expected a Hugging Face model folder" in capsys.readouterr().err
    if installed_version("vllm") is None:
        assert main(options) == 2
        assert "install the extra vllm, or use --engine hf" in capsys.readouterr().err
