"""Queries, and a server with OpenAI's API on loopback whose faults are planned."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.data.chat import ChatTokenizer

PROMPTS = ("What is 2 + 3?", "What is 4 * 5?", "What is 9 - 7?", "What is 8 / 2?")


class Teacher:
    """Answers /v1/completions with tokens that depend on prompt and seed alone, as a sampler would.

    `faults` is called with the number of the request, from 0, and names what goes wrong with it, or None: a status
    such as "500", "refuse" (status 400), "hang", "cut" (in the middle of the body), "drop" (no response), "garbage".
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.eos_id = tokenizer.eos_id
        self.faults: Callable[[int], str | None] = lambda number: None
        self.bodies: list[dict[str, Any]] = []
        self.with_token_ids = True
        self.version = "0.99"
        self.hang_s = 3.0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, again on the same port after `stop`."""
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, json.dumps({"version": teacher.version}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with teacher._lock:
                    number = len(teacher.bodies)
                    teacher.bodies.append(body)
                fault = teacher.faults(number)
                content = json.dumps(teacher.answer(body)).encode()
                if fault is None:
                    self._send(200, content)
                elif fault.isdigit():
                    self._send(int(fault), b'{"error": "planned"}')
                elif fault == "refuse":
                    self._send(400, b'{"error": "the prompt is too long"}')
                elif fault == "hang":
                    time.sleep(teacher.hang_s)
                elif fault == "cut":
                    self._send(200, content, length=len(content) // 2)
                elif fault == "garbage":
                    self._send(200, content[: len(content) // 2])
                else:
                    assert fault == "drop"
                    self.close_connection = True

            def _send(self, status: int, content: bytes, length: int | None = None) -> None:
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[:length])
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """The completion of a request without a fault."""
        draw = random.Random(json.dumps([body["prompt"], body.get("seed")]))
        ids = [draw.randrange(3, 200) for _ in range(draw.randrange(2, 12))]
        stops = len(ids) < body["max_tokens"]
        ids = [*ids, self.eos_id] if stops else ids[: body["max_tokens"]]
        choice: dict[str, Any] = {
            "index": 0,
            "text": f"seed {body.get('seed')}",
            "finish_reason": "stop" if stops else "length",
        }
        if self.with_token_ids:
            choice["token_ids"] = ids
        if "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": [-float(index) for index in range(len(ids))]}
        return {"choices": [choice], "usage": {"completion_tokens": len(ids)}, "system_fingerprint": "fp-1"}


@pytest.fixture
def teacher(tiny_tokenizer: Path) -> Iterator[Teacher]:
    """A server that is up."""
    server = Teacher(ChatTokenizer(tiny_tokenizer))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Four queries with answers."""
    rows = [
        {"id": f"q{number}", "prompt": prompt, "answer": str(number), "source": "here"}
        for number, prompt in enumerate(PROMPTS)
    ]
    return write_rows(tmp_path / "queries.jsonl", rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_traces(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files of a folder, by query and sample; fails if one is there twice."""
    lines = [line for file in sorted(folder.glob("traces-*.jsonl")) for line in file.read_bytes().splitlines()]
    rows = sorted((json.loads(line) for line in lines), key=lambda row: (row["query_id"], row["sample"]))
    assert len({row["id"] for row in rows}) == len(rows)
    return rows
