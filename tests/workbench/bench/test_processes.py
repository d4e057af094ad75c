"""Measuring a process: its descendants' cpu time and memory count, and it sees only the cores it was given."""

import json
import os
import sys

import pytest

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.workbench.bench.processes import measure

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_cpu_time_of_descendants_counts() -> None:
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\nprint('done')"
    usage = measure([sys.executable, "-c", program], cores=1)
    assert usage.output == "done\n"
    assert 0.3 <= usage.cpu < 5
    assert usage.wall >= 0.3


def test_memory_of_descendants_counts() -> None:
    child = "import time\nblock = bytearray(60 << 20)\ntime.sleep(0.6)\n"
    program = f"import subprocess, sys\nblock = bytearray(50 << 20)\nsubprocess.run([sys.executable, '-c', {child!r}])"
    usage = measure([sys.executable, "-c", program], cores=1)
    assert 110 << 20 < usage.peak_bytes < 220 << 20


def test_a_process_sees_its_cores_only_and_the_caller_keeps_its_own() -> None:
    before = os.sched_getaffinity(0)
    usage = measure([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"], cores=1)
    assert json.loads(usage.output) == [max(before)]
    assert os.sched_getaffinity(0) == before
    with pytest.raises(EnvironmentProblem, match="ask for fewer workers"):
        measure([sys.executable, "-c", ""], cores=len(before) + 1)


def test_a_failure_shows_what_the_program_said() -> None:
    with pytest.raises(EnvironmentProblem, match=r"status 3: out of paper"):
        measure([sys.executable, "-c", "import sys; sys.stderr.write('out of paper'); sys.exit(3)"], cores=1)
