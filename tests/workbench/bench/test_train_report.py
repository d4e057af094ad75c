"""Tables and the comparison of peers."""

from megatron_sft.planning.memory import GIB
from megatron_sft.workbench.bench.train_inputs import model_geometry
from megatron_sft.workbench.bench.train_job import OUT_OF_MEMORY, Answer, Peer, Step
from megatron_sft.workbench.bench.train_report import Measured, disagreements, report


def measured(peer: Peer, *, loss: float = 6.0, norm: float = 2.0, seconds: float = 1.0, **changes: object) -> Measured:
    """Two iterations of which the second counts."""
    step = Step(loss=loss, grad_norm=norm, tokens=10, places=15, num_rows=2, seconds=9.0)
    second = Step(loss=5.0, grad_norm=1.0, tokens=10, places=15, num_rows=2, seconds=seconds, update_s=seconds / 4)
    values = {"versions": {"device": "NVIDIA H100 80GB HBM3"}, "how": "how", "steps": [step, second]}
    answer = Answer(**{**values, "peak_bytes": 3 * GIB, **changes})
    return Measured(peer=peer, answer=answer, warmup=1)


def test_peers_that_agree_and_peers_that_do_not() -> None:
    ours = measured("megatron-sft")
    close = measured("padded", loss=6.05, norm=2.09)
    assert disagreements([close, ours], 0.01) == []
    [line] = disagreements([measured("packed", loss=6.07), ours], 0.01)
    assert line.startswith("packed: loss of the first iteration is 6.07, that of megatron-sft 6: more than 0.01 apart")
    [line] = disagreements([measured("packed", norm=2.11), ours], 0.01)
    assert "grad_norm" in line
    # Without this trainer the first peer is what others are compared with.
    [line] = disagreements([measured("padded"), measured("packed", loss=7.0)], 0.01)
    assert "that of padded" in line
    assert len(disagreements([measured("packed", loss=float("nan")), ours], 0.01)) == 1


def test_running_out_of_memory_is_a_result_and_dying_is_not() -> None:
    empty = measured("padded", steps=[], problem=OUT_OF_MEMORY)
    assert disagreements([empty, measured("megatron-sft")], 0.01) == []
    assert disagreements([measured("padded", steps=[], problem="did not finish")], 0.01) == ["padded: did not finish"]


def test_figures_of_the_measured_iteration() -> None:
    peers = [measured("padded", seconds=2.0), measured("megatron-sft", seconds=0.5)]
    empty = measured("packed", steps=[], problem=OUT_OF_MEMORY)
    lines = report([*peers, empty], model_geometry("qwen3-1.7b"), [[4, 6], [4, 6]], peak=None, title=["title"])
    rows = {line.split(" | ")[0]: line for line in lines if line.startswith("| ")}
    expected = "| 20 | 4.00 | 1.00 | 0.0% | 1.50 | 3.00 | 0.500 | 6.00000 | 2.00000 | 5.00000 |"
    breakdown = lines.index("| | rows an iteration | data | forward and backward | update | rest |")
    speeds = [line for line in lines[:breakdown] if line.startswith("| ")]
    assert speeds[2] == f"| megatron-sft {expected}"
    assert speeds[1].startswith("| padded | 5 | 1.00 | 4.00 | 0.0% |")
    assert speeds[3] == "| packed | out of memory |  |  |  |  | 3.00 |  |  |  |  |"
    assert rows["| padded"] == "| padded | 2.0 | 0.0% | 0.0% | 25.0% | 75.0% |"
    assert len({line.count("|") for line in speeds}) == 1
    assert any("bf16 peak 989 TFLOP/s" in line for line in lines)


def test_mfu_counts_real_tokens_over_the_peak() -> None:
    one = measured("megatron-sft", seconds=1e6)
    lines = report([one], model_geometry("qwen3-1.7b"), [[4, 6], [4, 6]], peak=1e-6, title=[])
    [row] = [line for line in lines if line.startswith("| megatron-sft | 0 |")]
    # 1.72 billion entries of matrices x 6 x 10 tokens = 103.2 GFLOP in 10^6 s; attention of 10 tokens hardly counts.
    assert row.split(" | ")[4] == "10.3%"
