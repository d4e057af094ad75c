"""How many questions of a set repeat one of a benchmark: the data layer's filter, which only counts here."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from megatron_sft._native import ChatTokenizer, build_shards
from megatron_sft.data import build_shards as builder
from megatron_sft.dataset_recipes.programs import NO_FILTERS

# Longer than any question: nothing is to be dropped for its length.
_MAX_LENGTH = 2**31 - 1
_SHOWN = 5


def count_overlap(questions: Iterable[str], benchmark: Path, tokenizer: Path) -> dict[str, Any]:
    """Return `questions`, `repeated`, `share` and the first `examples` (row from 0, and the filter's sentence).

    Raises:
        DataError: for a benchmark that holds no questions.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "questions.jsonl"
        num_questions = 0
        with rows.open("w", encoding="utf-8") as file:
            for question in questions:
                file.write(json.dumps({"prompt": question or " ", "response": "."}) + "\n")
                num_questions += 1
            # A build that keeps no row is an error, and this one repeats no benchmark.
            file.write(json.dumps({"prompt": "zzqx", "response": "."}) + "\n")
        filters = NO_FILTERS.__dict__ | {"decontaminate": (str(benchmark),)}
        config = builder.BuildShardsConfig(
            inputs=(str(rows),),
            output=Path(folder) / "shards",
            tokenizer=tokenizer,
            max_length=_MAX_LENGTH,
            keep_duplicates=True,
            filters=builder.FilterConfig(**filters),
        )
        build_shards(json.dumps(builder.build_options(config)), ChatTokenizer(tokenizer))
        rejects = [json.loads(line) for line in (config.output / "rejects.jsonl").open(encoding="utf-8")]
    hits = [reject for reject in rejects if reject["reason"] == "contaminated"]
    return {
        "questions": num_questions,
        "repeated": len(hits),
        "share": len(hits) / num_questions if num_questions else 0.0,
        "examples": [{"row": hit["line"] - 1, "detail": hit["detail"]} for hit in hits[:_SHOWN]],
    }
