"""Documents of a row do not see each other, whatever the layout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

from tests.train.harness import trainer_environment

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

TP2 = {"tensor_model_parallel_size": 2}
PP2 = {"pipeline_model_parallel_size": 2}
CP2 = {"context_parallel_size": 2}
LAYOUTS = {
    "one rank's": {},
    "tp2 sp": TP2 | {"sequence_parallel": True},
    "pp2": PP2,
    "pp2 interleaved": PP2 | {"virtual_stages": 2},
    "cp2": CP2,
    "cp4": {"context_parallel_size": 4},
    "tp2 sp cp2": TP2 | CP2 | {"sequence_parallel": True},
    "pp2 cp2": PP2 | CP2,
}


def test_a_changed_document_leaves_the_logits_of_the_others_bit_for_bit(world):
    script = str(Path(__file__).with_name("contamination_ranks.py"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "4"]
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [*launcher, *rendezvous, script, str(world.model), json.dumps(LAYOUTS)]
    result = subprocess.run(command, env=trainer_environment(), capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-5000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found.keys() == LAYOUTS.keys()
    for name, (others_that_differ, changed_that_differ, others, changed) in found.items():
        assert others_that_differ == 0, name
        # What pads the changed document sees it, and is part of it.
        assert 7 <= changed_that_differ <= changed < others, name
