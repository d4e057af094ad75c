"""Answers by vLLM engines that this program starts, each in a process with GPUs of its own."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from megatron_sft.errors import UserError
from megatron_sft.generation.engine import make_context, run_engine
from megatron_sft.generation.engine_messages import EngineReport, EngineSettings, Request
from megatron_sft.generation.model_folder import ModelFolder
from megatron_sft.generation.sharing import SharedIterator, devices_of
from megatron_sft.traces.config import GenerateTracesConfig
from megatron_sft.traces.work import Backend, Desk, Job


def engines_backend(config: GenerateTracesConfig, model: ModelFolder, max_model_len: int) -> Backend:
    """Return the backend that runs `config.data_parallel_size` engines, or one where other processes run the rest."""
    num_engines = config.data_parallel_size if config.data_parallel_rank is None else 1
    settings = [engine_settings(config, model, max_model_len, number, num_engines) for number in range(num_engines)]
    return lambda jobs, desk: _run(settings, jobs, desk)


def engine_settings(
    config: GenerateTracesConfig, model: ModelFolder, max_model_len: int, number: int, num_engines: int
) -> EngineSettings:
    """Return the settings of engine `number`."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    label = number if config.data_parallel_rank is None else config.data_parallel_rank
    return EngineSettings(
        model=model.path,
        dtype=config.dtype,
        max_model_len=max_model_len,
        max_num_seqs=config.max_num_seqs,
        tensor_parallel_size=config.tensor_parallel_size,
        seed=config.seed,
        kv_bytes_per_token=model.kv_bytes_per_token,
        kv_cache_bytes=None if config.kv_cache_gib is None else int(config.kv_cache_gib * 2**30),
        gpu_memory_utilization=config.gpu_memory_utilization,
        num_threads=max(1, num_cores // num_engines) if num_engines > 1 else None,
        log=Path(config.output, "logs", f"engine-{label:04d}.log").resolve(),
        visible_devices=devices_of(number, config.tensor_parallel_size) if num_engines > 1 else None,
    )


def _run(settings: list[EngineSettings], jobs: Iterator[Job], desk: Desk) -> None:
    """Let the engines draw from the jobs as they have room; one that fails leaves the rest to the others."""
    context = make_context()
    shared = SharedIterator(jobs)
    if len(settings) == 1:
        _run_one(context, settings[0], shared, desk)
        return
    with ThreadPoolExecutor(max_workers=len(settings)) as executor:
        futures = [executor.submit(_run_one, context, one, shared, desk) for one in settings]
        try:
            errors = [error for future in futures if (error := future.exception())]
        except BaseException:
            shared.stop()
            raise
    if errors:
        raise errors[0]


def _run_one(context: Any, settings: EngineSettings, shared: "SharedIterator[Job]", desk: Desk) -> None:
    under_way: dict[str, Job] = {}

    def requests() -> Iterator[Request]:
        for job in shared:
            under_way[job.request.key] = job
            yield job.request

    report = EngineReport()
    try:
        with closing(run_engine(context, settings, requests(), report)) as batches:
            for completions in batches:
                desk.ready(report.generate_s)
                for completion in completions:
                    desk.done(under_way.pop(completion.key), completion, report.versions)
                if shared.stopped:
                    return
    except UserError as error:
        print(f"an engine failed, {len(under_way)} samples under way are lost: {error}", flush=True)
        raise
