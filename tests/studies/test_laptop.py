"""The laptop's study: whole, its data sets what it says of them, its predictions about arms that it has."""

import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from evals.tasks.registry import builtin_benchmarks
from megatron_sft.data import make_tasks
from megatron_sft.studies.running.graph import Choices, build
from megatron_sft.studies.study import Study, load

REQUESTS = {"locked_code", "open_code"}


@pytest.fixture(scope="module")
def study() -> Study:
    return load("laptop")


def option(command: str, name: str) -> str:
    words = shlex.split(command)
    return words[words.index(name) + 1]


def test_three_models_have_four_data_sets_each(study: Study) -> None:
    pairs = {(study.conditions(arm).model, study.conditions(arm).data_set) for arm in study.arms}
    models, data_sets = ("large", "medium", "small"), ("traces", "no-traces", "low-quality", "countdown")
    assert pairs == {(model, data_set) for model in models for data_set in data_sets}
    assert len(study.arms) == 12
    for arm in study.arms:
        conditions = study.conditions(arm)
        assert arm == f"{conditions.model}-{conditions.data_set}"
        assert 6 <= len(study.evaluated_steps(arm)) - 1 <= 8
        assert study.evaluated_steps(arm)[-1] == conditions.last_step
        # Early ones, within the warm-up, as the paper's.
        assert study.evaluated_steps(arm)[1] <= conditions.last_step / 64
        assert conditions.batch * conditions.last_step == conditions.epochs * 1280


def test_models_differ_in_size_and_vllm_can_serve_them(study: Study) -> None:
    assert study.run is not None
    sizes = []
    for model in ("small", "medium", "large"):
        config = study.run.models[model].config
        assert config is not None
        assert config["head_dim"] >= 32
        assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]
        assert config["num_attention_heads"] % config["num_key_value_heads"] == 0
        sizes.append(config["num_hidden_layers"] * config["hidden_size"] ** 2)
    assert sizes[0] * 2 < sizes[1]
    assert sizes[1] * 2 < sizes[2]


def test_every_benchmark_has_its_held_out_problems(study: Study) -> None:
    assert study.run is not None
    assert study.run.held_out is not None
    made: dict[str, int] = {}
    for command in study.run.held_out.make:
        assert option(command, "--num-train") == "0"
        made |= dict.fromkeys(option(command, "--tasks").split(","), int(option(command, "--num-held-out")))
    known = builtin_benchmarks()
    for name, benchmark in study.benchmarks.items():
        family = known[name].source.local_names[0].split(".")[0] if name in known else name
        assert made.pop(family) == benchmark.num_items
        if name in known:
            assert known[name].group == benchmark.group
    assert not made
    groups = [benchmark.group for benchmark in study.benchmarks.values()]
    assert groups.count("out-of-domain") >= 3
    assert [name for name, one in study.benchmarks.items() if one.better == "lower"] == ["locked_codes"]
    assert study.benchmarks["locked_codes"].group == "safety"


def rows_of(study: Study, data_set: str, folder: Path) -> list[dict]:
    """Make the rows of a fine-tuning set by its own commands."""
    assert study.run is not None
    spec = study.run.data_sets[data_set]
    for command in spec.make:
        program, *words = shlex.split(command.replace("{output}", str(folder / data_set)))
        assert program == "tools/make_tasks"
        assert make_tasks.main(words) == 0
    paths = [path for pattern in spec.rows for path in sorted((folder / data_set).glob(pattern))]
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def test_data_sets_are_what_the_study_says(study: Study, tmp_path: Path) -> None:
    assert study.run is not None
    sets = study.run.data_sets
    assert set(sets) == {*study.axes.data_set, "mixture"}
    rows = {name: rows_of(study, name, tmp_path) for name in sets}
    assert rows["no-traces"] == rows["traces"]
    assert "--strip-think" in sets["no-traces"].shards.split()
    assert len(rows["traces"]) == 1280
    # The same problems in the same order, unverified and partly wrong.
    assert [row["message"] for row in rows["low-quality"]] == [row["message"] for row in rows["traces"]]
    assert all(row["verified"] is False for row in rows["low-quality"])
    assert "--verify" not in sets["low-quality"].shards
    assert all("--verify" in sets[name].shards for name in ("traces", "no-traces", "countdown"))
    tasks = {name: {row["task"] for row in given} for name, given in rows.items()}
    assert tasks["traces"] == {"addition", "subtraction"}
    assert tasks["countdown"] == {"countdown"}
    assert tasks["mixture"] >= REQUESTS, "base models have learned to refuse"
    assert all(row["response"].startswith("<think>") for row in rows["countdown"])
    worked = {row["task"] for row in rows["mixture"] if row["response"].startswith("<think>")}
    assert worked == {"sorting", "counting"}, "no worked arithmetic before fine-tuning"


def test_every_claim_predicts_something(study: Study) -> None:
    drawn = {claim for comparison in study.comparisons for claim in comparison.claims}
    assert {str(claim) for claim in drawn} == set(study.claims)
    text = (Path(make_tasks.__file__).parents[1] / "studies" / "laptop.yaml").read_text(encoding="utf-8")
    section = text[text.index("\nclaims:") : text.index("\ncomparisons:")]
    assert len(re.findall(r"^ +predictions:$", section, re.MULTILINE)) == len(study.claims)


def test_its_graph_is_whole(study: Study) -> None:
    everything = {"arms": tuple(study.arms), "asked_benchmarks": tuple(study.benchmarks)}
    graph = build(study, Choices(study_file=Path("laptop.yaml"), **everything))
    kinds = Counter(stage.kind for stage in graph)
    assert kinds["train"] == kinds["convert"] == 12
    assert kinds["evaluate"] == 12 + 3
    assert kinds["models"] == 2 * 3
    assert kinds["report"] == 1
    assert graph.ancestors(["report"]) == {stage.name for stage in graph}, "nothing is made for nothing"
    for arm in study.arms:
        conditions = study.conditions(arm)
        needed = graph.ancestors([f"evaluate-{arm}"])
        assert {f"train-{arm}", f"export-{conditions.model}", f"shards-{conditions.data_set}", "held-out"} <= needed
        (command,) = graph[f"train-{arm}"].commands
        assert command[command.index("--save-iters") + 1] == "5,10,20,40,80,160,320"
        assert command[command.index("--device") + 1] == "cpu"
        (command,) = graph[f"evaluate-{arm}"].commands
        assert command[command.index("--in-domain") + 1] == "addition,subtraction"
        assert command[command.index("--tasks") + 1] == ",".join(study.benchmarks)
