"""The trainer on one GPU: TransformerEngine's path against the CPU's, which is proven against transformers."""

import pytest

pytest.importorskip("megatron.core")

from tests.train.harness import read_metrics

ITERATIONS = "6"
COMMON = ["--seq-length", "1024", "--train-iters", ITERATIONS, "--lr", "3e-4"]
BF16 = ["--bf16"]
FP8 = [*BF16, "--fp8-format", "hybrid"]
PRECISION_AWARE = [*BF16, "--use-precision-aware-optimizer", "--main-grads-dtype", "bf16"]
# Flags, and how far the loss may be from that in fp32 on a CPU.
RUNS = {
    "bf16": (BF16, 5e-3),
    "fp8 tensorwise": (FP8, 1e-2),
    "fp8 delayed": ([*FP8, "--fp8-recipe", "delayed"], 1e-2),
    "fp8 blockwise": ([*FP8, "--fp8-recipe", "blockwise"], 1e-2),
    "fp8 weights": ([*FP8, "--fp8-param-gather", "--first-last-layers-bf16"], 1e-2),
    "precision-aware": ([*PRECISION_AWARE, "--exp-avg-dtype", "bf16", "--exp-avg-sq-dtype", "bf16"], 1e-2),
    "pure bf16": ([*BF16, "--pure-bf16"], 2e-2),
    "optimizer in the host's memory": ([*BF16, "--optimizer-cpu-offload"], 5e-3),
    "layers recomputed": ([*BF16, "--recompute-granularity", "full"], 5e-3),
    "feed-forward recomputed": ([*BF16, "--recompute-granularity", "selective", "--recompute-modules", "mlp"], 5e-3),
    "constant rows": ([*BF16, "--constant-row-length"], 5e-3),
}


@pytest.fixture(scope="module")
def on_cpu(train, gpu_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("on_cpu")
    train(folder, *COMMON, "--init-from", str(gpu_model), "--device", "cpu")
    return read_metrics(folder)


@pytest.mark.parametrize("name", RUNS)
def test_the_losses_are_those_of_fp32_on_a_cpu(train, gpu_model, on_cpu, tmp_path, name):
    flags, tolerance = RUNS[name]
    result = train(tmp_path, *COMMON, "--init-from", str(gpu_model), "--device", "cuda", flags=flags)
    assert "attention: TransformerEngine" in result.stdout
    assert on_cpu[-1]["loss"] < on_cpu[0]["loss"] - 0.05, "the run should learn something"
    for record, expected in zip(read_metrics(tmp_path), on_cpu, strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], rel=tolerance), (name, record["iteration"])
        assert record["trained_tokens"] == expected["trained_tokens"]
    # The first gradient is that of the same weights.
    first, expected = read_metrics(tmp_path)[0], on_cpu[0]
    assert first["grad_norm"] == pytest.approx(expected["grad_norm"], rel=10 * tolerance), name


@pytest.mark.parametrize("flags", [BF16, FP8, PRECISION_AWARE, [*BF16, "--pure-bf16"]], ids=" ".join)
def test_a_run_resumes_exactly(train, gpu_model, tmp_path, flags, monkeypatch):
    # The backward pass of fused attention adds up in any order unless told not to.
    monkeypatch.setenv("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "0")
    options = [*COMMON, "--init-from", str(gpu_model), "--device", "cuda", "--save-interval", "3"]
    train(tmp_path, *options, flags=flags)
    whole = read_metrics(tmp_path)
    (tmp_path / "iter_0000006" / "complete.json").unlink()
    result = train(tmp_path, *options, flags=flags)
    assert "resuming after iteration 3" in result.stdout
    assert [(r["loss"], r["grad_norm"]) for r in read_metrics(tmp_path)] == [(r["loss"], r["grad_norm"]) for r in whole]
