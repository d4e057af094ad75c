"""What jobs ask for: the file, what stages say themselves, and the batch file that comes of both."""

from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.stages.graph import LAUNCHER, Resources, Stage
from megatron_sft.studies.running.slurm.options import load

FILE = """
python: apptainer exec --nv image.sif python3
all:
  partition: long
  account: me
  setup: [module load cuda]
  sbatch: {reservation: ours}
train:
  partition: gpu
  hours: 48
  nodes: 4
  mem: 900GB
  setup: [export NCCL_DEBUG=WARN]
evaluate: {gpus_per_node: 1, at_a_time: 16}
"""


def stage(kind: str, *words: str, resources: Resources | None = None) -> Stage:
    resources = resources or Resources()
    return Stage(name="one", kind=kind, title="one", commands=(words,), outputs=(), resources=resources)


def written(folder: Path, text: str) -> Path:
    path = folder / "jobs.yaml"
    path.write_text(text)
    return path


def test_kinds_over_all_over_stages(tmp_path: Path) -> None:
    spec = load(written(tmp_path, FILE))
    train = spec.job(stage("train", LAUNCHER, "x", resources=Resources(processes=8, gpus=8, nodes=2, hours=3)))
    assert (train.partition, train.account, train.hours, train.nodes) == ("gpu", "me", 48, 4)
    assert (train.gpus_per_node, train.cpus_per_task) == (8, 8)
    assert train.setup == ("module load cuda", "export NCCL_DEBUG=WARN")
    evaluate = spec.job(stage("evaluate", "x", resources=Resources(gpus=8, hours=3)))
    assert (evaluate.partition, evaluate.hours, evaluate.nodes, evaluate.gpus_per_node) == ("long", 6, 1, 1)
    # The exports of base models are of the same kind as their trainings, and run on one node.
    assert load(written(tmp_path, "models: {nodes: 4}")).job(stage("models", "tools/convert_checkpoint")).nodes == 1


def test_parameters_are_those_of_submitit(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    from submitit.slurm.slurm import _make_sbatch_string

    assert submitit.__version__
    spec = load(written(tmp_path, FILE))
    text = _make_sbatch_string(command="COMMAND", folder=tmp_path, **spec.parameters(stage("train", LAUNCHER, "x")))
    lines = text.splitlines()
    for option in ("partition=gpu", "account=me", "time=2880", "nodes=4", "mem=900GB", "reservation=ours", "requeue"):
        assert f"#SBATCH --{option}" in lines
    assert "#SBATCH --kill-on-invalid-dep=yes" in lines
    assert "#SBATCH --signal=USR2@300" in lines
    assert lines.index("module load cuda") < lines.index("export NCCL_DEBUG=WARN")
    assert "--cpus-per-task=1" in lines[-1]


def test_without_a_file(tmp_path: Path) -> None:
    spec = load(None)
    assert spec == load(written(tmp_path, "# nothing\n"))
    parameters = spec.parameters(stage("convert", "x"))
    assert (parameters["time"], parameters["nodes"]) == (60, 1)
    assert "partition" not in parameters


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {partiton: gpu}", r"jobs.yaml:1: partiton: gpu: .*partition"),
        ("trane: {}", r"jobs.yaml:1: trane: .*train"),
        ("convert: {nodes: 2}", r"jobs.yaml: convert: nodes: 2: only trainings"),
        ("train: {hours: 0}", r"jobs.yaml: train: hours: 0"),
        ("train: {hours: 24:00:00}", r"jobs.yaml:1: hours: 24:00:00"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(written(tmp_path, text))
