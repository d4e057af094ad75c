"""Procedural benchmarks of the package reasoning-gym (extra "eval"), offline: `rg_chain_sum` and its like.

Only families whose problems have one right answer are here, and Countdown. Their answers are compared by this project's
own graders: reasoning-gym's scorers are never called, as some of them execute what they are given.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from evals.graders.form import Form
from evals.items import Item
from evals.tasks.benchmark import Benchmark, Group, Row, Source
from evals.tasks.prompts import PROMPT_SPACE, boxed_prompt
from evals.tasks.rows import text_field
from megatron_sft.backends import import_reasoning_gym
from megatron_sft.data.tasks.countdown import make_problem
from megatron_sft.errors import DataError, EnvironmentProblem

DEFAULT_SIZE = 100


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of reasoning-gym."""

    name: str
    """Its name there."""
    form: Form | None
    """What its answers look like; None for Countdown."""
    group: Group = "out-of-domain"
    """In-domain: arithmetic, for models trained on mathematics."""

    def make_rows(self, size: int, seed: int) -> list[Row]:
        """Draw `size` rows with `question`, `answer`, `metadata`.

        Raises:
            EnvironmentProblem: when reasoning-gym is not installed.
        """
        try:
            reasoning_gym = import_reasoning_gym()
        except ImportError as error:
            raise EnvironmentProblem(
                f"task rg_{self.name}: the package reasoning-gym cannot be imported ({error}): "
                'install the extra "eval", or leave the rg_ tasks out'
            ) from error
        dataset = reasoning_gym.create_dataset(self.name, size=size, seed=seed)
        source = f"reasoning-gym {self.name}, seed {seed}"
        return [Row(fields=dataset[index], where=f"{source}, row {index + 1}") for index in range(size)]

    def read(self, rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
        """Make an item of each row; the id is its number, the same for every size."""
        items = []
        for number, row in enumerate(rows):
            question, answer = text_field(row, "question").strip(), text_field(row, "answer").strip()
            compared: dict[str, Any] = {"form": self.form, "answer": answer}
            if self.form is None:
                numbers, target = _countdown(row)
                # In this project's words: the package's say "at most once" where every number is wanted.
                question = make_problem(numbers, target, order_seed=0).question
                compared = {"numbers": numbers, "target": target}
            items.append(Item(id=str(number), messages=boxed_prompt(question, quirks), answer=compared))
        return items


def _countdown(row: Row) -> tuple[list[int], int]:
    metadata = row.fields.get("metadata")
    if not isinstance(metadata, dict) or not {"numbers", "target"} <= metadata.keys():
        raise DataError(f"{row.where}: expected `metadata` with numbers and target, found {str(metadata)[:80]!r}")
    return list(metadata["numbers"]), int(metadata["target"])


FAMILIES = (
    Family(name="chain_sum", form="integer", group="in-domain"),
    Family(name="basic_arithmetic", form="integer", group="in-domain"),
    Family(name="products", form="integer", group="in-domain"),
    Family(name="gcd", form="integer", group="in-domain"),
    Family(name="lcm", form="integer", group="in-domain"),
    Family(name="simple_equations", form="integer", group="in-domain"),
    Family(name="prime_factorization", form="factors", group="in-domain"),
    Family(name="fraction_simplification", form="fraction", group="in-domain"),
    Family(name="countdown", form=None),
    Family(name="base_conversion", form="word"),
    Family(name="calendar_arithmetic", form="word"),
    Family(name="color_cube_rotation", form="word"),
    Family(name="family_relationships", form="word"),
    Family(name="isomorphic_strings", form="word"),
    Family(name="knights_knaves", form="roles"),
    Family(name="largest_island", form="integer"),
    Family(name="leg_counting", form="integer"),
    Family(name="letter_counting", form="integer"),
    Family(name="number_sorting", form="numbers"),
    Family(name="spell_backward", form="exact_word"),
    Family(name="syllogism", form="word"),
    Family(name="word_sorting", form="exact_words"),
)

BENCHMARKS = tuple(
    Benchmark(
        name=f"rg_{family.name}",
        title=f"reasoning-gym {family.name}",
        group=family.group,
        source=Source(),
        read=family.read,
        make_rows=family.make_rows,
        default_size=DEFAULT_SIZE,
        grader="countdown" if family.form is None else "form",
        quirks=PROMPT_SPACE,
    )
    for family in FAMILIES
)
