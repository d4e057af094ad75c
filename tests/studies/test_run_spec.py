"""The key `run` of a study: what is refused, with file and line; files laid over it; words of the trainer."""

from pathlib import Path

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.studies.run_spec import option_words
from megatron_sft.studies.study import Study, find, load, read

MINI = Path(__file__).with_name("mini.yaml")


def changed(tmp_path: Path, *replacements: tuple[str, str]) -> Study:
    text = MINI.read_text(encoding="utf-8")
    for old, new in replacements:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path, shown_as="study.yaml")


def test_values_have_their_types() -> None:
    run = load(str(MINI)).run
    assert run is not None
    assert run.models["tiny"].config is not None
    assert run.models["tiny"].config["rms_norm_eps"] == 1e-6
    assert run.models["tiny"].config["tie_word_embeddings"] is True
    assert run.models["tiny"].config["architectures"] == ["Qwen3ForCausalLM"]
    assert run.data_sets["traces"].rows == ("addition.train.jsonl",)
    assert not run.uses_gpus
    words = ["--device", "cpu", "--seq-length", "1024", "--shuffle", "--lr-warmup-iters", "1"]
    assert option_words(run.train) == words


def test_plain_values_as_words() -> None:
    assert option_words({"lr": 5e-5, "shuffle": False, "save_iters": "2,4", "save_interval": None}) == [
        *("--lr", "5e-05", "--no-shuffle", "--save-iters", "2,4", "--save-interval", "None")
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shuffle: true, lr", "shufle: true, lr", r"study\.yaml:\d+: shufle: true: .*nearest name is shuffle"),
        ("seq_length: 1024", "seq_length: long", r"study\.yaml:\d+: seq_length: long: expected a whole number"),
        ("shuffle: true, lr", "lr: 1e-3, lr", r"study\.yaml:\d+: lr: 1e-3: comes from the study"),
        (
            "data_sets: [answers, traces], vocab",
            "data_sets: [anwers], vocab",
            "there is no anwers; .* name is answers",
        ),
        ("      rows: [addition.train.jsonl]\n", "", "data_sets: traces: rows: .*belong to `make`"),
        ("      data_set: answers\n      options", "      options", "models: tiny: data_set is missing"),
        ("options: {train_iters: 4, ", "options: {", "models: tiny: options: train_iters is missing"),
        ("num_processes: 1", "num_processes: 0", "num_processes: 0: must be at least 1"),
        ("rope_theta: 10000.0", "vocab_size: 9", "vocab_size: take it out"),
        ("rope_theta: 10000.0", "x: !!python/name:os.system ''", r"study\.yaml:\d+: .*the tag .* is not allowed"),
        ("  tokenizer: {data_sets: [answers, traces], vocab_size: 320}\n", "", "needs `tokenizer` beside `models`"),
        ("--reload-weights", "--x 'open", "run: evaluate: .*No closing quotation"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(tmp_path, (old, new))


def test_an_arm_needs_its_data_set_and_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run: data_sets: there is no other; known are answers, traces"):
        changed(
            tmp_path,
            ("data_set: [traces, ans", "data_set: [traces, other, ans"),
            ("{data_set: ans", "{data_set: other} #"),
        )


def test_a_file_laid_over_changes_what_it_names(tmp_path: Path) -> None:
    over = tmp_path / "here.yaml"
    over.write_text("num_processes: 2\ntrain: {seq_length: 512}\ndata_sets: {traces: {shards: --max-length 9}}\n")
    run = read(MINI, shown_as="mini.yaml", over=over).run
    assert run is not None
    assert run.num_processes == 2
    assert option_words(run.train)[:4] == ["--device", "cpu", "--seq-length", "512"]
    assert run.data_sets["traces"].shards == "--max-length 9"
    assert run.data_sets["traces"].rows == ("addition.train.jsonl",)
    assert run.data_sets["answers"].shards == "--max-length 256 --verify math"


def test_errors_name_the_file_that_is_laid_over(tmp_path: Path) -> None:
    over = tmp_path / "here.yaml"
    over.write_text("num_processes: 2\ntrain:\n  seq_lenth: 512\n")
    with pytest.raises(ConfigError, match=r"here\.yaml:3: seq_lenth: 512"):
        read(MINI, shown_as="mini.yaml", over=over)
    over.write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"here\.yaml: expected lines"):
        read(MINI, shown_as="mini.yaml", over=over)


def test_names_of_the_packaged_studies() -> None:
    assert find("paper") == find("studies/paper") == find("studies/paper.yaml")
    assert find("studies/paper").name == "paper.yaml"
    with pytest.raises(ConfigError, match=r"no study papr.*nearest name is paper"):
        find("papr")
