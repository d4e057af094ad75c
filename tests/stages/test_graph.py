"""Graphs of stages as data: names, order, and the words of commands."""

from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.stages.graph import Graph, Resources, Stage, command


def stage(name: str, *after: str, words: tuple[str, ...] = ("true",), **more: object) -> Stage:
    facts: dict[str, object] = {"kind": "k", "title": name, "outputs": (), "commands": (words,), "after": after}
    return Stage(name=name, **(facts | more))  # type: ignore[arg-type]


def test_stages_come_after_those_they_depend_on_and_else_in_the_order_given() -> None:
    graph = Graph([stage("report", "b2", "a2"), stage("a1"), stage("a2", "a1"), stage("b1"), stage("b2", "b1")])
    assert [one.name for one in graph] == ["b1", "b2", "a1", "a2", "report"]
    assert graph.ancestors(["a2"]) == {"a1", "a2"}
    assert len(graph) == 5
    assert "b1" in graph
    assert "c" not in graph


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage("a", "b")], "stage a: comes after b, which there is not"),
        ([stage("a", "b"), stage("b", "a")], "in a circle: "),
        ([stage("a"), stage("a")], "two stages are called a"),
        ([stage("a/b")], "cannot be the name of a file"),
    ],
)
def test_what_is_no_graph_is_refused(stages: list[Stage], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Graph(stages)


def test_places_and_launcher_are_filled_in() -> None:
    words = ("{torchrun}", "train.py", "--data={output}/shards", "--init-from", "{models/base}", '{"a": 1}')
    one = stage("a", words=words, inputs={"models/base": Path("/m/b")}, resources=Resources(processes=4))
    assert one.filled(Path("runs/x")) == [
        [
            *("torchrun", "--standalone", "--nproc-per-node", "4", "train.py", "--data=runs/x/shards"),
            *("--init-from", "/m/b", '{"a": 1}'),
        ]
    ]
    assert one.filled(Path("x"), ["srun", "torchrun"])[0][:3] == ["srun", "torchrun", "train.py"]


def test_command_fills_in_words_and_lists() -> None:
    words = command("sort --key {key} {files} {out}/x {output}/y", key=2, files=["a b", Path("c")], out="d e")
    assert words == ("sort", "--key", "2", "a b", "c", "d e/x", "{output}/y")
