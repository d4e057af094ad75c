"""CUDA names mean the CPU inside `activate()`, and themselves again afterwards."""

import pytest
import torch

pytest.importorskip("megatron.core")

from megatron_sft.errors import ConfigError, EnvironmentProblem
from megatron_sft.model.device import select_device

pytestmark = pytest.mark.trainer


def test_cuda_names_mean_the_cpu_only_inside():
    device = select_device("cpu")
    originals = (torch.cuda.current_device, torch.Tensor.cuda, torch.Tensor.type, torch.cuda.Stream)
    with device.activate():
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        assert torch.empty(2, device=torch.cuda.current_device()).device.type == "cpu"
        assert torch.ones(2).cuda().device.type == "cpu"
        assert torch.ones(2).type() == "torch.cuda.FloatTensor"
        assert torch.ones(2).type(torch.int32).dtype == torch.int32
        assert torch.ones(2).type("torch.cuda.IntTensor").dtype == torch.int32
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda.synchronize()
    assert (torch.cuda.current_device, torch.Tensor.cuda, torch.Tensor.type, torch.cuda.Stream) == originals
    assert torch.ones(2).type() == "torch.FloatTensor"


def test_random_state_of_the_tracker_is_the_cpus():
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    with select_device("cpu").activate():
        tracker = CudaRNGStatesTracker()
        torch.manual_seed(1)
        tracker.add("weights", 5)
        with tracker.fork("weights"):
            first = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(first, torch.rand(3))


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda"):
        select_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_names_the_remedy():
    with pytest.raises(EnvironmentProblem, match="--device cpu"):
        select_device("cuda")
