"""What every program's command line does with refused values, and with defaults from elsewhere."""

from dataclasses import dataclass

import pytest
import tyro

from megatron_sft import cli
from megatron_sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """A small program."""

    size: int = 1
    """How large."""
    quick: bool = False
    """Less work."""

    def __post_init__(self) -> None:
        """Refuse what is too large."""
        if self.size > 3:
            raise ConfigError(f"--size {self.size} is too large")


def test_a_refused_value_is_the_programs_own_message(capsys):
    assert cli.run(Config, print, prog="small", argv=["--size", "4"]) == 2
    assert capsys.readouterr().err == "small: error: --size 4 is too large\n"


def test_the_program_gets_the_class_it_asked_for():
    seen: list[Config] = []
    assert cli.run(Config, seen.append, prog="small", argv=["--size", "2", "--quick"]) == 0
    assert seen == [Config(size=2, quick=True)]
    assert type(seen[0]) is Config


def test_defaults_from_elsewhere_are_not_checked_before_the_command_line_is_read(capsys):
    defaults = object.__new__(Config)
    object.__setattr__(defaults, "size", 9)
    object.__setattr__(defaults, "quick", True)
    parsed = cli.parse(Config, prog="small", argv=["--size", "3", "--no-quick"], defaults=defaults)
    assert parsed == Config(size=3, quick=False)
    with pytest.raises(ConfigError, match="--size 9 is too large"):
        cli.parse(Config, prog="small", argv=[], defaults=defaults)
    object.__setattr__(defaults, "size", tyro.MISSING)
    with pytest.raises(SystemExit):
        cli.parse(Config, prog="small", argv=[], defaults=defaults)
    assert "--size INT" in capsys.readouterr().err


def test_help_has_the_docstring_and_the_epilogue(capsys):
    with pytest.raises(SystemExit):
        cli.parse(Config, prog="small", argv=["--help"], epilogue="More of it.")
    shown = capsys.readouterr().out
    assert "A small program." in shown and "More of it." in shown and "How large. (default: 1)" in shown
