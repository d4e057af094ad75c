"""Which answers are asked for, and where they are filed."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from evals.config import EvaluateConfig
from evals.items import load_items
from evals.missing import MissingAnswers
from evals.plan import make_plan
from evals.records import KeyedRecords
from evals.task import Task
from megatron_sft.generation.engine_messages import Completion
from megatron_sft.generation.model_folder import open_models


def test_two_tasks_that_ask_the_same_both_get_the_answer(random_model: Path, data: Path, tmp_path: Path) -> None:
    items = load_items(data, "addition", None)[:2]
    task = Task(name="addition", group="in-domain", grader="exact", items=items)
    config = EvaluateConfig(tasks="addition,again", output=tmp_path, base=random_model, temperature=0.0, max_tokens=9)
    model = open_models((random_model,))[0]
    plans = [make_plan(config, model, one) for one in (task, replace(task, name="again", items=items[:1]))]
    with closing(MissingAnswers(tmp_path, plans)) as missing:
        assert (len(missing), missing.num_reused) == (2, 0)
        requests = missing.requests()
        assert len({request.key for request in requests}) == 2
        missing.file([Completion(key=one.key, token_ids=[65], finish_reason="length") for one in requests], {})
    for plan in plans:
        records = KeyedRecords(plan.records_path(tmp_path, "generations"))
        assert all(records[answer.key]["item"] == answer.item.id for answer in plan.answers)
        assert len(records.path.read_text().splitlines()) == len(plan.answers)
    with closing(MissingAnswers(tmp_path, plans)) as missing:
        assert (len(missing), missing.num_reused) == (0, 3)
