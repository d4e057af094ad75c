"""From a benchmark to its items: find the file, read the rows, make the items. Nothing is downloaded."""

from collections.abc import Set
from pathlib import Path

from evals.items import Item
from evals.tasks.benchmark import Benchmark, Row
from evals.tasks.rows import read_rows
from megatron_sft.errors import ConfigError, DataError

DEFAULT_SEED = 0


def load_benchmark(
    benchmark: Benchmark,
    data: Path,
    limit: int | None = None,
    seed: int = DEFAULT_SEED,
    quirks: Set[str] = frozenset(),
) -> list[Item]:
    """Return the items in the order of the file, the first `limit` of them (all, if None).

    `seed` is for benchmarks whose rows are drawn; those of files do not depend on it.

    Raises:
        ConfigError: for a quirk that the benchmark does not have.
        DataError: for a file that is nowhere, naming the places and how to fetch it; for rows that cannot be read, ids
            that occur twice, or fewer items than `limit`.
    """
    unknown = sorted(set(quirks) - set(benchmark.quirks))
    if unknown:
        known = ", ".join(benchmark.quirks) or "none"
        raise ConfigError(f"--paper-quirks: {benchmark.name} has no quirk {unknown[0]!r}; it has: {known}")
    if benchmark.make_rows is not None:
        rows = benchmark.make_rows(benchmark.default_size if limit is None else limit, seed)
    else:
        rows = [row for path in find_files(benchmark, data) for row in read_rows(path)]
    items = benchmark.read(rows, quirks)
    _check(benchmark, rows, items, limit)
    return items[:limit]


def find_files(benchmark: Benchmark, data: Path) -> list[Path]:
    """Return the benchmark's files: those in `data`, else those that the hub's cache holds already.

    Raises:
        DataError: when there are none, naming what was looked for and how to fetch it.
    """
    source = benchmark.source
    local = [data / name for name in source.local_names]
    there = [path for path in local if path.is_file()]
    if there and (len(there) == len(local) or not source.read_all):
        return there if source.read_all else there[:1]
    cached = _cached_files(benchmark)
    if cached:
        return cached
    wanted = " and " if source.read_all else " or "
    raise DataError(
        f"task {benchmark.name}: no file {wanted.join(source.local_names)} in {data} (--data){_how_to_fetch(benchmark)}"
    )


def _cached_files(benchmark: Benchmark) -> list[Path]:
    source = benchmark.source
    if not source.hub_id or not source.hub_files:
        return []
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return []
    found = [
        try_to_load_from_cache(source.hub_id, name, repo_type="dataset", revision=source.revision)
        for name in source.hub_files
    ]
    paths = [Path(path) for path in found if isinstance(path, str)]
    return paths if len(paths) == len(found) else []


def _how_to_fetch(benchmark: Benchmark) -> str:
    source = benchmark.source
    if source.origin:
        return f": {source.origin}"
    files = " ".join(source.hub_files)
    revision = f" --revision {source.revision}" if source.revision else ""
    consent = " after accepting the data set's terms on the hub," if source.gated else ""
    return (
        f", nor in the hub's cache:{consent} run "
        f"'hf download --repo-type dataset {source.hub_id} {files}{revision}', or put the file there"
    )


def _check(benchmark: Benchmark, rows: list[Row], items: list[Item], limit: int | None) -> None:
    where = rows[0].where.rpartition(", row ")[0] if rows else str(benchmark.name)
    if not items:
        raise DataError(f"task {benchmark.name}: {where}: none of the {len(rows)} rows makes an item")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"task {benchmark.name}: {where}: the id {item.id!r} occurs twice: ids must be unique")
        seen.add(item.id)
    if limit is not None and len(items) < limit:
        raise DataError(
            f"task {benchmark.name}: {where} has {len(items)} problems, fewer than --limit {limit}: lower the limit"
        )
