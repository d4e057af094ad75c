"""An engine in a process of its own: one per model folder, vLLM or, where that cannot be had, plain transformers.

The process ends with its engine, so all memory comes back, and a crash of the engine is an error message here, not
the end of the run. Processes are forked from a server that has imported vLLM once
(`megatron_sft.generation.engine_preload`); that server is started afresh and never holds anything of the caller's.

Requests go to the engine as it has room for them and completions come back one by one, so that a run that is killed
loses no more than what the engine was working on.
"""

import importlib
import multiprocessing
import os
import queue
import threading
import time
import traceback
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeAlias

from megatron_sft.errors import EnvironmentProblem

LOG_LINES_SHOWN = 12
EngineKind = Literal["vllm", "transformers"]

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
    kind: EngineKind = "vllm"
    """vllm, or transformers: slower, on any machine."""
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


def make_context(kind: EngineKind = "vllm") -> Any:
    """Return the multiprocessing context for engines; make one per run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["megatron_sft.generation.engine_preload"] if kind == "vllm" else [])
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
        # Each needs packages that the other one does without.
        module = importlib.import_module(f"megatron_sft.generation.{settings.kind}_engine")
        module.serve(connection, inbox, settings)
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
