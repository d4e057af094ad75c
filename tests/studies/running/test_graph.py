"""A study as stages: every input is made before, commands are the trainer's, conditions win, options have an effect."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.resolve import resolve
from megatron_sft.stages.graph import Graph, Stage
from megatron_sft.studies.running.graph import Choices, build
from megatron_sft.studies.study import Study, load, read
from megatron_sft.train.options import TrainOptions

ROOT = Path(__file__).resolve().parents[3]
MINI = Path(__file__).parents[1] / "mini.yaml"


def choices(study: Study, **more: object) -> Choices:
    facts: dict[str, object] = {
        "study_file": MINI,
        "arms": tuple(study.arms),
        "asked_benchmarks": tuple(study.benchmarks),
    }
    return Choices(**(facts | more))  # type: ignore[arg-type]


def paper_graph(**more: object) -> Graph:
    study = load("paper")
    return build(study, choices(study, models=Path("m"), benchmarks=Path("b"), **more))


def trainer_options(stage: Stage) -> TrainOptions:
    [words] = stage.filled(Path("out"))
    return resolve(TrainOptions, prog="t", argv=words[words.index("megatron_sft/pretrain_sft.py") + 1 :]).options


def test_every_input_is_an_output_of_an_earlier_stage() -> None:
    study = load(str(MINI))
    graph = build(study, choices(study))
    made: dict[str, set[str]] = {}
    num_inputs = 0
    for stage in graph:
        text = [word for words in stage.commands for word in words]
        outputs = {text[i + 1] for i, word in enumerate(text) if word in ("--output", "--save")}
        before = graph.ancestors([stage.name]) - {stage.name}
        for word in {word for word in text if word.startswith("{output}/")} - outputs:
            makers = [name for name, paths in made.items() if any(Path(word).is_relative_to(path) for path in paths)]
            assert makers, f"{stage.name}: nothing makes {word}"
            assert set(makers) <= before | {stage.name}, f"{stage.name}: {word} is made by {makers}"
            num_inputs += 1
        made[stage.name] = {*stage.outputs, *outputs}
    assert num_inputs > 20
    assert [stage.name for stage in graph][-1] == "report"


def test_programs_exist_and_no_word_is_left_open() -> None:
    for stage in paper_graph():
        for words in stage.filled(Path("out")):
            program = "megatron_sft/pretrain_sft.py" if words[0] == "torchrun" else words[0]
            assert (ROOT / program).is_file(), program
            assert not [word for word in words if re.search(r"\{[^ ]*\}", word)], shlex.join(words)


def test_paper_has_a_training_for_each_run_with_its_conditions() -> None:
    study, graph = load("paper"), paper_graph(layout="8x80GB")
    trainings = [stage for stage in graph if stage.kind == "train"]
    assert len(trainings) == 33
    options = {stage.name.removeprefix("train-"): trainer_options(stage) for stage in trainings}
    for arm, option in options.items():
        conditions = study.conditions(arm)
        assert (option.lr, option.global_batch_size) == (conditions.learning_rate, conditions.batch)
        assert option.listed_save_iters() == list(study.evaluated_steps(arm)[1:])
        assert option.seed == 0
    assert options["14b-math-cot"].tensor_model_parallel_size == 8
    assert options["14b-16-epochs-constant-1e-4"].lr_decay_style == "constant"
    assert {stage.resources.gpus for stage in trainings} == {8}


def test_shards_are_made_once_for_each_data_set_and_model() -> None:
    graph = paper_graph()
    shards = [stage.name for stage in graph if stage.name.startswith("shards-")]
    assert len(shards) == len(set(shards)) == 26
    numina = graph["shards-NuminaMath-20k-InternLM2.5-20B"].commands[0]
    assert numina[numina.index("--max-length") + 1] == "10000"
    assert "data-Math-CoT-20k" in graph["data-Math-CoT-2.5k"].after
    assert "{output}/data/Math-CoT-20k/rows.parquet" in " ".join(graph["data-Math-CoT-2.5k"].commands[0])


def test_only_some_arms() -> None:
    study = load("paper")
    more = {"models": Path("m"), "benchmarks": Path("b"), "arms": ("1.7b-math-cot",)}
    names = [stage.name for stage in build(study, choices(study, **more))]
    assert names == [
        *("data-Math-CoT-20k", "shards-Math-CoT-20k-Qwen3-1.7B-Base", "evaluate-base-Qwen3-1.7B-Base"),
        *("train-1.7b-math-cot", "convert-1.7b-math-cot", "evaluate-1.7b-math-cot", "report"),
    ]


def test_a_trial_has_steps_of_its_own_and_a_warm_up_that_fits() -> None:
    options = trainer_options(paper_graph(trial=(2, 4))["train-1.7b-math-cot"])
    assert (options.train_iters, options.listed_save_iters(), options.lr_warmup_iters) == (4, [2, 4], 0)
    assert "report" in paper_graph(trial=(10, 20))
    graph = paper_graph(trial=(3,))
    assert "report" not in graph
    assert graph["convert-1.7b-math-cot"].commands[0][-1].endswith("/hf/1.7b-math-cot/iter_0000003")


def test_evaluations_dealt_into_parts() -> None:
    study = load(str(MINI))
    graph = build(study, choices(study, evaluation_parts=5))
    parts = [stage for stage in graph if stage.name.startswith("evaluate-without-part-")]
    steps = [words[words.index("--steps") + 1] for stage in parts for words in stage.commands]
    assert steps == ["2", "4"]
    assert parts[1].outputs[0] == "{output}/eval/arms/without/part-2/results.json"
    assert {"evaluate-without-part-1", "evaluate-without-part-2"} <= set(graph["report"].after)


def test_files_that_commands_name_count_by_their_content(tmp_path: Path) -> None:
    source, over = tmp_path / "rows.jsonl", tmp_path / "here.yaml"
    source.write_text("{}")
    over.write_text(f"data_sets: {{Math-CoT-20k: {{options: --source math-cot-20k={source} --expected-rows 1}}}}")
    study = read(ROOT / "megatron_sft/studies/paper.yaml", shown_as="paper", over=over)
    graph = build(study, choices(study, models=Path("m"), benchmarks=Path("b")))
    stage = graph["data-Math-CoT-20k"]
    assert stage.inputs[str(source)] == source
    assert stage.inputs["models/Qwen3-14B-Base/tokenizer.json"] == Path("m/Qwen3-14B-Base/tokenizer.json")
    assert "models/Qwen3-14B-Base" not in stage.inputs
    assert graph["train-14b-math-cot"].inputs["models/Qwen3-14B-Base"] == Path("m/Qwen3-14B-Base")


def test_a_base_model_is_evaluated_once_and_alone() -> None:
    study = load(str(MINI))
    words = build(study, choices(study))["evaluate-base-tiny"].commands[0]
    assert words[words.index("--base") + 1] == "{output}/models/tiny"
    assert "--model" not in words
    assert words[words.index("--tasks") + 1] == "addition,sorting"
    assert words[words.index("--in-domain") + 1] == "addition"
    some = build(study, choices(study, asked_benchmarks=("sorting",)))["evaluate-base-tiny"].commands[0]
    assert some[some.index("--tasks") + 1] == "sorting"
    assert "--in-domain" not in some


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    study = load("paper")
    with pytest.raises(ConfigError, match="--models is missing: Qwen3-14B-Base is the folder"):
        build(study, choices(study))
    with pytest.raises(ConfigError, match="--benchmarks is missing"):
        build(study, choices(study, models=Path("m")))
    with pytest.raises(ConfigError, match="has no key `run`"):
        build(replace(study, run=None), choices(study))
    text = MINI.read_text()
    assert text.count("addition --style trace") == 1
    text = text.replace("addition --style trace", "addition {answers}/x")
    path = tmp_path / "study.yaml"
    path.write_text(text)
    changed = read(path, shown_as="study.yaml")
    assert build(changed, choices(changed))["data-traces"].after == ("data-answers",)
