"""The generate stage: has every planned answer that is not on file generated, and files it."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evals.config import EvaluateConfig
from evals.plan import PlannedAnswer, TaskPlan, max_model_len
from evals.records import KeyedRecords
from megatron_sft.generation.engine import Completion, EngineReport, EngineSettings, Request, make_context, run_engine


def generate(config: EvaluateConfig, plans_by_model: Sequence[list[TaskPlan]]) -> None:
    """Generate what is missing, with one engine per model; `config.num_engines` of them at a time.

    The records of OUTPUT/generations/<model>/<task>.jsonl are documented in docs/evaluation-protocol.md.

    Raises:
        EnvironmentProblem: when an engine fails; what was finished is on file.
    """
    num_total = sum(len(plan.answers) for plans in plans_by_model for plan in plans)
    context = make_context()
    bar = tqdm(total=num_total, unit="answers", disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(max_workers=config.num_engines) as executor:
        list(executor.map(lambda plans: generate_for_model(config, context, plans, bar), plans_by_model))


def generate_for_model(config: EvaluateConfig, context: Any, plans: list[TaskPlan], bar: "tqdm[Any]") -> None:
    """Generate the missing answers of one model, its tasks together."""
    stores = [KeyedRecords(plan.records_path(config.output, "generations")) for plan in plans]
    missing = {
        answer.key: (plan, store, answer)
        for plan, store in zip(plans, stores, strict=True)
        for answer in plan.answers
        if answer.key not in store
    }
    model = plans[0].model
    num_reused = sum(len(plan.answers) for plan in plans) - len(missing)
    bar.update(num_reused)
    if not missing:
        tqdm.write(f"{model.name}: all {num_reused} answers are on file", file=sys.stdout)
        return
    report = EngineReport()
    requests = [_request(plan, answer) for plan, _, answer in missing.values()]
    try:
        for completions in run_engine(context, engine_settings(config, plans), requests, report):
            for completion in completions:
                plan, store, answer = missing[completion.key]
                store.append(record_of(plan, answer, completion, report.versions))
            bar.update(len(completions))
    finally:
        for store in stores:
            store.close()
    speed = report.num_tokens / max(report.generate_s, 1e-9)
    tqdm.write(
        f"{model.name}: {len(missing)} answers generated, {num_reused} reused; engine ready in {report.start_s:.1f} s, "
        f"{report.num_tokens} tokens in {report.generate_s:.1f} s ({speed:.0f} tokens/s)",
        file=sys.stdout,
    )
    sys.stdout.flush()


def engine_settings(config: EvaluateConfig, plans: list[TaskPlan]) -> EngineSettings:
    """Return the settings of a model's engine."""
    model = plans[0].model
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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
        num_threads=max(1, num_cores // config.num_engines) if config.num_engines > 1 else None,
        log=Path(config.output, "logs", f"{model.name}.log").resolve(),
    )


def record_of(
    plan: TaskPlan, answer: PlannedAnswer, completion: Completion, versions: dict[str, str]
) -> dict[str, Any]:
    """Return the record to file: everything that grading needs, and where it comes from."""
    stopped = completion.finish_reason == "stop"
    text_ids = completion.token_ids[:-1] if stopped else completion.token_ids
    return {
        "key": answer.key,
        "item": answer.item.id,
        "sample": answer.sample,
        "finish_reason": completion.finish_reason,
        "num_tokens": len(completion.token_ids),
        "prompt_opens_think": answer.prompt_opens_think,
        "text": plan.model.tokenizer.decode(text_ids),
        "token_ids": completion.token_ids,
        "num_prompt_tokens": len(answer.prompt_token_ids),
        "seed": answer.seed,
        "model_fingerprint": plan.model.fingerprint,
        "engine": versions,
    }


def _request(plan: TaskPlan, answer: PlannedAnswer) -> Request:
    return Request(
        key=answer.key,
        prompt_token_ids=answer.prompt_token_ids,
        temperature=plan.sampling.temperature,
        top_p=plan.sampling.top_p,
        max_tokens=plan.sampling.max_tokens,
        stop_token_ids=plan.sampling.stop_token_ids,
        seed=answer.seed,
    )
