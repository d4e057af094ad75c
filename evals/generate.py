"""The generate stage: has every planned answer that is not on file generated, and files it."""

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evals.config import EvaluateConfig
from evals.missing import MissingAnswers
from evals.plan import TaskPlan, max_model_len
from megatron_sft.errors import EnvironmentProblem, IncompleteError
from megatron_sft.generation.endpoint_protocol import EndpointReport, EndpointSettings
from megatron_sft.generation.engine import Engine, make_context, run_engine
from megatron_sft.generation.engine_messages import EngineReport, EngineSettings, Request
from megatron_sft.generation.model_folder import ModelFolder
from megatron_sft.generation.sharing import SharedIterator, devices_of

PROBE = "Count from one to ten."
PROBE_TOKENS = 8


def generate(config: EvaluateConfig, plans_by_model: Sequence[list[TaskPlan]]) -> None:
    """Generate what is missing, `config.num_engines` checkpoints at a time.

    The records of OUTPUT/generations/<model>/<task>.jsonl are documented in docs/evaluation-protocol.md.

    Raises:
        EnvironmentProblem: when an engine fails; what was finished is on file.
        IncompleteError: when a server has not answered everything; the same command asks again.
    """
    num_total = sum(len(plan.answers) for plans in plans_by_model for plan in plans)
    if config.endpoint is not None:
        with tqdm(total=num_total, unit="answers", disable=not sys.stderr.isatty()) as bar:
            ask_server(config, plans_by_model[0], bar)
        return
    context = make_context(config.engine)
    bar = tqdm(total=num_total, unit="answers", disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(max_workers=config.num_engines) as executor:
        if config.reload_weights:
            # Each engine takes every so many-th checkpoint, one after the other.
            series = [plans_by_model[number :: config.num_engines] for number in range(config.num_engines)]
            list(executor.map(lambda one: generate_in_series(config, context, one, bar), filter(None, series)))
        else:
            list(executor.map(lambda plans: generate_for_model(config, context, plans, bar), plans_by_model))


def generate_for_model(config: EvaluateConfig, context: Any, plans: list[TaskPlan], bar: "tqdm[Any]") -> None:
    """Generate the missing answers of one model, its tasks together, with `config.data_parallel_size` engines."""
    with closing(MissingAnswers(config.output, plans)) as missing:
        bar.update(missing.num_reused)
        if not missing:
            missing.say_reused()
            return
        requests = SharedIterator(iter(missing.requests()))
        num = min(config.data_parallel_size, len(missing))
        settings = [engine_settings(config, plans, number) for number in range(num)]
        with ThreadPoolExecutor(max_workers=num) as executor:
            futures = [executor.submit(_run_one, context, one, requests, missing, bar) for one in settings]
            try:
                reports = [future.result() for future in futures]
            except BaseException:
                requests.stop()
                raise
        missing.say_generated(reports)


def ask_server(config: EvaluateConfig, plans: list[TaskPlan], bar: "tqdm[Any]") -> None:
    """Have a server generate the missing answers of its model."""
    # Here, as it needs httpx, which an engine does not.
    from megatron_sft.generation.endpoint import run_endpoint

    assert config.endpoint is not None
    settings = EndpointSettings(
        url=config.endpoint,
        model=str(config.model[0]),
        dialect=config.endpoint_dialect,
        api_key_variable=config.api_key_variable,
        max_num_requests=config.max_num_seqs,
        request_timeout=config.request_timeout,
    )
    with closing(MissingAnswers(config.output, plans)) as missing:
        bar.update(missing.num_reused)
        if not missing:
            missing.say_reused()
            return
        report = EndpointReport()
        for completions in run_endpoint(settings, missing.requests(), report):
            missing.file(completions, report.versions)
            bar.update(len(completions))
        missing.say_generated([report])
        if report.failures:
            first = report.failures[0]
            raise IncompleteError(
                f"{config.endpoint}: {len(report.failures)} of {len(missing)} answers could not be had, the first one "
                f"because of {first.reason}: {first.detail}. What was answered is on file; run the same command again"
            )


def _run_one(
    context: Any, settings: EngineSettings, requests: Iterable[Request], missing: MissingAnswers, bar: "tqdm[Any]"
) -> EngineReport:
    report = EngineReport()
    for completions in run_engine(context, settings, requests, report):
        missing.file(completions, report.versions)
        bar.update(len(completions))
    return report


def generate_in_series(
    config: EvaluateConfig, context: Any, plans_by_model: Sequence[list[TaskPlan]], bar: "tqdm[Any]"
) -> None:
    """Generate the missing answers of several checkpoints with one engine whose weights are replaced in between.

    Raises:
        EnvironmentProblem: when the models differ in more than their weights, or a model whose weights are others gives
            the very same answer to the probe as the one before: then the weights have not been replaced.
    """
    engine: Engine | None = None
    loaded: ModelFolder | None = None
    try:
        for plans in plans_by_model:
            with closing(MissingAnswers(config.output, plans)) as missing:
                bar.update(missing.num_reused)
                if not missing:
                    missing.say_reused()
                    continue
                model = plans[0].model
                if engine is None:
                    engine = Engine(context, engine_settings(config, plans, 0))
                else:
                    assert loaded is not None
                    _replace_weights(engine, loaded, model)
                loaded = model
                report = EngineReport()
                for completions in engine.answer(missing.requests(), report):
                    missing.file(completions, report.versions)
                    bar.update(len(completions))
                missing.say_generated([report])
    finally:
        if engine is not None:
            engine.__exit__(*sys.exc_info())


def _replace_weights(engine: Engine, old: ModelFolder, new: ModelFolder) -> None:
    if old.architecture != new.architecture:
        raise EnvironmentProblem(
            f"--reload-weights: {old.path} and {new.path} differ in more than their weights (config.json): "
            "evaluate them without it"
        )
    found = engine.load(new.path, probe_of(new))
    same = (found.before.token_ids, found.before.logprobs) == (found.after.token_ids, found.after.logprobs)
    if same and old.fingerprint != new.fingerprint:
        raise EnvironmentProblem(
            f"--reload-weights: with the weights of {new.path} the engine answers the probe exactly as with those of "
            f"{old.path}: they have not been replaced. Evaluate without --reload-weights"
        )
    said = "the same as before, as the weights are" if same else "another one"
    tqdm.write(f"{new.name}: weights replaced in {found.seconds:.1f} s; the probe's answer is {said}", file=sys.stdout)


def probe_of(model: ModelFolder) -> Request:
    """Return a greedy request whose log-probabilities tell sets of weights apart."""
    prompt = model.tokenizer.encode_prompt([{"role": "user", "content": PROBE}])
    return Request(
        key="probe",
        prompt_token_ids=prompt,
        temperature=0.0,
        top_p=1.0,
        max_tokens=PROBE_TOKENS,
        stop_token_ids=[],
        seed=None,
        logprobs=True,
    )


def engine_settings(config: EvaluateConfig, plans: list[TaskPlan], number: int) -> EngineSettings:
    """Return the settings of engine `number` of a model."""
    model = plans[0].model
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_engines = config.num_engines * config.data_parallel_size
    label = model.name if number == 0 else f"{model.name}-engine-{number}"
    return EngineSettings(
        model=model.path,
        dtype=config.dtype,
        max_model_len=max_model_len(config, model),
        max_num_seqs=config.max_num_seqs,
        tensor_parallel_size=config.tensor_parallel_size,
        seed=config.seed,
        kv_bytes_per_token=model.kv_bytes_per_token,
        kv_cache_bytes=None if config.kv_cache_gib is None else int(config.kv_cache_gib * 2**30),
        gpu_memory_utilization=config.gpu_memory_utilization,
        num_threads=max(1, num_cores // num_engines) if num_engines > 1 else None,
        kind=config.engine,
        log=Path(config.output, "logs", f"{label}.log").resolve(),
        visible_devices=devices_of(number, config.tensor_parallel_size) if config.data_parallel_size > 1 else None,
    )
