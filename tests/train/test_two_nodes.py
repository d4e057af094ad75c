"""Two nodes with addresses of their own: one is cut off, comes back, and the run ends as if nothing had happened.

The nodes are network namespaces, joined by a pair of virtual network devices. Making them needs root.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

from tests.train.harness import TRAINER, read_metrics, trainer_command, trainer_environment

pytestmark = pytest.mark.slow

ADDRESSES = ("10.213.77.1", "10.213.77.2")
OPTIONS = ["--train-iters", "30", "--save-interval", "5", "--keep-checkpoints", "2"]
LAYOUT = ["--tensor-model-parallel-size", "2"]


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """Two namespaces that reach each other, and nothing else."""

    def __init__(self, name: str) -> None:
        self.nodes = (f"{name}a", f"{name}b")

    @contextlib.contextmanager
    def up(self):
        try:
            for node in self.nodes:
                ip("netns", "add", node)
            ip("link", "add", self.nodes[0], "type", "veth", "peer", "name", self.nodes[1])
            for node, address in zip(self.nodes, ADDRESSES, strict=True):
                ip("link", "set", node, "netns", node)
                ip("-n", node, "addr", "add", f"{address}/24", "dev", node)
                ip("-n", node, "link", "set", "lo", "up")
                ip("-n", node, "link", "set", node, "up")
            yield self
        finally:
            for node in self.nodes:
                subprocess.run(["ip", "netns", "delete", node], capture_output=True)

    def connect(self, *, connected: bool) -> None:
        ip("-n", self.nodes[1], "link", "set", self.nodes[1], "up" if connected else "down")


@pytest.fixture
def network():
    if "MEGATRON_SFT_TWO_NODES" not in os.environ:
        pytest.skip("takes minutes and changes the machine's network namespaces: set MEGATRON_SFT_TWO_NODES=1")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    network = Network(f"msft{os.getpid() % 100_000}")
    try:
        with network.up():
            yield network
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")


def start_node(network: Network, number: int, world, save: Path, log: Path) -> subprocess.Popen:
    """torchrun with two ranks in one of the namespaces, restarting them when they fail."""
    options = trainer_command(world, save, *OPTIONS, *LAYOUT, "--distributed-timeout-minutes", "0.4")
    options = options[options.index(str(TRAINER)) :]
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29517", "--rdzv-id", "two"]
    rendezvous += ["--rdzv-conf", f"is_host={1 - number}", "--local-addr", ADDRESSES[number], "--max-restarts", "3"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"]
    command = ["ip", "netns", "exec", network.nodes[number], *launcher, *rendezvous, *options]
    environment = {**trainer_environment(), "GLOO_SOCKET_IFNAME": network.nodes[number]}
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def test_a_node_that_was_cut_off_comes_back(network, world, train, tmp_path):
    train(tmp_path / "whole", *OPTIONS, *LAYOUT, num_processes=4)
    save, logs = tmp_path / "save", [tmp_path / "first.log", tmp_path / "second.log"]
    nodes = [start_node(network, number, world, save, logs[number]) for number in range(2)]
    try:
        wait_for(lambda: num_records(save) >= 12, 300, logs)
        network.connect(connected=False)
        before = num_records(save)
        signs = (b"no progress for", b"Timed out", b"closed")
        wait_for(lambda: any(sign in logs[0].read_bytes() for sign in signs), 300, logs)
        assert num_records(save) <= before + 1, "without the other node nothing goes on"
        network.connect(connected=True)
        deadline = time.monotonic() + 600
        while any(node.poll() != 0 for node in nodes) and time.monotonic() < deadline:
            for number, node in enumerate(nodes):
                if node.poll() not in (None, 0):
                    # What a scheduler does with a node whose launcher gave up.
                    nodes[number] = start_node(network, number, world, save, logs[number])
            time.sleep(1)
        assert [node.poll() for node in nodes] == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)
    finally:
        for node in nodes:
            node.terminate()
        for node in nodes:
            node.wait(60)
    whole, broken = read_metrics(tmp_path / "whole"), read_metrics(save)
    fields = ("iteration", "loss", "grad_norm", "lr")
    assert [[record[f] for f in fields] for record in broken] == [[record[f] for f in fields] for record in whole]
    assert b"resuming after iteration" in logs[0].read_bytes() + logs[1].read_bytes()


def num_records(save: Path) -> int:
    metrics = save / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def wait_for(condition, seconds: float, logs: list[Path]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "\n".join(log.read_text()[-3000:] for log in logs)
        time.sleep(0.05)
