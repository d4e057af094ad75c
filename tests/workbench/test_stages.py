"""The stage runner: skips what is done, goes on where it was interrupted, does over what changed."""

import json
import sys
from pathlib import Path

import pytest

from megatron_sft.errors import UserError
from megatron_sft.workbench.stages import Stage, StageRunner, command


def appending(folder: Path, name: str, text: str = "x") -> Stage:
    """A stage that appends a line to its output, so that a second run of it shows."""
    program = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"
    path = folder / f"{name}.txt"
    return Stage(name=name, title=name, commands=[[sys.executable, "-c", program, str(path), text]], outputs=[path])


def failing(folder: Path, name: str) -> Stage:
    program = "print('so far'); raise SystemExit('something broke')"
    return Stage(name=name, title=name, commands=[[sys.executable, "-c", program]], outputs=[folder / f"{name}.txt"])


def contents(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


def test_done_stages_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = [appending(tmp_path, "a"), appending(tmp_path, "b")]
    StageRunner(tmp_path).run(stages)
    StageRunner(tmp_path).run(stages)
    assert contents(tmp_path) == {"a": "x\n", "b": "x\n"}
    assert capsys.readouterr().out.count("already done") == 2


def test_changed_stage_is_done_afresh_with_all_after_it(tmp_path: Path) -> None:
    StageRunner(tmp_path).run([appending(tmp_path, name) for name in "abc"])
    StageRunner(tmp_path).run([appending(tmp_path, "a"), appending(tmp_path, "b", "y"), appending(tmp_path, "c", "z")])
    assert contents(tmp_path) == {"a": "x\n", "b": "y\n", "c": "z\n"}


def test_stage_after_a_changed_one_is_done_afresh_though_its_command_is_the_same(tmp_path: Path) -> None:
    StageRunner(tmp_path).run([appending(tmp_path, name) for name in "ab"])
    (tmp_path / "b.txt").write_text("made from the old a\n")
    StageRunner(tmp_path).run([appending(tmp_path, "a", "y"), appending(tmp_path, "b")])
    assert contents(tmp_path) == {"a": "y\n", "b": "x\n"}


def test_lost_output_is_made_again(tmp_path: Path) -> None:
    stages = [appending(tmp_path, "a"), appending(tmp_path, "b")]
    StageRunner(tmp_path).run(stages)
    (tmp_path / "a.txt").unlink()
    StageRunner(tmp_path).run(stages)
    assert contents(tmp_path) == {"a": "x\n", "b": "x\n"}


def test_interrupted_stage_goes_on_with_what_it_has(tmp_path: Path) -> None:
    stages = [appending(tmp_path, "a"), appending(tmp_path, "b")]
    StageRunner(tmp_path).run(stages)
    records = json.loads((tmp_path / "stages.json").read_text())
    records["a"]["done"] = False
    del records["b"]
    (tmp_path / "stages.json").write_text(json.dumps(records))
    StageRunner(tmp_path).run(stages)
    assert contents(tmp_path) == {"a": "x\nx\n", "b": "x\n"}


def test_failure_shows_command_output_and_log_and_stops(tmp_path: Path) -> None:
    stages = [appending(tmp_path, "a"), failing(tmp_path, "b"), appending(tmp_path, "c")]
    with pytest.raises(UserError, match=r"(?s)exit status 1 from: .*so far.*something broke.*logs/b\.log"):
        StageRunner(tmp_path).run(stages)
    assert contents(tmp_path) == {"a": "x\n"}
    StageRunner(tmp_path).run([stages[0], appending(tmp_path, "b"), stages[2]])
    assert contents(tmp_path) == {"a": "x\n", "b": "x\n", "c": "x\n"}


def test_program_that_makes_nothing_is_an_error(tmp_path: Path) -> None:
    stage = Stage(name="a", title="a", commands=[["true"]], outputs=[tmp_path / "a.txt"])
    with pytest.raises(UserError, match="ended without an error but without"):
        StageRunner(tmp_path).run([stage])


def test_preparation_comes_before_the_programs_and_seconds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "prepared.txt"
    program = "import sys, time; time.sleep(0.2); assert open(sys.argv[1]).read() == 'ready'"
    words = [sys.executable, "-c", program, str(path)]
    stage = Stage(name="a", title="a", commands=[words], outputs=[path], prepare=lambda: void(path.write_text("ready")))
    runner = StageRunner(tmp_path)
    runner.run([stage])
    assert 0.2 <= runner.seconds()["a"] < 60
    assert StageRunner(tmp_path).seconds() == runner.seconds()


def void(_: object) -> None:
    """Drop a value."""


def test_command_fills_in_words_and_lists() -> None:
    assert command("sort --key {key} {files} {out}/x", key=2, files=["a b", Path("c")], out="d e") == [
        *("sort", "--key", "2", "a b", "c", "d e/x")
    ]
    with pytest.raises(KeyError):
        command("sort {files}")
