"""Parameters without a compared gradient: judged by whether any compared quantity depends on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...matching import Match, MatchPlan
from ...records.result import Check, Verdict
from ...records.sides import SideName
from ...records.trace import StepRecord
from ...stepping.lockstep import StepPair

UNUSED, WITHOUT_EFFECT = "unused", "without effect"


def zero_gradients(plan: MatchPlan, step: StepPair) -> set[str]:
    """Names, on the reference, of the matches whose gradient is exactly zero on both sides in this step.

    Where the gradients of several uses cancel, as for the last bias of a critic, those of the uses were compared.
    """
    record, other = step.reference.record.gradients, step.follower.gradients
    zero: set[str] = set()
    for m in plan.trained:
        gradients = (m.piece(plan.reference).total(record.get), m.piece(plan.follower).total(other.get))
        if all(g is not None and not g.any() for g in gradients) and not _split_by_use(plan, m, step):
            zero.add(m.name(plan.reference))
    return zero


def _split_by_use(plan: MatchPlan, match: Match, step: StepPair) -> bool:
    """Whether both sides split a match by use into gradients that are not zero."""
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    return all(
        any(part.any() for path in match.piece(side).paths for part in record.uses.get(path, {}).values())
        for side, record in records.items()
    )


def unproven(plan: MatchPlan, checks: Sequence[Check], zero: set[str]) -> dict[str, Match]:
    """Name on the reference -> match, of each parameter without a compared gradient in any step.

    Args:
        plan: of the run.
        checks: of the run so far.
        zero: names of parameters with an all-zero gradient on both sides in every step.
    """
    missing = {c.name for c in checks if _missing(c)}
    compared = {c.name for c in checks if c.phase == "gradient" and not c.of_use and c.error is not None}
    names = (zero & compared) | (missing - compared)
    return {m.name(plan.reference): m for m in plan.trained if m.name(plan.reference) in names}


def without_gradient(plan: MatchPlan, checks: Sequence[Check], effects: Mapping[str, str]) -> dict[str, str]:
    """Name -> `UNUSED` or `WITHOUT_EFFECT`, of the parameters that no compared quantity depends on.

    Args:
        plan: of the run.
        checks: of the run so far.
        effects: name -> inputs that show an effect of it, from `effect.effects`.
    """
    missing = {c.name for c in checks if _missing(c)}
    return {name: UNUSED if name in missing else WITHOUT_EFFECT for name, inputs in effects.items() if inputs == "none"}


def excused(checks: Sequence[Check], reasons: Mapping[str, str]) -> list[Check]:
    """The checks; a gradient that neither side has passes if the parameter has no effect.

    Args:
        checks: of any phase.
        reasons: name -> reason, from `without_gradient`.
    """

    def judged(check: Check) -> Check:
        if not _missing(check) or check.name not in reasons:
            return check
        detail = f"{reasons[check.name]}: changing it on both sides affects neither an output nor the loss"
        return replace(check, verdict=Verdict.EQUIVALENT, detail=detail)

    return [judged(check) for check in checks]


def unreached(
    plan: MatchPlan, checks: Sequence[Check], matches: Mapping[str, Match], effects: Mapping[str, str]
) -> list[Check]:
    """The checks; parameters that these batches leave uncompared are INCONCLUSIVE, with the map line to add.

    Args:
        plan: of the run.
        checks: of the run so far.
        matches: by name, from `unproven`.
        effects: as for `without_gradient`; without the names that could not be moved.
    """
    reasons = {
        "other inputs": "these batches do not use it, other inputs do",
        "these": "compared values depend on it, but its gradient does not reach them",
    }
    details: dict[str, str] = {}
    for name, match in matches.items():
        if effects.get(name) != "none":
            reason = reasons.get(effects.get(name, ""), "nothing of it was compared")
            line = f'weight_map={{"{match.torch}": xcheck.waive("why")}}'
            details[name] = f"zero or no gradient on both sides: {reason}; use batches that use it, or {line}"
    missing = {c.name for c in checks if _missing(c)}
    result = [replace(c, detail=details[c.name]) if _missing(c) and c.name in details else c for c in checks]
    for name in (name for name in details if name not in missing):
        paths = matches[name].name("torch"), matches[name].name("keras")
        result.append(Check("gradient", "float64", None, name, *paths, Verdict.INCONCLUSIVE, detail=details[name]))
    return result


def idle_excused(checks: Sequence[Check], paths: set[str]) -> list[Check]:
    """The checks; a parameter without a counterpart passes if nothing depends on it.

    Args:
        checks: of the inventory and others.
        paths: of parameters that were moved and change nothing.
    """

    def judged(check: Check) -> Check:
        if check.phase != "inventory" or check.verdict is not Verdict.INCONCLUSIVE or check.name not in paths:
            return check
        detail = f"{UNUSED}: it has no counterpart, and changing it affects neither an output nor the loss"
        return replace(check, verdict=Verdict.EQUIVALENT, detail=detail)

    return [judged(check) for check in checks]


def _missing(check: Check) -> bool:
    """Whether neither side has a gradient, or one has none where the other's is zero."""
    undecided = check.verdict is Verdict.INCONCLUSIVE and check.detail.startswith(("missing on ", "missing only on "))
    return undecided and check.phase == "gradient" and not check.of_use
