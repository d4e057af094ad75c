"""Claims of a study as data: what a claim predicts of arms and benchmarks. docs/studies.md has the kinds.

`judge_claims` holds them against figures. Signs are those of the figures as measured, also where lower is better; only
a `shape` is that of the curve turned so that higher is better.
"""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import yaml

from megatron_sft.errors import ConfigError
from megatron_sft.recipes.values import nearest
from megatron_sft.recipes.yaml_nodes import place_of

Sign = Literal["above", "below", "not above", "not below"]
Of = Literal["score", "change from base", "length"]
ShapeName = Literal["dip and recovery", "dip, end open", "monotone gain", "gain", "decline", "flat"]
GROUPS = ("in-domain", "out-of-domain", "general", "safety")


@dataclass(frozen=True, kw_only=True)
class ShapeSpec:
    """What curves look like; at least one of the last four must be given."""

    arms: tuple[str, ...]
    benchmarks: tuple[str, ...]
    """Columns, or groups for their average."""
    verdicts: tuple[ShapeName, ...] = ()
    """One of these."""
    lowest_between: tuple[int, ...] = ()
    """First and last step between which the lowest score lies."""
    above_base_by: int | None = None
    """Step from which the score stays above base."""
    late_fall: bool | None = None
    """Whether the last score lies below an earlier one."""


@dataclass(frozen=True, kw_only=True)
class ChangeSpec:
    """The change from base at one step, on its own."""

    arms: tuple[str, ...]
    benchmarks: tuple[str, ...]
    sign: Sign
    """`not above`: not by the margin or more."""
    step: int | None = None
    """None: each arm's last one."""


@dataclass(frozen=True, kw_only=True)
class DifferenceSpec:
    """One arm minus another."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    """As many arms as `first`; each is taken away from the one at its place there."""
    benchmarks: tuple[str, ...]
    sign: Sign
    of: Of = "score"
    at: Literal["last step", "equal steps"] = "last step"
    """Each arm's own last step, or all steps that both have."""


@dataclass(frozen=True, kw_only=True)
class OrderSpec:
    """Arms from the greatest to the smallest at their last steps; neighbours are compared."""

    arms: tuple[str, ...]
    benchmarks: tuple[str, ...]
    of: Of = "score"


@dataclass(frozen=True, kw_only=True)
class GroupsSpec:
    """The change from base on one group (or column) minus that on another one, in the same arm."""

    arms: tuple[str, ...]
    first: str
    second: str
    sign: Sign
    between: tuple[int, ...] = ()
    """First and last step to look at; empty: all."""


@dataclass(frozen=True, kw_only=True)
class LengthsSpec:
    """How the lengths of responses go."""

    arms: tuple[str, ...]
    benchmarks: tuple[str, ...]
    turn: Literal["rise and fall", "rise", "fall"]
    against_dip: Literal["", "length first", "same step", "score first"] = ""
    """What comes first, the greatest length or the lowest score."""


@dataclass(frozen=True, kw_only=True)
class AsymmetrySpec:
    """Reasoning beside safety at the last step."""

    arms: tuple[str, ...]
    reasoning: str
    harm: str
    verdict: str = "reasoning up, safety down"


@dataclass(frozen=True, kw_only=True)
class PredictionSpec:
    """One statement that figures can agree with or not: its words and one of the kinds."""

    text: str
    exceptions: tuple[str, ...] = ()
    """Where the claim itself says that it does not hold: `BENCHMARK`, or `BENCHMARK ARM ...` for some arms only."""
    shape: ShapeSpec | None = None
    change: ChangeSpec | None = None
    difference: DifferenceSpec | None = None
    order: OrderSpec | None = None
    groups: GroupsSpec | None = None
    lengths: LengthsSpec | None = None
    asymmetry: AsymmetrySpec | None = None

    def kinds(self) -> dict[str, object]:
        """What is predicted, by kind; one in a study that was read."""
        given = {name: getattr(self, name) for name in KINDS}
        return {name: spec for name, spec in given.items() if spec is not None}

    def excepts(self, benchmark: str, arms: Collection[str]) -> bool:
        """Whether the claim itself makes an exception there."""
        words = [exception.split() for exception in self.exceptions]
        return any(first == benchmark and set(rest) <= set(arms) for first, *rest in words)


KINDS = ("shape", "change", "difference", "order", "groups", "lengths", "asymmetry")


@dataclass(frozen=True, kw_only=True)
class ClaimSpec:
    """A statement and what it predicts; without predictions it is not tested."""

    text: str
    predictions: tuple[PredictionSpec, ...] = ()


def check_claims(
    claims: Mapping[str, ClaimSpec | str],
    document: yaml.MappingNode,
    *,
    arms: Collection[str],
    columns: Collection[str],
    shown_as: str,
) -> None:
    """Check what a claim's evaluation relies on.

    Raises:
        ConfigError: for a prediction without a kind or with several, unknown arms or benchmarks, and values that do
            not go together, with the line of the prediction.
    """
    for number, claim in claims.items():
        if isinstance(claim, str):
            continue
        for index, prediction in enumerate(claim.predictions):
            line = place_of(_node(document, number, index), shown_as=shown_as)
            try:
                _check(prediction, arms, columns)
            except ConfigError as error:
                raise ConfigError(f"{line}: claim {number}: {error}") from None


def _check(prediction: PredictionSpec, arms: Collection[str], columns: Collection[str]) -> None:
    kinds = prediction.kinds()
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise ConfigError(
            f"a prediction has one of {', '.join(KINDS)}; found {found}: split it, or say what is predicted"
        )
    ((kind, spec),) = kinds.items()
    assert dataclasses.is_dataclass(spec)
    given = {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec)}
    first, second = given.get("first", ()), given.get("second", ())
    for name in ("arms", "benchmarks") if kind not in ("difference", "groups", "asymmetry") else ():
        if not given[name]:
            raise ConfigError(f"{kind}: {name}: []: name at least one")
    known = (*columns, *GROUPS)
    if kind == "groups":
        _check_known((first, second), known, f"{kind}: benchmark")
    elif kind == "difference":
        _check_known((*first, *second), arms, f"{kind}: arm")
        if len(first) != len(second) or not first:
            raise ConfigError(
                f"difference: first and second: {len(first)} and {len(second)} arms: give as many of both"
            )
    _check_known(given.get("arms", ()), arms, f"{kind}: arm")
    _check_known(given.get("benchmarks", ()), known, f"{kind}: benchmark")
    _check_known([given[name] for name in ("reasoning", "harm") if name in given], known, f"{kind}: benchmark")
    for exception in prediction.exceptions:
        column, *named = exception.split() or [""]
        _check_known([column], known, "exceptions: benchmark")
        _check_known(named, arms, "exceptions: arm")
    if kind == "order" and len(given["arms"]) < 2:
        raise ConfigError("order: arms: give two or more, the greatest first")
    for name in ("lowest_between", "between"):
        steps = given.get(name, ())
        if steps and (len(steps) != 2 or steps[0] > steps[1]):
            raise ConfigError(f"{kind}: {name}: {list(steps)}: expected the first and the last step")
    if isinstance(spec, ShapeSpec) and not (
        spec.verdicts or spec.lowest_between or spec.above_base_by or spec.late_fall is not None
    ):
        raise ConfigError("shape: give verdicts, lowest_between, above_base_by or late_fall: nothing is predicted")
    if isinstance(spec, AsymmetrySpec) and spec.verdict not in ASYMMETRIES:
        raise ConfigError(f"asymmetry: verdict: {spec.verdict}: expected one of {'; '.join(ASYMMETRIES)}")


ASYMMETRIES = tuple(f"reasoning {gain}, safety {loss}" for gain in ("up", "down") for loss in ("up", "down"))


def _check_known(names: Collection[str], known: Collection[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{what}: there is no {name}; known are {', '.join(known)}{nearest(name, known)}")


def _node(document: yaml.MappingNode, number: str, index: int) -> yaml.Node:
    """The node of a prediction in a document that was read."""
    claims = _under(document, "claims")
    node: yaml.Node = _under(_under(claims, number), "predictions").value[index]
    return node


def _under(mapping: yaml.Node, key: str) -> yaml.Node:
    node: yaml.Node = next(value for name, value in mapping.value if name.value == key)
    return node
