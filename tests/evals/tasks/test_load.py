"""Finding a benchmark's file and turning it into items."""

import json
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.items import Item
from evals.tasks.benchmark import Benchmark, Preset, Row, Source
from evals.tasks.load import find_files, load_benchmark
from megatron_sft.errors import ConfigError, DataError


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    mark = "!" if "loud" in quirks else "."
    return [
        Item(id=str(row.fields["id"]), messages=[{"role": "user", "content": f"{row.fields['q']}{mark}"}], answer="x")
        for row in rows
    ]


TINY = Benchmark(
    name="tiny",
    title="Tiny",
    group="general",
    source=Source(local_names=("a.jsonl", "b.jsonl"), hub_id="owner/tiny", hub_files=("test.jsonl",)),
    read=read,
    grader="exact",
    quirks={"loud": "With an exclamation mark.", "greedy": "Greedy.", "odd": "Oddly graded."},
    quirk_graders={"odd": "math"},
    quirk_presets={"greedy": Preset(temperature=0.0)},
)


def write(path: Path, *ids: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": i, "q": f"Q{i}"}) + "\n" for i in ids), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_first_file_that_is_there_is_read(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", 1, 2)
    assert [item.id for item in load_benchmark(TINY, tmp_path)] == ["1", "2"]
    write(tmp_path / "a.jsonl", 3)
    assert [item.id for item in load_benchmark(TINY, tmp_path)] == ["3"]


def test_limit_takes_the_first_and_never_more_than_there_are(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 5, 3, 4)
    assert [item.id for item in load_benchmark(TINY, tmp_path, limit=2)] == ["5", "3"]
    with pytest.raises(DataError, match=r"task tiny: .*a\.jsonl has 3 problems, fewer than --limit 4"):
        load_benchmark(TINY, tmp_path, limit=4)


def test_quirks_reach_the_prompt_the_grader_and_the_sampling(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1)
    assert load_benchmark(TINY, tmp_path)[0].messages[0]["content"] == "Q1."
    assert load_benchmark(TINY, tmp_path, quirks={"loud"})[0].messages[0]["content"] == "Q1!"
    assert [TINY.grader_with(quirks) for quirks in (set(), {"loud"}, {"odd", "loud"})] == ["exact", "exact", "math"]
    assert [TINY.preset_with(quirks).temperature for quirks in (set(), {"greedy"})] == [0.6, 0.0]
    with pytest.raises(ConfigError, match="tiny has no quirk 'other'; it has: loud, greedy, odd"):
        load_benchmark(TINY, tmp_path, quirks={"other"})


def test_ids_are_unique(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1, 2, 1)
    with pytest.raises(DataError, match=r"a\.jsonl: the id '1' occurs twice"):
        load_benchmark(TINY, tmp_path)


def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    command = "hf download --repo-type dataset owner/tiny test.jsonl"
    with pytest.raises(DataError, match=rf"task tiny: no file a\.jsonl or b\.jsonl in .* '{command}'"):
        load_benchmark(TINY, tmp_path)
    told = replace(TINY, source=Source(local_names=("a.jsonl",), origin="ask Ann"))
    with pytest.raises(DataError, match=r"no file a\.jsonl in .* \(--data\): ask Ann"):
        load_benchmark(told, tmp_path)


def test_all_files_are_read_where_all_are_needed(tmp_path: Path) -> None:
    both = replace(TINY, source=Source(local_names=("a.jsonl", "b.jsonl"), read_all=True))
    write(tmp_path / "b.jsonl", 2)
    with pytest.raises(DataError, match=r"no file a\.jsonl and b\.jsonl"):
        load_benchmark(both, tmp_path)
    write(tmp_path / "a.jsonl", 1)
    assert [item.id for item in load_benchmark(both, tmp_path)] == ["1", "2"]


def test_the_hubs_cache_is_used_where_it_holds_the_file(tmp_path: Path, hub_cache: Path) -> None:
    folder = hub_cache / "datasets--owner--tiny"
    cached = write(folder / "snapshots" / ("c" * 40) / "test.jsonl", 7)
    assert not (tmp_path / "a.jsonl").exists()
    with pytest.raises(DataError, match="nor in the hub's cache"):
        find_files(TINY, tmp_path)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c" * 40, encoding="utf-8")
    assert find_files(TINY, tmp_path) == [cached]
    two = replace(TINY.source, hub_files=("test.jsonl", "test2.jsonl"))
    with pytest.raises(DataError, match=r"owner/tiny test\.jsonl test2\.jsonl"):
        find_files(replace(TINY, source=two), tmp_path)


def test_rows_are_drawn_where_there_is_no_file(tmp_path: Path) -> None:
    def make(size: int, seed: int) -> list[Row]:
        return [Row(fields={"id": i, "q": f"{seed}-{i}"}, where=f"drawn, row {i + 1}") for i in range(size)]

    drawn = replace(TINY, source=Source(), make_rows=make, default_size=3)
    contents: list[Any] = [item.messages[0]["content"] for item in load_benchmark(drawn, tmp_path, seed=9)]
    assert contents == ["9-0.", "9-1.", "9-2."]
    assert len(load_benchmark(drawn, tmp_path, limit=5)) == 5
