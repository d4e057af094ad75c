"""`run_study --plan`: the paper's study without any file, and what a smaller one costs."""

import re
from pathlib import Path

import pytest

from megatron_sft.studies.__main__ import main
from megatron_sft.studies.running.cost import Costs, Machine, size_text
from megatron_sft.studies.running.graph import Choices, build
from megatron_sft.studies.running.plan import with_hours
from megatron_sft.studies.study import load

MINI = Path(__file__).parents[1] / "mini.yaml"


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main([*words, "--plan"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("layout", "num_gpus"), [("8x80GB", 8), ("64x80GB", 64)])
def test_the_paper_without_any_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, layout: str, num_gpus: int
) -> None:
    lines = plan(capsys, "paper", "--layout", layout, "--output", str(tmp_path / "run"))
    trainings = [line for line in lines if line.startswith("train-")]
    assert len(trainings) == 33
    for line in trainings:
        assert re.search(r"\d steps, [\d,]+ samples, [\d,]+ GPU hours, [\d.]+ GB a checkpoint$", line), line
    assert len([line for line in lines if line.startswith("evaluate-base-")]) == 9
    total = next(line for line in lines if line.startswith("trainings"))
    assert "33 arms, 21,440 steps, 5,201,920 samples" in total
    assert f"one after another on {num_gpus} GPUs" in total
    hours = int(re.search(r"([\d,]+) GPU hours", total)[1].replace(",", ""))  # type: ignore[index]
    # 2.7e9 tokens a thousand steps of 256 x 8,600; 6 operations per parameter and token at 40 % of 989 TFLOP/s.
    assert 1500 < hours < 4000
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    lines = plan(capsys, "paper", "--only", "14b-math-cot")
    assert "DOES NOT FIT" in next(line for line in lines if line.startswith("train-14b-math-cot "))


def test_without_gpus_there_are_steps_and_disk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = plan(capsys, str(MINI), "--output", str(tmp_path))
    training = next(line for line in lines if line.startswith("train-without"))
    assert "4 steps, 64 samples" in training
    assert "GPU hours" not in "\n".join(lines)
    # 320 x 64 of the embedding, 2 layers, no head of its own; 16 bytes each with moments and copy.
    layer = 64 * (2 * 64 + 2 * 32) + 3 * 64 * 192 + 2 * 64 + 2 * 32
    assert f"{size_text(16 * (320 * 64 + 2 * layer + 64))} a checkpoint" in training


def test_trainings_get_their_hours_for_a_scheduler() -> None:
    study, arms = load("paper"), ("1.7b-math-cot", "14b-math-cot")
    facts = {"study_file": Path("s"), "models": Path("m"), "benchmarks": Path("b"), "asked_benchmarks": ("math500",)}
    choices = Choices(arms=arms, layout="64x80GB", nodes=8, **facts)  # type: ignore[arg-type]
    costs = Costs(study=study, output=Path("out"), models=None, machine=Machine(), nodes=8)
    graph = with_hours(build(study, choices), costs, choices)
    small, large = (graph[f"train-{arm}"].resources.hours for arm in arms)
    assert small is not None
    assert large is not None
    # 640 steps of 2.2 million tokens, 6 operations per token and parameter, attention and waiting beside it.
    least = [6 * count * 640 * 256 * 8600 / (64 * 0.4 * 989e12) / 3600 for count in (1.7e9, 14.8e9)]
    assert least[0] < small < 3 * least[0]
    assert least[1] < large < 2 * least[1]
    assert graph["evaluate-1.7b-math-cot"].resources.hours is None


def test_answers_take_their_tokens_and_the_models_size() -> None:
    study = load("paper")
    costs = Costs(study=study, output=Path("out"), models=None, machine=Machine(), nodes=1)
    assert costs.answers(["math500", "aime24"]) == 1500 + 300
    hours = costs.answer_hours("Qwen3-1.7B-Base", None, ["aime24"])
    assert hours == pytest.approx(300 * 18000 * 2 * 1.7206e9 / (0.03 * 989e12) / 3600, rel=1e-3)
    short = costs.answer_hours("Qwen3-1.7B-Base", "Math-NoCoT-20k", ["aime24"])
    assert hours is not None
    assert short == pytest.approx(hours * 800 / 8600)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paper", "--only", "14b-math-cott"], "--only 14b-math-cott: there is none.*nearest name is 14b-math-cot"),
        (["paper", "--layout", "9x80GB"], "no such layout; known are 64x80GB, 8x80GB"),
        (["paper", "--layout", "64x80GB", "--models", "m", "--benchmarks", "b"], "takes 8 nodes, and this is one"),
        ([str(MINI), "--layout", "8x80GB"], "has no effect: no arm has a recipe of the paper"),
        ([str(MINI), "--models", "m"], "--models has no effect"),
        ([str(MINI), "--benchmarks", "m"], "--benchmarks has no effect"),
    ],
)
def test_options_that_cannot_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str
) -> None:
    assert main([*words, "--output", str(tmp_path / "run")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_sizes() -> None:
    assert [size_text(size) for size in (12, 1234, 207e9, 41.7e12, 5e15)] == [
        "12 B",
        "1.23 kB",
        "207 GB",
        "41.7 TB",
        "5,000 TB",
    ]
