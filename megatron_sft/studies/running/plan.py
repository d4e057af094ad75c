"""`tools/run_study --plan`: each stage, what would become of it, what it costs, and totals."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from megatron_sft.stages.graph import Graph
from megatron_sft.stages.local import Verdict
from megatron_sft.studies.running.cost import Costs, TrainingCost, size_text
from megatron_sft.studies.running.graph import Choices, evaluated_steps, recipe_of


@dataclass(frozen=True, kw_only=True)
class ArmCost:
    """What an arm costs."""

    training: TrainingCost
    num_checkpoints: int
    answers: int
    """Of all its checkpoints."""
    answer_hours: float | None

    @property
    def export_bytes(self) -> int:
        """All exports; 0 where the model is not known."""
        return self.num_checkpoints * (self.training.export_bytes or 0)

    @property
    def checkpoint_bytes(self) -> int:
        """All checkpoints; 0 where the model is not known."""
        return self.num_checkpoints * (self.training.checkpoint_bytes or 0)


def lines(verdicts: Mapping[str, Verdict], costs: Costs, choices: Choices) -> Iterator[str]:
    """Return the plan as lines of text.

    Args:
        verdicts: of the stages that are asked for.
        costs: of the study.
        choices: arms, steps and benchmarks.
    """
    arms = {arm: _cost(costs, choices, arm) for arm in choices.arms}
    bases = {model: _base_hours(costs, choices, model) for model in _models(costs, choices)}
    facts = {f"train-{arm}": _training_text(arm_cost.training, costs) for arm, arm_cost in arms.items()}
    for arm, cost in arms.items():
        facts[f"convert-{arm}"] = f"{size_text(cost.export_bytes)} of exports" if cost.export_bytes else ""
        for name in verdicts:
            if name == f"evaluate-{arm}" or name.startswith(f"evaluate-{arm}-part-"):
                facts[name] = _hours_text(f"{cost.answers:,} answers", cost.answer_hours)
    for model, hours in bases.items():
        facts[f"evaluate-base-{model}"] = _hours_text(f"{costs.answers(choices.asked_benchmarks):,} answers", hours)
    width = max(len(name) for name in verdicts)
    for name, verdict in verdicts.items():
        shown = "; ".join(filter(None, [_state(verdict), facts.get(name, "")]))
        yield f"{name:{width}}  {verdict.stage.title}: {shown}"
    yield ""
    yield from _totals(arms, bases.values(), costs)


def with_hours(graph: Graph, costs: Costs, choices: Choices) -> Graph:
    """Return the graph with estimated hours of its trainings, where they are known; a scheduler wants a limit."""
    hours = {}
    for arm in choices.arms:
        cost = _cost(costs, choices, arm).training
        if cost.gpu_hours is not None:
            hours[f"train-{arm}"] = cost.gpu_hours / costs.num_gpus
    return Graph(
        replace(stage, resources=replace(stage.resources, hours=hours[stage.name])) if stage.name in hours else stage
        for stage in graph
    )


def _cost(costs: Costs, choices: Choices, arm: str) -> ArmCost:
    steps = evaluated_steps(costs.study, arm, choices.trial)
    conditions = costs.study.conditions(arm)
    last = steps[-1] if choices.trial else conditions.last_step
    names = choices.asked_benchmarks
    hours = costs.answer_hours(conditions.model, conditions.data_set, names)
    return ArmCost(
        training=costs.training(arm, recipe_of(costs.study, arm, choices.layout), steps, last),
        num_checkpoints=len(steps),
        answers=len(steps) * costs.answers(names),
        answer_hours=None if hours is None else len(steps) * hours,
    )


def _models(costs: Costs, choices: Choices) -> list[str]:
    return list(dict.fromkeys(costs.study.conditions(arm).model for arm in choices.arms))


def _base_hours(costs: Costs, choices: Choices, model: str) -> float | None:
    return costs.answer_hours(model, None, choices.asked_benchmarks)


def _training_text(cost: TrainingCost, costs: Costs) -> str:
    text = _hours_text(f"{cost.steps:,} steps, {cost.samples:,} samples", cost.gpu_hours)
    if cost.checkpoint_bytes:
        text += f", {size_text(cost.checkpoint_bytes)} a checkpoint"
    return text if cost.fits else f"{text}; DOES NOT FIT into {costs.num_gpus} GPUs so: see --layout and tools/plan"


def _hours_text(text: str, hours: float | None) -> str:
    return text if hours is None else f"{text}, {hours:,.0f} GPU hours"


def _state(verdict: Verdict) -> str:
    mark, decision = verdict.mark, verdict.decision
    if decision == "done" and mark is not None:
        return f"done in {mark.seconds:.0f} s"
    if decision == "waits":
        return "to do" if mark is None or not mark.parts else f"to do again ({verdict.why})"
    why = f" ({verdict.why})" if verdict.why else ""
    return {"do afresh": "changed", "blocked": "to do"}.get(decision, decision) + why


def _totals(arms: Mapping[str, ArmCost], bases: Iterable[float | None], costs: Costs) -> Iterator[str]:
    run, bases = costs.study.run, list(bases)
    assert run is not None
    every = list(arms.values())
    trained = [arm.training for arm in every]
    yield (
        f"trainings    {len(every)} arms, {sum(one.steps for one in trained):,} steps, "
        f"{sum(one.samples for one in trained):,} samples{_sum_text([one.gpu_hours for one in trained])}"
        f"{_duration_text([one.gpu_hours for one in trained], costs.num_gpus)}"
    )
    answers = sum(arm.answers for arm in every) + len(bases) * costs.answers(tuple(costs.study.benchmarks))
    num_models = sum(arm.num_checkpoints for arm in every) + len(bases)
    yield (
        f"evaluations  {num_models} models, {answers:,} answers"
        f"{_sum_text([*(arm.answer_hours for arm in every), *bases])}"
    )
    exports, checkpoints = (sum(getattr(arm, f"{kind}_bytes") for arm in every) for kind in ("export", "checkpoint"))
    if exports:
        yield f"disk         {_disk_text(every, exports, checkpoints, run.keep_checkpoints == 'all')}"
    if costs.num_gpus:
        machine = costs.machine
        yield (
            f"assumed      {costs.num_gpus} GPUs for a training, {machine.peak_flops / 1e12:g} TFLOP/s each at "
            f"{machine.training_efficiency:.0%} (docs/parallelism.md); generating at {machine.answer_efficiency:.0%}, "
            f"{_speeds(costs, arms)}"
        )
        yield (
            "             answers as long as the study's `answer_tokens`, in proportion to the samples of the arm's "
            "data; judges are not counted"
        )
    yield "estimates, not measurements"


def _disk_text(arms: Sequence[ArmCost], exports: int, checkpoints: int, keeps_all: bool) -> str:
    if keeps_all:
        return f"{size_text(exports)} of exports, {size_text(checkpoints)} of checkpoints"
    kept = sum(arm.training.checkpoint_bytes or 0 for arm in arms)
    peak = max(arm.checkpoint_bytes for arm in arms)
    return (
        f"{size_text(exports)} of exports, {size_text(kept)} of checkpoints that stay (the last of each arm); an "
        f"arm at work takes up to {size_text(peak)} more, and all checkpoints would be {size_text(checkpoints)}"
    )


def _sum_text(hours: Sequence[float | None]) -> str:
    known = [one for one in hours if one is not None]
    if not known:
        return ""
    missing = f" ({len(hours) - len(known)} not known)" if len(known) < len(hours) else ""
    return f", {sum(known):,.0f} GPU hours{missing}"


def _duration_text(hours: Sequence[float | None], num_gpus: int) -> str:
    known = [one for one in hours if one is not None]
    return f": {sum(known) / num_gpus:,.0f} hours one after another on {num_gpus} GPUs" if known else ""


def _speeds(costs: Costs, arms: Mapping[str, ArmCost]) -> str:
    """Return how many tokens a second the largest and the smallest model give."""
    found = {}
    for arm in arms:
        model = costs.study.conditions(arm).model
        speed = costs.tokens_per_second(model)
        if speed is not None:
            found[model] = speed
    slowest, fastest = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    return f"{found[slowest]:,.0f} tokens a second of a GPU for {slowest}, {found[fastest]:,.0f} for {fastest};"
