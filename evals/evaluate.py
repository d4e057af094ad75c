"""Score checkpoints on benchmarks: generate -> judge -> grade -> aggregate, each stage on append-only files.

The protocol, the columns and the file formats are in docs/evaluation-protocol.md.
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from evals.aggregate import Provenance, aggregate
from evals.answers import write_answers
from evals.compare import GradedPlan, compare
from evals.config import BasePrompt, EvaluateConfig
from evals.generate import generate
from evals.grade import grade
from evals.graders.registry import JUDGE, SEVERAL_AT_A_TIME, builtin_graders
from evals.judging import Judging, open_judges
from evals.models import find_models
from evals.plan import TaskPlan, make_plan
from evals.publish import format_table, merge_comparisons, merge_results, write_markdown, write_tensorboard
from evals.task import load_tasks
from megatron_sft import cli
from megatron_sft.generation.model_folder import ModelFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    return cli.run(EvaluateConfig, run, prog="evaluate", argv=argv)


def run(config: EvaluateConfig) -> None:
    """Run the stages of `config`."""
    tasks = load_tasks(config)
    judging = open_judges(config, tasks)
    models = find_models(config)
    plans_by_model = [[make_plan(config, model, task, _format(config, model)) for task in tasks] for model in models]
    print_plan(config, plans_by_model)
    plans = [plan for plans in plans_by_model for plan in plans]
    if config.stage in ("all", "generate"):
        generate(config, plans_by_model)
    if config.stage in ("all", "judge"):
        judging.ask(config.output, plans)
    if config.stage in ("all", "grade"):
        publish(config, *grade_and_aggregate(config, plans, judging))


def publish(config: EvaluateConfig, entries: list[dict[str, Any]], graded: list[GradedPlan]) -> None:
    """Write results.json, comparisons.json, results.md and TensorBoard events, and print the table."""
    results_path = config.output / "results.json"
    results = merge_results(results_path, entries)
    compared = merge_comparisons(config.output / "comparisons.json", compare(graded, config.seed), results)
    write_markdown(config.output / "results.md", results, compared)
    tensorboard_dir = config.tensorboard_dir or config.output / "tensorboard"
    num_without = write_tensorboard(tensorboard_dir, results)
    print(format_table(entries))
    if num_without:
        print(f"{num_without} results are not in TensorBoard: their models have no megatron_sft.json with an iteration")
    print(f"results: {results_path}")


def _format(config: EvaluateConfig, model: ModelFolder) -> BasePrompt:
    is_base = config.base is not None and model.path == config.base.resolve()
    return config.base_prompt if is_base else "chat"


def print_plan(config: EvaluateConfig, plans_by_model: list[list[TaskPlan]]) -> None:
    """Say what will be evaluated and how; the options whose defaults depend on the model are resolved."""
    print(f"{len(plans_by_model)} models: {', '.join(plans[0].model.name for plans in plans_by_model)}")
    for plans in zip(*plans_by_model, strict=True):
        task, sampling = plans[0].task, plans[0].sampling
        budgets = "/".join(str(value) for value in sorted({plan.sampling.max_tokens for plan in plans}))
        quirks = f", the paper's {', '.join(task.quirks)}" if task.quirks else ""
        print(
            f"task {task.name} ({task.group}): {len(task.items)} problems x {sampling.num_samples_per_item}, "
            f"grader {task.grader}, at most {budgets} tokens, temperature {sampling.temperature}, "
            f"top-p {sampling.top_p}, stop ids {sampling.stop_token_ids}{quirks}"
        )
    print(f"seed {config.seed}", flush=True)


def grade_and_aggregate(
    config: EvaluateConfig, plans: list[TaskPlan], judging: Judging
) -> tuple[list[dict[str, Any]], list[GradedPlan]]:
    """Grade all plans, one grader of each kind for all of them; returns their results and the graded answers."""
    provenance = Provenance(commit=git_commit(Path(__file__).resolve().parent), seed=config.seed)
    makers = builtin_graders()
    names = sorted({plan.task.grader for plan in plans if plan.task.grader != JUDGE})
    entries, all_graded = [], []
    with ExitStack() as stack:
        graders = {name: stack.enter_context(closing(makers[name]())) for name in names}
        for plan in plans:
            if plan.task.grader == JUDGE:
                graded, name = judging.grade(config.output, plan)
            else:
                grader = graders[plan.task.grader]
                num_threads = config.num_grading_threads if plan.task.grader in SEVERAL_AT_A_TIME else 1
                graded, name = grade(config.output, plan, grader, num_threads), grader.name
            task = plan.task
            write_answers(config.output, plan, graded, task.ratios)
            entry = aggregate(plan, graded, name, provenance, ratios=task.ratios, published=task.published)
            entry["quirks"] = list(task.quirks)
            if task.grader == JUDGE:
                entry["judge_agreement"] = judging.agreement(config.output, plan)
            entries.append(entry)
            all_graded.append(GradedPlan(plan=plan, graded=graded, grader=name))
    return entries, all_graded


def git_commit(folder: Path) -> str | None:
    """Return the commit of the checkout that holds `folder`, or None where there is none."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
