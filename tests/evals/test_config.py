"""Options that cannot work or would have no effect are refused."""

from pathlib import Path

import pytest

from evals.config import EvaluateConfig
from evals.evaluate import main
from megatron_sft.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ""}, "name each task once"),
        ({"tasks": "a,a"}, "name each task once"),
        ({"in_domain": "b"}, "--in-domain: 'b' is not among --tasks a"),
        ({"graders": "b=math"}, "--graders: 'b' is not among"),
        ({"graders": "a"}, "expected task=grader"),
        ({"temperature": 0.0, "num_samples_per_item": 2}, "has no effect at --temperature 0"),
        ({"temperature": -1.0}, "--temperature -1.0: must be from 0"),
        ({"min_p": 1.5}, "--min-p 1.5: must be from 0 to 1"),
        ({"presence_penalty": 3.0}, "--presence-penalty 3.0: must be from -2 to 2"),
        ({"steps": "10,x"}, "--steps '10,x': expected iterations"),
        ({"base_prompt": "plain"}, "no effect without --base"),
        ({"data_parallel_size": 0}, "--data-parallel-size 0: must be positive"),
        ({"top_p": 0.0}, "--top-p 0.0: must be above 0"),
        ({"max_tokens": 0}, "--max-tokens 0: must be positive"),
        ({"gpu_memory_utilization": 1.5}, "must be within"),
        ({"model": ()}, "name at least one model folder, or one with --base"),
        ({"model": (), "base": Path("b"), "steps": "10"}, "--steps has no effect without --model"),
        ({"endpoint": "http://h/v1"}, "--endpoint needs --tokenizer"),
        (
            {"endpoint": "http://h/v1", "tokenizer": Path("t"), "max_model_len": 9, "reload_weights": True},
            "--endpoint serves one model",
        ),
        ({"tokenizer": Path("t")}, "no effect without --endpoint"),
        ({"engine": "transformers", "reload_weights": True}, "--engine transformers: --reload-weights is for vLLM"),
        ({"engine": "transformers", "kv_cache_gib": 1.0}, "--kv-cache-gib is for vLLM or a server"),
        ({"reload_weights": True, "data_parallel_size": 2}, "--reload-weights keeps one engine"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(**{"model": ("m",), "tasks": "a", "output": Path("o"), **options})


def test_an_unknown_option_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--model", "m", "--tasks", "a", "--output", str(tmp_path), "--max-new-tokens", "5"])
    assert exit_info.value.code == 2


def test_missing_input_is_an_error_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "m", "--tasks", "a", "--output", str(tmp_path / "o"), "--data", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "a.held_out.jsonl does not exist, and there is no benchmark of this name" in message
    assert not (tmp_path / "o").exists()
