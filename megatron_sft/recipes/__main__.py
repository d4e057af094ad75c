"""Entry point of tools/recipes."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from megatron_sft import cli
from megatron_sft.backends import require_extra


@dataclass(frozen=True, kw_only=True)
class RecipesConfig:
    """List the runs of the paper (arXiv 2604.06628), or show what one recipe gives the trainer."""

    recipe: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="RECIPE")] = None
    """YAML file or name, as the trainer's --recipe takes it: paper:7, paper:7@8x80GB, paper_base. By default all runs
    of the paper are listed."""


def main(config: RecipesConfig) -> None:
    """Print one or all."""
    require_extra("train", "yaml")
    from megatron_sft.recipes import listing

    lines = listing.table() if config.recipe is None else listing.details(config.recipe)
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(cli.run(RecipesConfig, main, prog="recipes"))
