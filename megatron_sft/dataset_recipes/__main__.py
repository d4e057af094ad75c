"""`tools/build_dataset`: one command builds one data set; docs/datasets.md describes recipes and files."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from megatron_sft import cli
from megatron_sft.backends import require_extra
from megatron_sft.data.shards import ShardReader
from megatron_sft.dataset_recipes.options import BuildDatasetConfig
from megatron_sft.errors import DataError, Interrupted

if TYPE_CHECKING:
    from megatron_sft.dataset_recipes.plan import Plan

LIST_OPTIONS = ("--source", "--columns", "--traces", "--benchmarks")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    return cli.run(BuildDatasetConfig, run, prog="build_dataset", argv=merged(sys.argv[1:] if argv is None else argv))


def merged(argv: Sequence[str]) -> list[str]:
    """Return a command line in which a list option that occurs twice occurs once, with all values.

    Else the last one would win, and the sources of the first be looked for elsewhere.
    """
    values: dict[str, list[str]] = {option: [] for option in LIST_OPTIONS}
    rest: list[str] = []
    current: list[str] = rest
    for word in argv:
        if word.startswith("--"):
            option, _, value = word.partition("=")
            if option in values:
                current = values[option]
                current += [value] if value else []
                continue
            current = rest
        current.append(word)
    return [*rest, *(word for option, words in values.items() if words for word in (option, *words))]


def run(config: BuildDatasetConfig) -> None:
    """Build what is not there yet."""
    require_extra("data", "pyarrow", "yaml", "matplotlib")
    # They import those packages.
    from megatron_sft.dataset_recipes.finish import finishing_stage
    from megatron_sft.dataset_recipes.plan import Planner
    from megatron_sft.dataset_recipes.stages import StageRunner

    runner = StageRunner(config.output)
    if config.plan:
        plan = Planner(config).make()
        _say(plan)
        for verdict in runner.judge([*plan.stages, finishing_stage(plan, config)]):
            print(f"  {verdict.stage.name:12} {verdict.decision:12} {verdict.stage.title} {verdict.why}".rstrip())
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with runner.locked():
            plan = Planner(config).make()
            _say(plan)
            verdicts = runner.judge([*plan.stages, finishing_stage(plan, config)])
            counts = runner.run(verdicts, overwrite=config.overwrite)
    finally:
        signal.signal(signal.SIGTERM, before)
    # Opening compares the sizes of files that were made by an earlier command, too.
    num_samples = ShardReader(config.output / "shards").num_samples
    if num_samples != counts["rows"]["rows"]:
        raise DataError(f"{config.output}: {counts['rows']['rows']} rows but {num_samples} samples: give --overwrite")
    print(f"{config.output}: rows.parquet and shards with {num_samples} rows, card/README.md, dataset.json", flush=True)


def _say(plan: "Plan") -> None:
    print(f"{plan.recipe.name}: {plan.route}", flush=True)
    for deviation in plan.deviations:
        print(f"  {deviation['what']}: {deviation['used']}, the recipe has {deviation['recipe']}")


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted("stopped; the same command goes on from here")


if __name__ == "__main__":
    sys.exit(main())
