"""A fixed 1,000 of MMLU-Pro's questions, by subject in proportion; the paper's own 1,000 were never published.

The ids are in `mmlu_pro_1k_ids.txt`, as `draw_ids` computes them.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from functools import cache
from importlib.resources import files

from evals.items import Item
from evals.tasks import mmlu_pro, published
from evals.tasks.benchmark import Benchmark, Row
from megatron_sft.errors import DataError

SEED = 42
SIZE = 1_000


def draw_ids(subjects: Mapping[str, str], size: int = SIZE, seed: int = SEED) -> list[str]:
    """Choose `size` of the ids in `subjects` (id -> subject), stratified by subject; return them sorted as numbers.

    Of a subject with n of N questions come size*n/N, rounded down; what is missing to `size` goes to the largest
    remainders, ties to the subject first in the alphabet. Within a subject the ids with the smallest
    sha256("mmlu_pro_1k:seed:id") are taken.
    """
    by_subject: dict[str, list[str]] = defaultdict(list)
    for identity, subject in subjects.items():
        by_subject[subject].append(identity)
    counts = {subject: size * len(ids) // len(subjects) for subject, ids in by_subject.items()}
    remainders = {subject: size * len(ids) % len(subjects) for subject, ids in by_subject.items()}
    for subject in sorted(by_subject, key=lambda name: (-remainders[name], name))[: size - sum(counts.values())]:
        counts[subject] += 1
    chosen = []
    for subject, ids in by_subject.items():
        chosen += sorted(ids, key=lambda identity: _digest(identity, seed))[: counts[subject]]
    return sorted(chosen, key=int)


def _digest(identity: str, seed: int) -> str:
    return hashlib.sha256(f"mmlu_pro_1k:{seed}:{identity}".encode()).hexdigest()


@cache
def published_ids() -> frozenset[str]:
    """Return the ids of the data file."""
    return frozenset(files("evals.tasks").joinpath("mmlu_pro_1k_ids.txt").read_text(encoding="utf-8").split())


def read(rows: Sequence[Row], quirks: Set[str]) -> list[Item]:
    """Make items of the rows of MMLU-Pro's file that are among the 1,000.

    Raises:
        DataError: when some of them are not in the file.
    """
    items = [item for item in mmlu_pro.read(rows, quirks) if item.id in published_ids()]
    missing = published_ids() - {item.id for item in items}
    if missing:
        raise DataError(
            f"{rows[0].where}: {len(missing)} of the {SIZE} questions of mmlu_pro_1k are missing from this file "
            f"(question_id {min(missing, key=int)} is one): it must be MMLU-Pro's whole test split"
        )
    return items


BENCHMARK = Benchmark(
    name="mmlu_pro_1k",
    title="MMLU-Pro (1,000)",
    group="out-of-domain",
    source=mmlu_pro.SOURCE,
    read=read,
    grader="choice",
    quirks=mmlu_pro.QUIRKS,
    quirk_graders=mmlu_pro.QUIRK_GRADERS,
    quirk_presets=mmlu_pro.QUIRK_PRESETS,
    published=published.MMLU_PRO_1K,
)
