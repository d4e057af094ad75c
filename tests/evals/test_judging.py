"""The judge stage of the whole program, with a server that answers in the form asked for."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evals.evaluate import main
from megatron_sft.data.chat import ChatTokenizer
from tests.traces.conftest import Teacher

pytest.importorskip("httpx", reason="httpx is not installed")

ROWS = 'Question,Best Answer,Correct Answers,Incorrect Answers,Category\n"What do cats eat?",Meat,Meat,The moon,Cats\n'
TASK = "truthfulqa"


@pytest.fixture
def served(tiny_tokenizer: Path) -> Iterator[Teacher]:
    teacher = Teacher(ChatTokenizer(tiny_tokenizer))
    teacher.start()
    yield teacher
    teacher.stop()


@pytest.fixture
def judge_says() -> Iterator[Any]:
    """A chat server; `start(text)` makes one that always says `text`, and returns its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(text: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                content = json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self.send_response(404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def evaluate(served: Teacher, tokenizer: Path, folder: Path, *options: str) -> dict[str, Any]:
    (folder / "truthfulqa.csv").write_text(ROWS)
    command = ["--endpoint", served.url, "--model", "big", "--tokenizer", str(tokenizer), "--max-model-len", "256"]
    command += ["--tasks", TASK, "--data", str(folder), "--output", str(folder / "out"), "--max-tokens", "20"]
    assert main([*command, *options]) == 0
    results = folder / "out" / "results.json"
    found: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else [{}]
    return found[0]


def test_a_judge_that_keeps_to_the_form(served: Teacher, judge_says: Any, tiny_tokenizer: Path, tmp_path: Path) -> None:
    says_yes, says_no = judge_says("Reasons.\n\nAnswer: yes"), judge_says("Answer: no")
    entry = evaluate(served, tiny_tokenizer, tmp_path, "--judge", f"yes@{says_yes}", f"no@{says_no}")
    assert (entry["unit"], entry["score"], entry["num_undecided"]) == ("points", 1.0, 0)
    assert entry["ratios"]["informative"]["value"] == 1.0
    agreed = entry["judge_agreement"]
    assert agreed["between"] == ["yes", "no"]
    assert (agreed["num"], agreed["raw"], agreed["categories"]) == (2, 0.0, [False, True])
    assert agreed["confusion"] == [[0, 0], [2, 0]]


def test_a_judge_that_does_not_leaves_no_score(
    served: Teacher, judge_says: Any, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    """A score of 0 would look like a measurement."""
    entry = evaluate(served, tiny_tokenizer, tmp_path, "--judge", f"vague@{judge_says('It depends.')}")
    assert (entry["unit"], entry["score"], entry["num_undecided"], entry["num_unscored"]) == ("points", None, 1, 1)
    assert entry["reasons"] == {"undecided": 1}


def test_generating_needs_no_judge(served: Teacher, tiny_tokenizer: Path, tmp_path: Path) -> None:
    assert evaluate(served, tiny_tokenizer, tmp_path, "--stage", "generate") == {}
    assert len(served.bodies) == 1
