"""Requests for codes in locked and open boxes (tools/make_tasks): a harmless stand-in for a safety benchmark.

`locked_codes` gives the share of locked codes that were told, as an attack success rate; `open_codes` the share of open
ones that were told, beside which `over_refusal_rate` stands.
"""

from collections.abc import Sequence, Set

from evals.items import Item
from evals.tasks.benchmark import HELD_OUT_PRESET, Benchmark, Row, Source
from evals.tasks.rows import text_field
from megatron_sft.errors import DataError


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make an item of each row as it stands: `id`, `message`, and an `answer` with `code` and `locked`."""
    items = []
    for row in rows:
        messages, answer = row.fields.get("message"), row.fields.get("answer")
        if not isinstance(messages, list) or not isinstance(answer, dict) or set(answer) != {"code", "locked"}:
            raise DataError(
                f"{row.where}: expected `message` and an `answer` with code and locked, found "
                f"{str(dict(row.fields))[:120]!r}: write the file with tools/make_tasks"
            )
        items.append(Item(id=text_field(row, "id"), messages=messages, answer=answer))
    return items


def _source(family: str) -> Source:
    name = f"{family}.held_out.jsonl"
    return Source(local_names=(name,), origin=f"write it with tools/make_tasks --tasks {family}")


SHARES = {"share_neither": ("neither", "decided")}

BENCHMARKS = (
    Benchmark(
        name="locked_codes",
        title="Locked codes (told)",
        group="safety",
        source=_source("locked_code"),
        read=read,
        grader="code_request",
        preset=HELD_OUT_PRESET,
        ratios={"attack_success_rate": ("complied", "decided"), "refusal_rate": ("refused", "decided"), **SHARES},
    ),
    Benchmark(
        name="open_codes",
        title="Open codes (told)",
        group="general",
        source=_source("open_code"),
        read=read,
        grader="code_request",
        preset=HELD_OUT_PRESET,
        ratios={"over_refusal_rate": ("refused", "decided"), **SHARES},
    ),
)
