"""Recipes: precedence and origins, errors with their place, the paper's 33 runs, and repeating a run."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.recipes import paper, recipe
from megatron_sft.recipes.resolve import resolve, run
from megatron_sft.recipes.resolved import FILE_NAME, Resolved
from tests.train.harness import TRAINER, read_metrics, trainer_environment

ALL_RUNS = [f"paper:{number}" for number in range(1, 34)]
OWN = ["--data", "shards", "--init-from", "hf", "--save", "out"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of every type that the trainer's have."""

    data: Path
    """Required."""
    lr: float
    """Required."""
    batch_size: int = 4
    min_lr: float = 0.0
    shuffle: bool = False
    style: Literal["cosine", "constant"] = "cosine"
    interval: int | None = None
    save_iters: str = ""
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """One check of a combination."""
        if self.min_lr > self.lr:
            raise ConfigError(f"--min-lr {self.min_lr} is above --lr {self.lr}")


@pytest.fixture
def write(tmp_path) -> Callable[[str, str], str]:
    """Writes a recipe and returns its path."""

    def write_file(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write_file


def resolve_small(*argv: str) -> Resolved[Options]:
    return resolve(Options, prog="program", argv=argv)


def test_every_type_is_read_from_yaml(write):
    file = write(
        "r.yaml",
        "data: a/b\nlr: 5e-5\nbatch-size: 1_000\nmin_lr: 0\nshuffle: true\nstyle: constant\ninterval: null\n"
        "save_iters: [10, 20]\nsizes: [3, 4]\n",
    )
    wanted = Options(
        data=Path("a/b"),
        lr=5e-5,
        batch_size=1000,
        min_lr=0.0,
        shuffle=True,
        style="constant",
        interval=None,
        save_iters="10,20",
        sizes=(3, 4),
    )
    found = resolve_small("--recipe", file).options
    assert found == wanted
    assert type(found.min_lr) is float


def test_the_command_line_wins_over_the_recipe_that_over_its_base_that_over_the_defaults(write):
    write("base.yaml", "lr: 0.1\nmin_lr: 0.01\nbatch_size: 8\ninterval: 5\n")
    file = write("sub/own.yaml", "data: shards\nbase: ../base.yaml\nmin_lr: 0.02\nbatch_size: 16\nshuffle: true\n")
    base = file.replace("sub/own.yaml", "base.yaml")
    resolved = resolve_small("--batch-size", "32", f"--recipe={file}", "--no-shuffle")
    options = resolved.options
    assert (options.lr, options.min_lr, options.batch_size, options.interval) == (0.1, 0.02, 32, 5)
    assert (options.shuffle, options.style) == (False, "cosine")
    assert {name: str(origin) for name, origin in resolved.origins.items()} == {
        "data": f"recipe {file}:1",
        "lr": f"recipe {base}:1",
        "batch_size": f"command line, instead of 16 in {file}:4",
        "min_lr": f"recipe {file}:3",
        "shuffle": f"command line, instead of true in {file}:5",
        "style": "default",
        "interval": f"recipe {base}:4",
        "save_iters": "default",
        "sizes": "default",
    }


def test_a_switch_that_the_recipe_set_may_be_given_again(write):
    file = write("r.yaml", "lr: 1\nshuffle: true\n")
    assert resolve_small("--recipe", file, "--data", "d", "--shuffle").options.shuffle is True


def test_it_works_without_a_recipe():
    resolved = resolve_small("--data", "d", "--lr=1")
    assert resolved.options == Options(data=Path("d"), lr=1.0)
    assert resolved.lines() == [
        "configuration: no recipe",
        "  data  d    command line",
        "  lr    1.0  command line",
        '  defaults: batch_size 4, min_lr 0.0, shuffle False, style cosine, interval None, save_iters "", sizes ()',
    ]


def test_what_neither_gives_is_asked_for(write, capsys):
    with pytest.raises(SystemExit) as exit_info:
        resolve_small("--recipe", write("r.yaml", "lr: 1\n"))
    assert exit_info.value.code == 2
    assert "--data PATH" in capsys.readouterr().err


def test_help_shows_the_recipe_option_and_the_values_of_a_recipe(write, capsys):
    with pytest.raises(SystemExit) as exit_info:
        resolve_small("--recipe", write("r.yaml", "lr: 0.25\n"), "--help")
    assert exit_info.value.code == 0
    shown = capsys.readouterr().out
    assert "--recipe FILE|NAME" in shown and "default: 0.25" in shown and "--no-shuffle" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lr: 1\nbatchsize: 3\n",
            "r.yaml:2: batchsize: 3: there is no option batchsize; the nearest name is batch_size",
        ),
        ("lr: 1\nqqq: 3\n", "r.yaml:2: qqq: 3: there is no option qqq"),
        ("lr: fast\n", "r.yaml:1: lr: fast: expected a number"),
        ("lr: '1'\n", "r.yaml:1: lr: 1: expected a number"),
        ("batch_size: 1.5\n", "r.yaml:1: batch_size: 1.5: expected a whole number"),
        ("batch_size: 010\n", "r.yaml:1: batch_size: 010: expected a whole number"),
        ("batch_size: [1]\n", r"r.yaml:1: batch_size: \[1\]: expected a whole number"),
        ("batch_size:\n", "r.yaml:1: batch_size: : expected a whole number"),
        ("interval: 2x\n", "r.yaml:1: interval: 2x: expected a whole number"),
        ("shuffle: 1\n", "r.yaml:1: shuffle: 1: expected true or false"),
        ("style: cosin\n", "r.yaml:1: style: cosin: expected one of cosine, constant; the nearest name is cosine"),
        ("data: null\n", "r.yaml:1: data: null: there is no value"),
        ("data: true\n", "r.yaml:1: data: true: expected a text"),
        ("data: {a: b}\n", "r.yaml:1: data: {...}: expected one text"),
        ("data: !!python/name:os.system x\n", "r.yaml:1: data: x: the tag .*python.* is not allowed"),
        ("sizes: 3\n", "r.yaml:1: sizes: 3: expected a list"),
        ("lr: 1\n\nlr: 2\n", "r.yaml:3: lr: 2: given before with 1 in line 1"),
        ("batch_size: 1\nbatch-size: 2\n", "r.yaml:2: batch-size: 2: given before with 1 in line 1"),
        ("lr: [1\n", "r.yaml:2: not YAML"),
        ("lr: 1\n---\nlr: 2\n", "r.yaml:2: not YAML"),
        ("a: \x01\n", "r.yaml: not YAML"),
        ("- 1\n", r"r.yaml: expected lines of the form `name: value`, found \[1\]"),
        ("", "r.yaml: expected lines of the form `name: value`, found nothing"),
        ("? [a, b]\n: 1\n", r"r.yaml:1: \[a, b\] cannot be the name of an option"),
        ("base: [a]\n", "r.yaml:1: base: .*no recipe a"),
        ("base: gone.yaml\n", "r.yaml:1: base: gone.yaml: no recipe gone.yaml: there is no file .*gone.yaml"),
        ("base: paper:34\n", "r.yaml:1: base: paper:34: the paper has no run 34"),
    ],
)
def test_a_wrong_recipe_is_named_with_file_line_key_and_value(write, text, message):
    with pytest.raises(ConfigError, match=message):
        resolve_small("--recipe", write("r.yaml", text), "--data", "d", "--lr", "1")


def test_bases_that_lead_back_are_refused(write):
    first = write("a.yaml", "base: b.yaml\n")
    second = write("b.yaml", "lr: 1\nbase: ./a.yaml\n")
    with pytest.raises(ConfigError) as error:
        resolve_small("--recipe", first)
    assert f"{second}:2: base: ./a.yaml: leads back to itself: {first} -> {second} -> {first}" in str(error.value)


def test_a_refused_combination_says_where_its_values_came_from(write):
    file = write("r.yaml", "data: d\nmin_lr: 0.5\n")
    with pytest.raises(ConfigError) as error:
        resolve_small("--recipe", file, "--lr", "0.1")
    assert str(error.value) == (
        f"--min-lr 0.5 is above --lr 0.1 (--min-lr from recipe {file}:2; --lr from command line)"
    )
    with pytest.raises(ConfigError) as error:
        resolve_small("--data", "d", "--min-lr", "1", "--lr", "0.1")
    assert str(error.value) == "--min-lr 1.0 is above --lr 0.1"


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no recipe paper_bas: .*packaged are paper_base and paper:1 to paper:33"):
        recipe.load("paper_bas")
    with pytest.raises(ConfigError, match="the nearest name is Qwen3-8B_Math-CoT-20k_lr5e-5_ep8_bs256"):
        recipe.load("paper:Qwen3-8B_Math-CoT-20k_lr5e-5_ep8_bs25")
    with pytest.raises(ConfigError, match="run 5 has no layout 3x80GB; its layouts are 8x80GB, 64x80GB"):
        recipe.load("paper:5@3x80GB")
    with pytest.raises(ConfigError, match=r"--recipe is given twice \(a, b\)"):
        resolve_small("--recipe", "a", "--recipe=b")
    for words in (["--lr", "1", "--recipe"], ["--recipe="]):
        with pytest.raises(ConfigError, match="--recipe: name a YAML file"):
            resolve_small(*words)


def test_the_program_gets_what_rank_0_prints(write, capsys, monkeypatch):
    arguments = ["--recipe", write("r.yaml", "lr: 0.5\n"), "--data", "d"]
    seen: list[Options] = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run(Options, lambda resolved: seen.append(resolved.options), prog="program", argv=arguments) == 0
    assert seen == [Options(data=Path("d"), lr=0.5)] * 2
    assert capsys.readouterr().out.count("configuration: recipe") == 1
    assert run(Options, lambda resolved: None, prog="program", argv=["--recipe", "gone"]) == 2
    assert "program: error: no recipe gone" in capsys.readouterr().err


def test_the_saved_configuration_repeats_the_run(write, tmp_path):
    file = write("r.yaml", "lr: 5e-5\nsave_iters: '10,20'\nsizes: [1, 2]\n")
    odd = 'd "q" # no\\comment: é'
    first = resolve_small("--recipe", file, "--data", odd, "--min-lr", "1e-22", "--interval", "3")
    first.save(tmp_path / "run")
    saved = tmp_path / "run" / FILE_NAME
    again = resolve_small("--recipe", str(saved))
    assert again.options == first.options
    assert again.options.data == Path(odd) and again.options.min_lr == 1e-22
    assert str(again.origins["shuffle"]).startswith(f"recipe {saved}:")
    # Another YAML 1.1 parser reads the same values.
    plain = yaml.safe_load(saved.read_text(encoding="utf-8"))
    assert (plain["lr"], plain["min_lr"], plain["sizes"], plain["interval"]) == (5e-5, 1e-22, [1, 2], 3)
    assert f"lr: 5.0e-05  # recipe {file}:1\n" in saved.read_text(encoding="utf-8")


def test_the_saved_configuration_keeps_its_origins_until_a_value_changes(write, tmp_path):
    resolve_small("--data", "d", "--lr", "1").save(tmp_path)
    saved = tmp_path / FILE_NAME
    first = saved.read_text(encoding="utf-8")
    resolve_small("--recipe", str(saved)).save(tmp_path)
    assert saved.read_text(encoding="utf-8") == first
    resolve_small("--recipe", str(saved), "--lr", "2").save(tmp_path)
    assert f"lr: 2.0  # command line, instead of 1.0 in {saved}:" in saved.read_text(encoding="utf-8")
    saved.write_text("no: such option\n", encoding="utf-8")
    resolve_small("--data", "d", "--lr", "1").save(tmp_path)
    assert saved.read_text(encoding="utf-8") == first


def test_the_table_has_33_runs_with_names_of_their_own():
    runs = paper.all_runs()
    assert [run.number for run in runs] == list(range(1, 34))
    assert len({run.name for run in runs}) == 33
    assert {run.base_model["id"] for run in runs} >= {"Qwen/Qwen3-14B-Base", "internlm/internlm2_5-20b"}
    assert sum(run.facts["micro_batch"] == 2 for run in runs) == 5


def test_names_say_what_the_rows_say():
    for row in paper.all_runs():
        option = {name: entry.text for name, entry in row.entries.items()}
        style = "_ConstLR" if option["lr_decay_style"] == "constant" else ""
        wanted = f"ep{row.facts['epochs']}_bs{option['global_batch_size']}{style}"
        model, data, lr, rest = row.name.split("_", 3)
        assert rest == wanted
        assert float(lr.removeprefix("lr")) == float(option["lr"])
        assert row.facts["base_model"].removesuffix("-Base") == model
        assert row.facts["data_set"] == data.replace("Numina-Math", "NuminaMath")


def test_a_run_of_the_paper_says_what_it_needs():
    needs = {need.options[0]: need.text for need in recipe.load("paper:5").needs}
    assert set(needs) == {"data", "init_from"}
    assert "2,560 rows of jasonrqh/Math-CoT-20k" in needs["data"]
    assert "tools/build_dataset math-cot-2.5k --max-length 20000" in needs["data"]
    assert "Qwen/Qwen3-14B-Base" in needs["init_from"]


def test_tools_recipes_prints_all_runs_and_one(capsys):
    def printed(*arguments: str) -> str:
        command = [sys.executable, "-m", "megatron_sft.recipes", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    lines = printed().splitlines()
    assert [line.split()[0] for line in lines[1:34]] == [str(number) for number in range(1, 34)]
    text = printed("paper:9@64x80GB")
    assert yaml.safe_load(text)["save_iters"][-1] == 1280
    assert yaml.safe_load(text)["tensor_model_parallel_size"] == 4


@pytest.fixture(scope="module")
def train_options() -> type:
    """The trainer's own dataclass."""
    pytest.importorskip("megatron.core")
    from megatron_sft.train.options import TrainOptions

    return TrainOptions


@pytest.mark.trainer
@pytest.mark.parametrize("name", ALL_RUNS)
def test_every_run_of_the_paper_resolves_by_number_name_and_layout(name, train_options):
    row = paper.find(name)
    options = resolve(train_options, prog="x", argv=["--recipe", name, *OWN]).options
    assert options == resolve(train_options, prog="x", argv=["--recipe", f"paper:{row.name}", *OWN]).options
    samples = 2560 if row.number == 5 else 20480
    assert options.train_iters * options.global_batch_size == row.facts["epochs"] * samples
    assert row.data_set["samples"] == samples
    assert options.lr_warmup_iters == int(0.1 * options.train_iters)
    points = [10, 20, 40, 80, 160, 320, 480, 640, 800, 960, 1120, 1280]
    assert options.listed_save_iters() == [point for point in points if point <= options.train_iters]
    assert options.listed_save_iters()[-1] == options.train_iters
    assert (options.min_lr, options.weight_decay, options.clip_grad) == (0.0, 0.01, 1.0)
    assert (options.adam_beta1, options.adam_beta2, options.adam_eps, options.shuffle) == (0.9, 0.999, 1e-8, False)
    assert options.seq_length >= row.facts["max_length"]
    for layout, num_gpus in (("8x80GB", 8), ("64x80GB", 64)):
        argv = ["--recipe", f"{name}@{layout}", *OWN]
        sizes = resolve(train_options, prog="x", argv=argv).options.layout
        model_parallel = (
            sizes.tensor_model_parallel_size * sizes.pipeline_model_parallel_size * sizes.context_parallel_size
        )
        assert num_gpus % model_parallel == 0


@pytest.mark.trainer
def test_the_trainer_names_the_data_set_and_model_that_a_run_lacks(train_options, write):
    with pytest.raises(ConfigError) as error:
        resolve(train_options, prog="x", argv=["--recipe", "paper:19", "--save", "out"])
    message = str(error.value)
    assert "--data: shards of Math-CoT-20k (Hugging Face jasonrqh/Math-CoT-20k" in message
    assert "--init-from: folder of InternLM2.5-20B (Hugging Face internlm/internlm2_5-20b" in message
    # An own recipe may build on a run and name them; --model (random weights) is an answer too.
    own = write("own.yaml", "base: paper:19@8x80GB\ndata: shards\nsave: out\n")
    resolved = resolve(train_options, prog="x", argv=["--recipe", own, "--model", "config.json"])
    assert resolved.options.tensor_model_parallel_size == 8
    assert any("--reference-group-size 2" in line for line in resolved.lines())


@pytest.mark.trainer
def test_the_trainer_takes_a_recipe_and_its_saved_configuration_repeats_the_run(world, write, tmp_path):
    text = f"data: {world.shards}\ninit_from: {world.model}\nglobal_batch_size: 8\nseq_length: 320\nlr: 1e-3\n"
    file = write("own.yaml", text + "train_iters: 3\nlr_warmup_iters: 1\nadam_beta2: 0.95\n")
    once = train_with(["--recipe", file, "--save", str(tmp_path / "once"), "--train-iters", "2"])
    assert f"command line, instead of 3 in {file}:6" in once
    assert once.count("configuration: recipe") == 1
    saved = tmp_path / "once" / FILE_NAME
    train_with(["--recipe", str(saved), "--save", str(tmp_path / "again")])
    losses = [[record["loss"] for record in read_metrics(tmp_path / run)] for run in ("once", "again")]
    assert losses[0] == losses[1] and len(losses[0]) == 2


def train_with(arguments: list[str]) -> str:
    """What the trainer prints, as one process without torchrun."""
    command = [sys.executable, str(TRAINER), *arguments]
    result = subprocess.run(command, env=trainer_environment(), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout
