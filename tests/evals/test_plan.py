"""Plans: what decides an answer is in its key, and nothing is cut to fit the context."""

from dataclasses import replace
from pathlib import Path

import pytest

from evals.config import EvaluateConfig
from evals.items import load_items
from evals.plan import TaskPlan, make_plan
from evals.task import Task
from megatron_sft.errors import ConfigError
from megatron_sft.generation.model_folder import ModelFolder, open_models


@pytest.fixture
def model(random_model: Path) -> ModelFolder:
    return open_models((random_model,))[0]


@pytest.fixture
def task(data: Path) -> Task:
    return Task(name="addition", group="in-domain", grader="exact", items=load_items(data, "addition", None))


def plan_with(model: ModelFolder, task: Task, **options: object) -> TaskPlan:
    config = EvaluateConfig(model=(model.path,), tasks="addition", output=Path("unused"), **options)
    return make_plan(config, model, task)


def keys(plan: TaskPlan) -> list[str]:
    return [answer.key for answer in plan.answers]


def test_every_answer_has_its_own_key_and_seed(model: ModelFolder, task: Task) -> None:
    plan = plan_with(model, task, num_samples_per_item=3)
    assert len(set(keys(plan))) == len({answer.seed for answer in plan.answers}) == 18
    assert plan.sampling.stop_token_ids == sorted(model.tokenizer.stop_ids)
    assert plan.answers[0].prompt_token_ids == model.tokenizer.encode_prompt(task.items[0].messages)


def test_more_samples_keep_the_keys_that_are_there(model: ModelFolder, task: Task) -> None:
    assert set(keys(plan_with(model, task))) < set(keys(plan_with(model, task, num_samples_per_item=2)))


@pytest.mark.parametrize(
    "change", [{"temperature": 0.7}, {"top_p": 0.9}, {"max_tokens": 7}, {"seed": 1}, {"dtype": "bfloat16"}]
)
def test_what_changes_answers_changes_keys(model: ModelFolder, task: Task, change: dict[str, object]) -> None:
    assert not set(keys(plan_with(model, task))) & set(keys(plan_with(model, task, **change)))


def test_another_model_has_other_keys_but_the_same_seeds(model: ModelFolder, task: Task) -> None:
    one, other = plan_with(model, task), plan_with(replace(model, fingerprint="other"), task)
    assert not set(keys(one)) & set(keys(other))
    assert [answer.seed for answer in one.answers] == [answer.seed for answer in other.answers]


def test_greedy_answers_do_not_depend_on_the_seed(model: ModelFolder, task: Task) -> None:
    assert keys(plan_with(model, task, temperature=0.0, seed=1)) == keys(
        plan_with(model, task, temperature=0.0, seed=2)
    )


def test_the_default_budget_is_what_the_context_leaves(model: ModelFolder, task: Task) -> None:
    longest = max(len(answer.prompt_token_ids) for answer in plan_with(model, task).answers)
    assert plan_with(model, task).sampling.max_tokens == 256 - longest
    assert plan_with(model, task, max_model_len=100).sampling.max_tokens == 100 - longest


def test_a_budget_beyond_the_context_is_refused_not_cut(model: ModelFolder, task: Task) -> None:
    with pytest.raises(ConfigError, match=r"prompt of addition-\S+ has \d+ tokens.*exceeds the context of 256"):
        plan_with(model, task, max_tokens=250)
    with pytest.raises(ConfigError, match=r"exceeds the context of 4: "):
        plan_with(model, task, max_model_len=4)
    with pytest.raises(ConfigError, match=r"--max-model-len 512 is more than"):
        plan_with(model, task, max_model_len=512)


def test_a_template_that_opens_the_trace_is_noticed(tiny_tokenizer: Path, model: ModelFolder, task: Task) -> None:
    class Opening:
        """The model's tokenizer with a prompt that ends in `<think>`, as some models' templates make it."""

        stop_ids = model.tokenizer.stop_ids
        decode = model.tokenizer.decode

        def encode_prompt(self, messages: list[dict[str, str]]) -> list[int]:
            return [*model.tokenizer.encode_prompt(messages), *model.tokenizer.encode("<think>\n")]

    assert not any(answer.prompt_opens_think for answer in plan_with(model, task).answers)
    opened = plan_with(replace(model, tokenizer=Opening()), task)
    assert all(answer.prompt_opens_think for answer in opened.answers)
