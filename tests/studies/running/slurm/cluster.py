"""A Slurm cluster of several nodes on this machine: real munged, slurmctld and slurmd on loopback, in one folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
TAG = "MEGATRON_SFT_TEST_CLUSTER"
CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job may start once the credential of its first life has expired; that takes 2 minutes by default.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# Nothing of the machine is set up or watched: no cgroups, no accounting.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
# Jobs start as soon as they can.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
KillWait=20
# A busy machine is no lost node.
SlurmdTimeout=300
ReturnToService=2
# More CPUs than there are.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=node[0-{last}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str:
    """Why no cluster can be made here; empty where one can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as root only"


class Cluster:
    """Daemons that end with the block `up`; commands find them through SLURM_CONF."""

    def __init__(self, folder: Path, *, num_nodes: int = 2, cpus: int = 4) -> None:
        """Nothing runs yet; the folder's path has to be short, for the socket of munged."""
        self.folder = folder
        self.nodes = [f"node{number}" for number in range(num_nodes)]
        first = free_ports(num_nodes + 1)
        self.configuration = folder / "slurm.conf"
        self.configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                folder=folder,
                ports=(first, first + 1, first + num_nodes),
                last=num_nodes - 1,
                cpus=cpus,
            ),
            encoding="utf-8",
        )
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def up(self) -> Iterator["Cluster"]:
        """Start everything, wait until jobs can run, and end all of it with the block."""
        try:
            self._start()
            yield self
        finally:
            self._end()

    def run(self, *words: str) -> str:
        """One of Slurm's commands, and what it prints."""
        environment = os.environ | {"SLURM_CONF": str(self.configuration)}
        return subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def queue(self) -> list[list[str]]:
        """Id, name, state and number of restarts of every job, also of those that ended some minutes ago."""
        lines = self.run(
            "squeue", "-h", "-r", "-t", "all", "-O", "JobArrayID:|,Name:|,State:|,RestartCnt:"
        ).splitlines()
        return [[cell.strip() for cell in line.split("|")] for line in lines]

    def job(self, name: str) -> tuple[str, str]:
        """Id and state of the latest job of a name; empty where there is none."""
        found = [(row[0], row[2]) for row in self.queue() if row[1] == name]
        return max(found, key=lambda row: int(row[0].partition("_")[0]), default=("", ""))

    def lose(self, node: str) -> None:
        """A node loses its power, and Slurm notices."""
        for pid in self._processes(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._daemons.pop(node).wait()
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def give_back(self, node: str) -> None:
        """A lost node comes back."""
        self._start_node(node)
        self.run("scontrol", "update", f"nodename={node}", "state=resume")
        self._wait_for({"idle", "mixed", "allocated"})

    def _start(self) -> None:
        (self.folder / "state").mkdir()
        (self.folder / "munge").mkdir(mode=0o700)
        files = {name: f"{self.folder}/munge/{name}" for name in ("key", "pid", "log", "seed")}
        subprocess.run(["mungekey", "--create", "--keyfile", files["key"]], check=True, env=_environment())
        munge = [f"--key-file={files['key']}", f"--pid-file={files['pid']}", f"--seed-file={files['seed']}"]
        socket_file = self.folder / "munge.socket"
        # --force: the folders above belong to one user alone, which munged warns of.
        self._launch("munged", ["munged", "--foreground", "--force", f"--socket={socket_file}", *munge], "")
        wait_for(socket_file.exists, 20, lambda: self.logs())
        self._launch("slurmctld", ["slurmctld", "-D", "-f", str(self.configuration)], "")
        for node in self.nodes:
            self._start_node(node)
        self._wait_for({"idle"})

    def _start_node(self, node: str) -> None:
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self._launch(node, ["slurmd", "-D", "-N", node, "-f", str(self.configuration)], node)

    def _launch(self, name: str, words: list[str], node: str) -> None:
        environment = _environment() | {"SLURM_CONF": str(self.configuration), TAG: f"{self.folder}:{node}"}
        with (self.folder / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )

    def _wait_for(self, wanted: set[str]) -> None:
        """Wait until every node is in one of these states."""

        def is_so() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):
                found = self.run("sinfo", "-h", "-N", "-o", "%T").split()
                return len(found) == len(self.nodes) and set(found) <= wanted
            return False

        wait_for(is_so, 60, self.logs)

    def logs(self) -> str:
        """The ends of all logs."""
        paths = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in paths)

    def _processes(self, node: str = "") -> list[int]:
        """Processes of the daemons and of jobs, of one node or all, by the variables that they hand on."""
        daemon = f"{TAG}={self.folder}:{node}".encode()
        job = [f"SLURM_CONF={self.configuration}\0".encode(), f"SLURMD_NODENAME={node}".encode()]
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    variables = (folder / "environ").read_bytes()
                    if daemon in variables or all(variable in variables for variable in job):
                        found.append(int(folder.name))
        return found

    def _end(self) -> None:
        # Nothing is kept, so nothing has to end in good order.
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def free_ports(number: int) -> int:
    """The first of several free ports in a row."""
    for first in range(21000 + os.getpid() % 5000, 32000, number):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + number):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


def wait_for(condition, seconds: float, explain) -> None:
    """Look again and again until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.2)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": _path()}
