"""`tools/bench train` and `train-profile` end to end, on a model of two layers and one process of a CPU."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("megatron.core")

from megatron_sft.data.shards import ShardReader
from megatron_sft.workbench.bench.__main__ import main

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

ON_CPU = ["padded", "padded-fixed", "packed", "unpacked", "megatron-sft"]
SIZES = ["--model", "tiny", "--precision", "fp32", "--mean", "60", "--longest", "150", "--seq-length", "192"]
BATCH, WARMUP, MEASURED = 6, 1, 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict]:
    """Folder, report and figures of one run with every peer that a CPU has."""
    folder = tmp_path_factory.mktemp("bench-train")
    counts = ["--global-batch-size", str(BATCH), "--warmup", str(WARMUP), "--iterations", str(MEASURED)]
    files = ["--work", str(folder / "work"), "--output", str(folder / "reports" / "train.md")]
    padding = ["--padded-length", "200", "--micro-batch-size", "4", "--tolerance", "1e-5"]
    # A learning rate at which the losses of the later iterations depend on the updates.
    assert main(["train", *SIZES, *counts, *padding, "--lr", "1e-2", *files]) == 0
    report = (folder / "reports" / "train.md").read_text()
    return folder, report, json.loads((folder / "reports" / "train.json").read_text())


def test_every_peer_trains_the_same_samples_to_the_same_losses(run: tuple[Path, str, dict]) -> None:
    folder, _, figures = run
    assert sorted(figures["peers"]) == sorted(ON_CPU)
    lengths = ShardReader(folder / "work" / "data").lengths.reshape(WARMUP + MEASURED, BATCH)
    expected = reference(folder)
    for peer, answer in figures["peers"].items():
        assert answer["problem"] is None, peer
        assert [step["tokens"] for step in answer["steps"]] == lengths.sum(axis=1).tolist(), peer
        assert answer["steps"][0]["loss"] == pytest.approx(expected, rel=1e-5), peer
        assert answer["steps"][0]["grad_norm"] == pytest.approx(
            figures["peers"]["padded"]["steps"][0]["grad_norm"], rel=1e-4
        )
        # Weight decay of the norms differs, and nothing else.
        assert answer["steps"][1]["loss"] == pytest.approx(figures["peers"]["padded"]["steps"][1]["loss"], rel=1e-4)
        assert abs(answer["steps"][1]["loss"] - answer["steps"][0]["loss"]) > 1e-2, "the update should show"
        for step in answer["steps"]:
            parts = [step[name] for name in ("data_s", "forward_backward_s", "update_s")]
            assert all(part > 0 for part in parts), (peer, parts)
            assert sum(parts) <= step["seconds"] * 1.01, peer


def reference(folder: Path) -> float:
    """Loss of the first iteration by transformers on one sample at a time."""
    import torch
    import transformers

    [model_folder] = (folder / "work").glob("tiny-*")
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    reader, losses = ShardReader(folder / "work" / "data"), []
    for index in range(BATCH):
        sample = reader.sample(index)
        tokens = torch.from_numpy(sample.tokens.astype("int64"))
        with torch.no_grad():
            logits = model(tokens[None]).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        losses.append(each[torch.from_numpy(sample.trained[1:].astype(bool))])
    return float(torch.cat(losses).mean())


def test_places_are_what_each_peer_computes(run: tuple[Path, str, dict]) -> None:
    folder, _, figures = run
    lengths = ShardReader(folder / "work" / "data").lengths.reshape(WARMUP + MEASURED, BATCH)
    for number, batch in enumerate(lengths.tolist()):
        steps = {peer: answer["steps"][number] for peer, answer in figures["peers"].items()}
        places = {peer: step["places"] for peer, step in steps.items()}
        assert places == {
            "padded": 4 * max(batch[:4]) + 2 * max(batch[4:]),
            "padded-fixed": 6 * 200,
            "packed": sum(batch),
            "unpacked": sum(batch),
            "megatron-sft": sum(batch),
        }
        assert steps["unpacked"]["num_rows"] == BATCH > steps["megatron-sft"]["num_rows"] >= 2
        assert steps["padded"]["num_rows"] == 2


def test_the_report_has_a_line_for_each_peer(run: tuple[Path, str, dict]) -> None:
    _, report, figures = run
    header, *rows = [line.split("|")[1:-1] for line in report.splitlines() if line.startswith("| ")]
    speeds = {row[0].strip(): [cell.strip() for cell in row] for row in rows if len(row) == len(header) == 11}
    assert list(speeds) == ON_CPU
    assert speeds["megatron-sft"][3] == "1.00"
    assert all(row[4] == "-" for row in speeds.values()), "no peak of a CPU is known"
    steps = figures["peers"]["padded-fixed"]["steps"][WARMUP:]
    rate = sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps)
    assert speeds["padded-fixed"][1] == f"{rate:,.0f}"
    for words in ("left out: tensorwise (FP8 needs a GPU and bf16)", "transformers ", "megatron-core ", "tools/bench"):
        assert words in report


def with_weights(work: Path, run: tuple[Path, str, dict]) -> str:
    """Folder with the weights of that run, which need not be drawn again."""
    shutil.copytree(run[0] / "work" / "tiny-fp32-0", work / "tiny-fp32-0")
    return str(work)


def test_a_peer_that_dies_is_named_and_ends_with_1(
    run: tuple[Path, str, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--peers", "megatron-sft", "--global-batch-size", "2", "--warmup", "0", "--iterations", "1"]
    wrong = ["--padded-length", "150", "--trainer-options=--clip-grad -1"]
    assert main(["train", *SIZES, *options, *wrong, "--work", with_weights(tmp_path, run)]) == 1
    output = capsys.readouterr()
    assert "megatron-sft: did not finish" in output.out
    assert "--clip-grad -1.0: must not be negative" in " ".join(output.err.split())


def test_a_profile_has_kinds_names_and_the_floor(
    run: tuple[Path, str, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = ["--global-batch-size", "2", "--warmup", "1", "--top", "3"]
    files = ["--work", with_weights(tmp_path, run), "--output", str(tmp_path / "p.md")]
    assert main(["train-profile", *SIZES, *counts, *files]) == 0
    report = capsys.readouterr().out
    assert (tmp_path / "p.md").read_text() in report
    for words in ("| matrix products | ", "| attention | ", "gradient norm and AdamW", "idle ", "**arithmetic**"):
        assert words in report
    assert len(list((tmp_path / "profiled" / "tensorboard").glob("*.pt.trace.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--model", "tiny", "--longest", "20480"], "at most --seq-length 16384"),
        (["train", "--model", "nothing"], "one of qwen3-0.6b"),
        (["train", "--model", "tiny", "--device", "cpu", "--peers", "tensorwise"], "FP8 needs a GPU"),
        (["train-profile", "--model", "tiny", "--warmup", "0"], "both need at least 1"),
    ],
)
def test_mistakes_exit_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
