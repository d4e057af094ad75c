"""What is read from a trace."""

import gzip
import json
from pathlib import Path

import pytest

from megatron_sft.errors import DataError
from megatron_sft.workbench.bench.train_trace import (
    Total,
    busy_seconds,
    kind_of,
    longest_gaps,
    read_trace,
    totals_by_kind,
    totals_by_name,
)


def event(name: str, category: str, start_ms: int, milliseconds: int) -> dict[str, object]:
    return {"ph": "X", "name": name, "cat": category, "ts": start_ms * 1000, "dur": milliseconds * 1000}


STEPS = [event("ProfilerStep#3", "user_annotation", 0, 10), event("ProfilerStep#4", "user_annotation", 100, 50)]
# On two streams: the copy runs beside the first product and beyond it.
KERNELS = [
    event("nvjet_sm90_tst", "kernel", 110, 10),
    event("Memcpy HtoD", "gpu_memcpy", 115, 10),
    event("cudnn_generated_fort_native_sdpa_sm90", "kernel", 130, 4),
    event("nvjet_sm90_tst", "kernel", 140, 2),
]


def write(path: Path, events: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps({"traceEvents": [*events, {"ph": "M", "name": "process_name"}]}))
    return path


def test_kernels_their_times_and_the_gaps_between_them(tmp_path: Path) -> None:
    host = [event("aten::mm", "cpu_op", 101, 1)]
    trace = read_trace(write(tmp_path / "trace.json", [*reversed(KERNELS), *host, *STEPS]))
    assert trace.has_device
    assert trace.iteration_s == pytest.approx(0.05)
    assert [span.name for span in trace.spans] == [kernel["name"] for kernel in KERNELS]
    # 110 to 125, 130 to 134, 140 to 142.
    assert busy_seconds(trace.spans) == pytest.approx(0.021)
    gaps = [(round(seconds, 6), before, after) for seconds, before, after in longest_gaps(trace.spans, 5)]
    assert gaps == [
        (0.006, "cudnn_generated_fort_native_sdpa_sm90", "nvjet_sm90_tst"),
        (0.005, "Memcpy HtoD", "cudnn_generated_fort_native_sdpa_sm90"),
    ]
    longest = totals_by_name(trace.spans)[0]
    assert (longest.name, round(longest.seconds, 6), longest.count) == ("nvjet_sm90_tst", 0.012, 2)
    assert [(t.name, t.count) for t in totals_by_kind(trace.spans)] == [
        ("matrix products", 2),
        ("copies", 1),
        ("attention", 1),
    ]


def test_without_a_device_the_hosts_operators_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "trace.json", [event("aten::mm", "cpu_op", 101, 1), *STEPS])
    packed = tmp_path / "trace.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for trace in (read_trace(path), read_trace(packed)):
        assert not trace.has_device
        assert totals_by_name(trace.spans) == [Total(name="aten::mm", seconds=0.001, count=1)]


@pytest.mark.parametrize(("events", "message"), [(STEPS, "no kernel or operator"), (KERNELS, "no marked iteration")])
def test_a_trace_that_says_nothing_is_refused(tmp_path: Path, events: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_trace(write(tmp_path / "trace.json", events))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "communication"),
        ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm>", "matrix products"),
        ("void flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits>", "attention"),
        ("void transformer_engine::normalization::rmsnorm_fwd_tuned_kernel", "norms and rotary"),
        ("void multi_tensor_apply_kernel<TensorListMetadata, AdamFunctor>", "optimizer"),
        ("void transformer_engine::quantize_transpose_square_kernel", "FP8 conversion"),
        ("void at::native::vectorized_elementwise_kernel<4, BinaryFunctor>", "element by element"),
        ("Memset (Device)", "copies"),
        ("strange", "other"),
    ],
)
def test_kinds_by_names_of_real_kernels(name: str, kind: str) -> None:
    assert kind_of(name) == kind
