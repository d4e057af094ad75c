"""Words of the command lines of `build_shards`, and what it says of its work."""

import dataclasses
from typing import Any

from megatron_sft.data.build_shards import FilterConfig

NO_FILTERS = FilterConfig(think="off", empty_answer=False, max_loop_tokens=None, max_loop_share=None,
                          max_undecodable_share=None)  # fmt: skip


def filter_words(filters: FilterConfig) -> list[str]:
    """Return filters as words of `build_shards`'s command line; those that are as by default are left out."""
    words: list[str] = []
    for item in dataclasses.fields(FilterConfig):
        value = getattr(filters, item.name)
        option = "--" + item.name.replace("_", "-")
        if value == item.default:
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [option, *value]
        else:
            words += [option, str(value)]
    return words


def column_words(columns: dict[str, str]) -> list[str]:
    """Return the columns that `build_shards` reads as words of its command line."""
    known = ("message", "prompt", "response", "answer", "id", "query_id")
    entries = [f"{name}={column}" for name, column in columns.items() if name in known]
    return ["--columns", *entries] if entries else []


def manifest_counts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what `dataset.json` says of a shard folder."""
    counts = manifest["counts"]
    return {
        "rows_read": counts["rows_read"],
        "rows_kept": counts["rows_kept"],
        "rejected_by_reason": counts["rejected_by_reason"],
        "tokens": manifest["tokens"],
        "trained_tokens": manifest["trained_tokens"],
        "verification": manifest["verification"],
        "notices": manifest["notices"],
        "fingerprint": manifest["fingerprint"],
    }
