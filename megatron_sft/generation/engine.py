"""An engine in a process of its own: one per model folder, vLLM or, where that cannot be had, plain transformers.

The process (`engine_process`) ends with its engine, so all memory comes back, and a crash of the engine is an error
message here, not the end of the run. Processes are forked from a server that has imported vLLM once
(`engine_preload`); that server is started afresh and never holds anything of the caller's.

Requests go to the engine as it has room for them and completions come back one by one, so that a run that is killed
loses no more than what the engine was working on.
"""

import multiprocessing
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.generation.engine_messages import (
    Completion,
    EngineKind,
    EngineReport,
    EngineSettings,
    Reload,
    Reloaded,
    Request,
)
from megatron_sft.generation.engine_process import serve

LOG_LINES_SHOWN = 12


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
        self._process = context.Process(target=serve, args=(there, settings), name="engine")
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
