"""Write procedural problems with verified answers, as JSONL rows for `build_shards` and `evaluate`.

For each task, `<output>/<task>.train.jsonl` and `<output>/<task>.held_out.jsonl`, and `<output>/make_tasks.json`,
which accounts for what was drawn. The bytes of the rows depend on the options alone.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

from megatron_sft import cli
from megatron_sft.data.tasks.problem import (
    HELD_OUT_PERCENT,
    Difficulty,
    Family,
    Problem,
    Split,
    Style,
    make_row,
    split_of,
)
from megatron_sft.data.tasks.registry import builtin_families, select
from megatron_sft.errors import ConfigError
from megatron_sft.files import write_text

MAX_BARREN_DRAWS = 20_000
"""Draws in a row without a new problem after which the family counts as exhausted."""
DEFAULT_WRONG_SHARE = 0.3
"""Of rows of the style low_quality."""


@dataclass(frozen=True, kw_only=True)
class MakeTasksConfig:
    """Write procedural problems with step-by-step traces, training and held-out ones disjoint."""

    tasks: str
    """Tasks to write, separated by commas: addition, subtraction, countdown, comparison, sorting, reversal,
    counting, locked_code, open_code, and, with reasoning-gym installed, gym_chain_sum, gym_gcd, gym_countdown."""
    output: Path
    """Folder to write to; files of the same names are replaced."""
    num_train: int = 10_000
    """Training problems per task."""
    num_held_out: int = 200
    """Held-out problems per task; none of them can occur in any training file, whatever its seed."""
    style: Style = "trace"
    """trace: `<think>` steps `</think>` and the boxed answer; short: the boxed answer alone; low_quality: every second
    step without a think block and the boxed answer, which is wrong in a share of the rows. These say that they are not
    verified: build shards of them without --verify."""
    wrong_share: float | None = None
    """Share of rows of the style low_quality whose boxed answer is wrong, 0 to 1. Default: 0.3."""
    seed: int = 0
    """Which problems are drawn, and in which order."""
    max_digits: int | None = None
    """Longest operand of addition, subtraction and comparison, in digits. Default: 3."""
    max_string_digits: int | None = None
    """Longest digit string of sorting, reversal and counting (the shortest has 3), in digits. Default: 5."""
    countdown_numbers: str | None = None
    """How many numbers a Countdown problem may have, separated by commas. Default: 3,4."""

    def __post_init__(self) -> None:
        """Refuse counts and sizes that cannot work."""
        if self.num_train < 0 or self.num_held_out < 0 or self.num_train + self.num_held_out == 0:
            raise ConfigError("--num-train and --num-held-out must not be negative, nor both 0")
        if self.wrong_share is not None and self.style != "low_quality":
            raise ConfigError(f"--wrong-share has no effect on --style {self.style}: leave it out, or take low_quality")
        if self.wrong_share is not None and not 0 <= self.wrong_share <= 1:
            raise ConfigError(f"--wrong-share {self.wrong_share}: must be from 0 to 1")
        for option, value, low, high in (
            ("--max-digits", self.max_digits, 1, 12),
            ("--max-string-digits", self.max_string_digits, 3, 40),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{option} {value}: must be from {low} to {high}")

    def task_names(self) -> list[str]:
        """Return the names in `tasks`."""
        return [name.strip() for name in self.tasks.split(",") if name.strip()]

    def share_of_wrong(self) -> float:
        """Return `wrong_share`, its default filled in."""
        return DEFAULT_WRONG_SHARE if self.wrong_share is None else self.wrong_share

    def difficulty(self) -> Difficulty:
        """Return the sizes, defaults filled in."""
        given: dict[str, Any] = {"max_digits": self.max_digits, "max_string_digits": self.max_string_digits}
        if self.countdown_numbers is not None:
            given["countdown_numbers"] = _parse_countdown_numbers(self.countdown_numbers)
        return Difficulty(**{name: value for name, value in given.items() if value is not None})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    return cli.run(MakeTasksConfig, run, prog="make_tasks", argv=argv)


def run(config: MakeTasksConfig) -> None:
    """Write all files of `config`."""
    families = select(builtin_families(), config.task_names())
    refuse_ineffective(config, families)
    difficulty = config.difficulty()
    config.output.mkdir(parents=True, exist_ok=True)
    counts: list[tuple[Split, int]] = [("train", config.num_train), ("held_out", config.num_held_out)]
    account = []
    for family in families:
        for split, num_rows in counts:
            entry = write_file(family, split, num_rows, config, difficulty)
            account.append(entry)
            print(
                f"{entry['file']}: {num_rows} rows, longest response {entry['max_response_chars']} characters",
                flush=True,
            )
    settings: dict[str, Any] = {"seed": config.seed, "style": config.style, "held_out_percent": HELD_OUT_PERCENT}
    if config.style == "low_quality":
        settings["wrong_share"] = config.share_of_wrong()
    record = {"settings": settings, "difficulty": asdict(difficulty), "files": account}
    write_text(config.output / "make_tasks.json", json.dumps(record, indent=2) + "\n")


def refuse_ineffective(config: MakeTasksConfig, families: Sequence[Family]) -> None:
    """Raise ConfigError for a size option that no chosen task heeds, and for traces of a task without them."""
    heeded = frozenset[str]().union(*(family.options for family in families))
    for option in (field.name for field in fields(Difficulty)):
        if getattr(config, option) is not None and option not in heeded:
            raise ConfigError(
                f"--{option.replace('_', '-')} has no effect on the tasks chosen ({config.tasks}): leave it out"
            )
    for family in families:
        if config.style != "short" and not family.has_traces:
            raise ConfigError(f"task {family.name} has answers but no traces: write it with --style short")


def write_file(
    family: Family, split: Split, num_rows: int, config: MakeTasksConfig, difficulty: Difficulty
) -> dict[str, Any]:
    """Write `<task>.<split>.jsonl` and return its part of the account."""
    path = config.output / f"{family.name}.{split}.jsonl"
    rng = Random(f"{config.seed}/{family.name}/{split}")
    drawn = DrawCounts()
    lines, lengths = [], [0]
    for number, problem in enumerate(draw_problems(family, split, num_rows, rng, difficulty, drawn)):
        row_id = f"{family.name}-{split.replace('_', '-')}-{number:06d}"
        row = make_row(
            family,
            problem,
            row_id=row_id,
            style=config.style,
            wrong_share=config.share_of_wrong(),
            seed=config.seed,
        )
        lengths.append(len(row["response"]))
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    text = "".join(lines)
    write_text(path, text)
    return {
        "task": family.name,
        "split": split,
        "file": path.name,
        "num_rows": num_rows,
        "num_draws": drawn.total,
        "num_draws_of_other_split": drawn.other_split,
        "num_draws_repeated": drawn.repeated,
        "mean_response_chars": round(sum(lengths) / max(1, num_rows), 1),
        "max_response_chars": max(lengths),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


@dataclass
class DrawCounts:
    """What became of the problems drawn for one file."""

    total: int = 0
    other_split: int = 0
    repeated: int = 0


def draw_problems(
    family: Family, split: Split, num_rows: int, rng: Random, difficulty: Difficulty, drawn: DrawCounts
) -> Iterator[Problem]:
    """Yield `num_rows` different problems of `split`, counting draws in `drawn`.

    Raises:
        ConfigError: when the family has too few problems of this difficulty.
    """
    seen: set[str] = set()
    barren = 0
    while len(seen) < num_rows:
        problem = family.draw(rng, difficulty)
        drawn.total += 1
        if split_of(family.name, problem.key) != split:
            drawn.other_split += 1
        elif problem.key in seen:
            drawn.repeated += 1
        else:
            seen.add(problem.key)
            barren = 0
            yield problem
            continue
        barren += 1
        if barren >= MAX_BARREN_DRAWS:
            raise ConfigError(
                f"task {family.name}: found only {len(seen)} different {split} problems of {num_rows} at {difficulty}: "
                f"ask for fewer, or for larger problems (of all problems, {HELD_OUT_PERCENT} % are held out)"
            )


def _parse_countdown_numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part in {"2", "3", "4", "5", "6"} for part in parts):
        raise ConfigError(f"--countdown-numbers {text!r}: expected counts from 2 to 6 separated by commas, such as 3,4")
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
