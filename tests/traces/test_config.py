"""Options that cannot work, or would have no effect."""

from pathlib import Path
from typing import Any

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.traces.config import GenerateTracesConfig

SERVER = {"endpoint": "http://localhost/v1", "tokenizer": Path("t")}


def make(**options: Any) -> GenerateTracesConfig:
    return GenerateTracesConfig(inputs=("rows.jsonl",), output=Path("out"), model="m", **options)


def test_the_defaults_are_the_papers() -> None:
    assert make().sampling() == {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "max_tokens": 16_384}
    assert make().num_samples == 32
    assert make(columns=("prompt=a=b",)).column_names() == {"prompt": "a=b"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "--num-samples 0: must be positive"),
        ({"top_k": -1}, "--top-k -1"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"min_p": 1.5}, "--min-p 1.5"),
        ({"temperature": 0.0}, "no effect at --temperature 0"),
        ({"columns": ("answer=a",)}, "--columns 'answer=a'"),
        ({"columns": ("id=a", "id=b")}, "--columns 'id=b'"),
        ({"data_parallel_size": 2, "data_parallel_rank": 2}, "--data-parallel-rank 2"),
        ({"max_attempts": 3}, "--max-attempts has no effect without --endpoint"),
        ({"tokenizer": Path("t")}, "--tokenizer has no effect without --endpoint"),
        ({"endpoint": "http://localhost/v1"}, "--endpoint needs --tokenizer"),
        ({**SERVER, "endpoint": "localhost:8000"}, "expected an address"),
        ({**SERVER, "tensor_parallel_size": 2}, "--tensor-parallel-size has no effect with --endpoint"),
        ({**SERVER, "data_parallel_size": 2}, "needs --data-parallel-rank"),
        ({**SERVER, "endpoint_dialect": "openai"}, "no field for --top-k 20"),
        ({**SERVER, "endpoint_dialect": "openai", "top_k": 0, "logprobs": True}, "--logprobs needs"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)
