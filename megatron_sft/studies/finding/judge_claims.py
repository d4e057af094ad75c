"""Claims held against figures: every prediction on every arm and benchmark holds, fails, is open, or has no data.

Errors are controlled within a claim: with m cells that have figures, each is judged at 1 - (1 - confidence) / m
(Bonferroni), so that everything that is said to hold or to fail about one claim is true together with 95 %.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from megatron_sft.studies.analysis.curve import CONFIDENCE
from megatron_sft.studies.claims import ClaimSpec, PredictionSpec
from megatron_sft.studies.finding.findings import ClaimFinding, ClaimVerdict, Evidence, Origin, Outcome
from megatron_sft.studies.finding.judge_predictions import Cell, Judgement, cells_of
from megatron_sft.studies.finding.material import Material


def claim_findings(materials: Sequence[Material]) -> tuple[ClaimFinding, ...]:
    """Return every claim of the study with its evidence; the materials are of one study, the deciding one first.

    The verdict is of the first material that has figures of the claim: what was measured, else what is published.
    """
    study = materials[0].study
    found = []
    for number in study.claims:
        claim = study.claim(number)
        by_origin = [_evidence(material, claim) for material in materials]
        with_data = [evidence for evidence in by_origin if any(one.outcome != "no data" for one in evidence)]
        found.append(
            ClaimFinding(
                number=number,
                text=claim.text,
                verdict=verdict_of(with_data[0]) if with_data else "not tested",
                evidence=tuple(one for evidence in by_origin for one in evidence),
            )
        )
    return tuple(found)


def verdict_of(evidence: Iterable[Evidence]) -> ClaimVerdict:
    """Return what the evidence of one origin says of a claim, all of whose statements must be so.

    A statement is supported if at least half of its cells with figures hold and none fails; exceptions that the claim
    itself names do not count.
    """
    outcomes: dict[str, list[Outcome]] = {}
    for one in evidence:
        if one.outcome != "no data" and not one.is_exception:
            outcomes.setdefault(one.statement, []).append(one.outcome)
    if not outcomes:
        return "not tested"
    found = [outcome for cells in outcomes.values() for outcome in cells]
    if "fails" in found:
        return "mixed" if "holds" in found else "contradicted"
    supported = all(2 * cells.count("holds") >= len(cells) for cells in outcomes.values())
    return "supported" if supported else "not resolved"


def _evidence(material: Material, claim: ClaimSpec) -> list[Evidence]:
    cells = [(prediction, cell) for prediction in claim.predictions for cell in cells_of(prediction, material)]
    num_judged = sum(cell.judge is not None for _, cell in cells)
    confidence = 1 - (1 - CONFIDENCE) / max(num_judged, 1)
    return [_judged(prediction, cell, material.origin, confidence) for prediction, cell in cells]


def _judged(prediction: PredictionSpec, cell: Cell, origin: Origin, confidence: float) -> Evidence:
    found = Judgement(outcome="no data", text=cell.remark) if cell.judge is None else cell.judge(confidence)
    evidence = Evidence(
        outcome=found.outcome,
        text=f"{cell.label}: {found.text}",
        origin=origin,
        statement=prediction.text,
        is_exception=prediction.excepts(cell.benchmark, cell.arms),
        confidence=confidence,
    )
    if not evidence.is_exception:
        return evidence
    turned: dict[Outcome, Outcome] = {"holds": "fails", "fails": "holds", "open": "open", "no data": "no data"}
    return replace(evidence, outcome=turned[found.outcome], text=f"{evidence.text} (the claim makes an exception here)")
