"""The local runner: skips what is done, goes on where it was interrupted, does over what changed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from megatron_sft.errors import ConfigError
from megatron_sft.stages.graph import Graph, Stage
from megatron_sft.stages.local import LocalRunner, locked
from megatron_sft.stages.marks import Mark

ROOT = Path(__file__).resolve().parents[2]
APPEND = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"


def appending(name: str, *after: str, text: str = "x", **more: Any) -> Stage:
    """A stage that appends a line to its output, so that a second run of it shows."""
    words = (sys.executable, "-c", APPEND, f"{{output}}/{name}.txt", text)
    facts: dict[str, Any] = {"kind": "k", "title": name, "commands": (words,), "after": after}
    return Stage(name=name, **(facts | {"outputs": (f"{{output}}/{name}.txt",)} | more))


def failing(name: str, *after: str) -> Stage:
    words = (sys.executable, "-c", "print('so far'); raise SystemExit('something broke')")
    return appending(name, *after, commands=(words,))


def run(folder: Path, *stages: Stage) -> dict[str, Mark]:
    graph = Graph(stages)
    return LocalRunner(graph, folder).run([one.name for one in graph])


def states(marks: dict[str, Mark]) -> dict[str, str]:
    return {name: mark.state for name, mark in marks.items()}


def decisions(folder: Path, *stages: Stage) -> dict[str, str]:
    return {name: one.decision for name, one in LocalRunner(Graph(stages), folder).verdicts().items()}


def contents(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


def test_done_stages_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = [appending("a"), appending("b", "a")]
    assert states(run(tmp_path, *stages)) == {"a": "done", "b": "done"}
    marks = run(tmp_path, *stages)
    assert contents(tmp_path) == {"a": "x\n", "b": "x\n"}
    assert capsys.readouterr().out.count("already done") == 2
    assert [mark.attempts for mark in marks.values()] == [1, 1]


def test_changed_stage_is_done_afresh_with_what_depends_on_it_only(tmp_path: Path) -> None:
    run(tmp_path, appending("a"), appending("b"), appending("c", "b"), appending("d"))
    (tmp_path / "c.txt").write_text("made from the old b\n")
    changed = [appending("a"), appending("b", text="y"), appending("c", "b"), appending("d")]
    assert decisions(tmp_path, *changed) == {"a": "done", "b": "do afresh", "c": "waits", "d": "done"}
    run(tmp_path, *changed)
    assert contents(tmp_path) == {"a": "x\n", "b": "y\n", "c": "x\n", "d": "x\n"}


def test_what_changed_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data.txt"
    data.write_text("1")
    run(tmp_path / "run", appending("a", settings={"seed": 0}, inputs={"data": data}))
    data.write_text("2")
    runner = LocalRunner(
        Graph([appending("a", text="y", settings={"seed": 1}, inputs={"data": data})]), tmp_path / "run"
    )
    assert runner.verdicts()["a"].why == "command: x became y; setting seed; content of data"


def test_an_input_elsewhere_with_the_same_content_changes_nothing(tmp_path: Path) -> None:
    words = (sys.executable, "-c", APPEND, "{output}/a.txt", "{model}")
    for name in ("here", "there"):
        (tmp_path / name / "inside").mkdir(parents=True)
        (tmp_path / name / "inside" / "weights").write_text("1")
    for name in ("here", "there"):
        run(tmp_path / "run", appending("a", commands=(words,), inputs={"model": tmp_path / name}))
    assert contents(tmp_path / "run") == {"a": f"{tmp_path / 'here'}\n"}
    (tmp_path / "there" / "inside" / "weights").write_text("2")
    run(tmp_path / "run", appending("a", commands=(words,), inputs={"model": tmp_path / "there"}))
    assert contents(tmp_path / "run") == {"a": f"{tmp_path / 'there'}\n"}


def test_a_run_may_be_moved(tmp_path: Path) -> None:
    run(tmp_path / "old", appending("a"))
    (tmp_path / "old").rename(tmp_path / "new")
    run(tmp_path / "new", appending("a"))
    assert contents(tmp_path / "new") == {"a": "x\n"}


def test_lost_output_is_made_again(tmp_path: Path) -> None:
    stages = [appending("a"), appending("b", "a")]
    run(tmp_path, *stages)
    (tmp_path / "a.txt").unlink()
    run(tmp_path, *stages)
    assert contents(tmp_path) == {"a": "x\n", "b": "x\n"}


def test_interrupted_stage_goes_on_with_what_it_has(tmp_path: Path) -> None:
    run(tmp_path, appending("a"))
    mark = tmp_path / "stages" / "a.json"
    record = json.loads(mark.read_text())
    mark.write_text(json.dumps(record | {"state": "running", "seconds": 100.0}))
    assert decisions(tmp_path, appending("a")) == {"a": "go on"}
    after = run(tmp_path, appending("a"))["a"]
    assert contents(tmp_path) == {"a": "x\nx\n"}
    assert after.attempts == 2
    assert 100 <= after.seconds < 200


def test_failure_says_why_and_blocks_only_what_depends_on_it(tmp_path: Path) -> None:
    marks = run(tmp_path, failing("a"), appending("b", "a"), appending("c", "b"), appending("d"))
    assert states(marks) == {"a": "failed", "b": "blocked", "c": "blocked", "d": "done"}
    for text in ("exit status 1 from: ", "so far\n", "something broke", "logs/a.log"):
        assert text in marks["a"].why
    assert marks["a"].reason == "something broke"
    assert marks["b"].why == marks["b"].reason == "a is failed"
    assert marks["c"].why == "b is blocked"
    repaired = [appending("a"), appending("b", "a"), appending("c", "b"), appending("d")]
    assert set(states(run(tmp_path, *repaired)).values()) == {"done"}
    assert contents(tmp_path) == dict.fromkeys("abcd", "x\n")


def test_a_tolerant_stage_makes_do_and_is_done_afresh_when_there_is_more(tmp_path: Path) -> None:
    last = appending("z", "a", "b", is_tolerant=True)
    assert states(run(tmp_path, failing("a"), failing("b"), last)) == {"a": "failed", "b": "failed", "z": "blocked"}
    assert states(run(tmp_path, failing("a"), appending("b"), last)) == {"a": "failed", "b": "done", "z": "done"}
    assert decisions(tmp_path, failing("a"), appending("b"), last)["z"] == "done"
    (tmp_path / "z.txt").write_text("without a\n")
    run(tmp_path, appending("a"), appending("b"), last)
    assert contents(tmp_path) == {"a": "x\n", "b": "x\n", "z": "x\n"}


def test_missing_input_blocks(tmp_path: Path) -> None:
    marks = run(tmp_path, appending("a", inputs={"model": tmp_path / "nowhere"}))
    assert (marks["a"].state, marks["a"].why) == ("blocked", f"{tmp_path / 'nowhere'} does not exist")


def test_program_that_makes_nothing_and_one_that_is_nowhere_fail(tmp_path: Path) -> None:
    marks = run(tmp_path, appending("a", commands=(("true",),)), appending("b", commands=(("no-such-program",),)))
    assert states(marks) == {"a": "failed", "b": "failed"}
    assert "ended without an error but without" in marks["a"].why
    assert "cannot run no-such-program" in marks["b"].why


def test_one_stage_alone_needs_those_before_it(tmp_path: Path) -> None:
    runner = LocalRunner(Graph([appending("a"), appending("b", "a")]), tmp_path)
    assert runner.run_one("b").state == "blocked"
    assert runner.run_one("a").state == "done"
    assert runner.run_one("b").state == "done"


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "stages" / "lock"), pytest.raises(ConfigError, match="another run is at work there"):
        run(tmp_path, appending("a"))


PROGRAM = """
import sys, time
from pathlib import Path
from megatron_sft.stages.graph import Graph, Stage
from megatron_sft.stages.local import LocalRunner, stopped_by_sigterm
words = ("sh", "-c", "echo >> {output}/started.txt; sleep 5; echo >> {output}/ended.txt")
stage = Stage(name="a", kind="k", title="a", commands=(words,), outputs=("{output}/started.txt",))
with stopped_by_sigterm():
    LocalRunner(Graph([stage]), Path(sys.argv[1])).run(["a"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_programs_end_with_the_run(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    while not (tmp_path / "started.txt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=20)
    mark = json.loads((tmp_path / "stages" / "a.json").read_text())
    assert (mark["state"], mark["attempts"]) == ("running", 1)
    assert mark["why"] == ("interrupted" if number == signal.SIGTERM else "")
    # The lock is free once the program has ended.
    with locked(tmp_path / "stages" / ".a.lock"):
        assert not (tmp_path / "ended.txt").exists()
