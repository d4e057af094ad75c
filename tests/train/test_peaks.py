"""Peaks of GPUs by the names that drivers give."""

import pytest

from megatron_sft.train.peaks import peak_tflops


@pytest.mark.parametrize(
    ("name", "bf16", "fp8"),
    [
        ("NVIDIA H100 80GB HBM3", 989, 1979),
        ("NVIDIA H100 PCIe", 756, 1513),
        ("NVIDIA H100 NVL", 835, 1671),
        ("NVIDIA H200", 989, 1979),
        ("NVIDIA A100-SXM4-80GB", 312, None),
        ("NVIDIA L4", 121, 242),
        ("NVIDIA L40S", 362, 733),
        ("NVIDIA B200", 2250, 4500),
        ("NVIDIA GB200", 2500, 5000),
        ("NVIDIA H20", 148, 296),
        ("NVIDIA A1000", None, None),
        ("Tesla V100-SXM2-32GB", None, None),
    ],
)
def test_peak_by_name(name, bf16, fp8):
    assert (peak_tflops(name), peak_tflops(name, fp8=True)) == (bf16, fp8)
