"""Setting up: interpreters that exist and fail, missing prerequisites with remedies, stamps, pip's settings for uv."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.workbench import setup_env
from megatron_sft.workbench.setup_env import Setup

ROOT = Path(__file__).resolve().parents[2]


def write_program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def python_of(path: Path, version: str) -> Path:
    """A program that answers like a Python interpreter asked for its version."""
    return write_program(path, f'case "$*" in *print*) echo {version} ;; esac')


def find_python(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), **environment}
    command = ["/bin/sh", str(ROOT / "tools" / "find_python"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=settings)


def test_shims_that_fail_are_passed_over(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    python_of(tmp_path / "bin" / "python3", "3.11")
    found = find_python(tmp_path)
    assert (found.stdout.strip(), found.returncode) == (str(tmp_path / "bin" / "python3"), 0)


def test_newer_core_is_preferred_and_pyenv_is_searched(tmp_path: Path) -> None:
    python_of(tmp_path / "bin" / "python3.11", "3.11")
    inside = python_of(tmp_path / ".pyenv" / "versions" / "3.12.4" / "bin" / "python", "3.12")
    assert find_python(tmp_path).stdout.strip() == str(inside)
    assert find_python(tmp_path, "3.11").stdout.strip() == str(tmp_path / "bin" / "python3.11")
    elsewhere = python_of(tmp_path / "other" / "versions" / "3.13.0" / "bin" / "python", "3.13")
    assert find_python(tmp_path, PYENV_ROOT=str(tmp_path / "other")).stdout.strip() == str(elsewhere)


def test_unsupported_versions_end_in_a_remedy(tmp_path: Path) -> None:
    python_of(tmp_path / "bin" / "python3", "3.9")
    found = find_python(tmp_path)
    assert (found.stdout, found.returncode) == ("", 2)
    assert "apt install python3.11 python3.11-venv" in found.stderr


def test_chosen_interpreter_must_be_supported(tmp_path: Path) -> None:
    old = python_of(tmp_path / "bin" / "old", "3.9")
    found = find_python(tmp_path, PYTHON=str(old))
    assert found.returncode == 2
    assert f"$PYTHON is '{old}', Python 3.9: 3.11, 3.12 or 3.13 is needed" in found.stderr
    good = python_of(tmp_path / "bin" / "good", "3.13")
    assert find_python(tmp_path, PYTHON=str(good)).stdout.strip() == str(good)


def test_all_missing_prerequisites_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = write_program(tmp_path / "python", 'case "$*" in *print*) echo 3 11 ;; *) exit 1 ;; esac')
    problems = setup_env.missing_prerequisites(str(bare), make_venv=True)
    assert len(problems) == 3
    assert "apt install python3.11-venv" in problems[0]
    assert "apt install gcc" in problems[1]
    assert "rustup" in problems[2]


def test_old_cargo_is_named_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_program(tmp_path / "cargo", "echo 'cargo 1.65.0 (abc 2022-11-01)'")
    (problem,) = setup_env.cargo_problems()
    assert "version 1.65" in problem
    assert "1.85 or newer" in problem
    write_program(tmp_path / "cargo", "echo 'cargo 1.85.0'")
    assert setup_env.cargo_problems() == []
    write_program(tmp_path / "cargo", "echo 'rustup could not choose a version' >&2; exit 1")
    assert "rustup could not choose" in setup_env.cargo_problems()[0]


def test_this_machine_has_every_prerequisite() -> None:
    assert setup_env.missing_prerequisites(sys.executable, make_venv=False) == []


def test_missing_library_is_found_out() -> None:
    assert setup_env.library_loads(sys.executable, "libc.so.6")
    assert not setup_env.library_loads(sys.executable, "libno-such-thing.so.1")


def test_unknown_extra_is_refused() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    setup_env.check_extras(setup_env.DEFAULT_EXTRAS, pyproject)
    with pytest.raises(EnvironmentProblem, match=r"'evil': known are train, eval, lm-eval, vllm"):
        setup_env.check_extras("train,evil", pyproject)


def options_in(folder: Path, **changes: object) -> Setup:
    settings: dict[str, object] = {"root": folder, "venv": folder / "venv", "python": sys.executable, "extras": "dev"}
    return Setup(**(settings | changes))  # type: ignore[arg-type]


def test_stamp_tells_packages_from_rust_sources(tmp_path: Path) -> None:
    (tmp_path / "rust" / "core").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    source = tmp_path / "rust" / "core" / "lib.rs"
    source.write_text("fn a() {}")
    (tmp_path / "pyproject.toml").write_text("[project]")
    before = setup_env.stamp_of(options_in(tmp_path))
    assert setup_env.stamp_of(options_in(tmp_path)) == before
    source.write_text("fn b() {}")
    after = setup_env.stamp_of(options_in(tmp_path))
    assert after["requirements"] == before["requirements"]
    assert after["native"] != before["native"]
    (tmp_path / "pyproject.toml").write_text("[project] # changed")
    assert setup_env.stamp_of(options_in(tmp_path))["requirements"] != before["requirements"]
    assert setup_env.stamp_of(options_in(tmp_path, extras="train"))["requirements"] != after["requirements"]


def test_unreadable_stamp_means_install_again(tmp_path: Path) -> None:
    assert setup_env.read_stamp(tmp_path) == {}
    (tmp_path / setup_env.STAMP).write_text('{"native": "a')
    assert setup_env.read_stamp(tmp_path) == {}


def test_environment_that_cannot_be_used_is_left_alone(tmp_path: Path) -> None:
    assert not setup_env.usable_venv(options_in(tmp_path))  # none there
    write_program(tmp_path / "venv" / "bin" / "python", "exit 1")
    with pytest.raises(EnvironmentProblem, match="does not run: remove"):
        setup_env.usable_venv(options_in(tmp_path))
    write_program(tmp_path / "venv" / "bin" / "python", "echo 3 9")
    with pytest.raises(EnvironmentProblem, match=r"holds Python 3\.9, wanted is Python 3\.11, 3\.12 or 3\.13"):
        setup_env.usable_venv(options_in(tmp_path))
    write_program(tmp_path / "venv" / "bin" / "python", "echo 3 11")
    assert setup_env.usable_venv(options_in(tmp_path))
    chosen = write_program(tmp_path / "python3.13", "echo 3 13")
    with pytest.raises(EnvironmentProblem, match=r"wanted is Python 3\.13"):
        setup_env.usable_venv(options_in(tmp_path, python=str(chosen), python_is_chosen=True))


def test_settings_of_pip_are_handed_to_uv(tmp_path: Path) -> None:
    listing = f"""\
:env:.cert='/etc/ssl/ours.crt'
:env:.default-timeout='180'
:env:.find-links='{tmp_path} {tmp_path / "absent"}'
:env:.index-url='https://env.example/simple'
global.index-url='https://file.example/simple'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
"""
    assert setup_env.translate_pip_config(listing) == {
        "SSL_CERT_FILE": "/etc/ssl/ours.crt",
        "UV_FIND_LINKS": str(tmp_path),
        "UV_DEFAULT_INDEX": "https://env.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
    }
    assert setup_env.translate_pip_config("") == {}


def test_settings_for_uv_itself_win() -> None:
    options = options_in(ROOT, venv=Path(sys.prefix))
    settings = dict(os.environ) | {"PIP_INDEX_URL": "https://pip.example/simple"}
    settings.pop("UV_DEFAULT_INDEX", None)
    assert setup_env.uv_settings(options, settings)["UV_DEFAULT_INDEX"] == "https://pip.example/simple"
    settings["UV_DEFAULT_INDEX"] = "https://uv.example/simple"
    assert "UV_DEFAULT_INDEX" not in setup_env.uv_settings(options, settings)


def test_problem_is_an_error_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert setup_env.main(["--extras", "nonsense"]) == 2
    assert "setup_env: error: --extras names 'nonsense'" in capsys.readouterr().err
