"""Parameters of which no gradient was compared: judged by whether anything that is compared depends on them."""

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

    Where the parts of several uses cancel, as those of a critic's last bias do, these parts were compared.
    """
    record, other = step.reference.record.gradients, step.follower.gradients
    zero: set[str] = set()
    for m in plan.trained:
        both = (m.piece(plan.reference).total(record.get), m.piece(plan.follower).total(other.get))
        if all(g is not None and not g.any() for g in both) and not _used(plan, m, step):
            zero.add(m.name(plan.reference))
    return zero


def _used(plan: MatchPlan, match: Match, step: StepPair) -> bool:
    """Whether both sides told uses of a match apart whose gradients are not zero."""
    records: dict[SideName, StepRecord] = {plan.reference: step.reference.record, plan.follower: step.follower}
    return all(
        any(part.any() for path in match.piece(side).paths for part in record.uses.get(path, {}).values())
        for side, record in records.items()
    )


def unproven(plan: MatchPlan, checks: Sequence[Check], zero: set[str]) -> dict[str, Match]:
    """Name on the reference -> match of each parameter of which no step compared a gradient.

    Args:
        plan: of the run.
        checks: of the run so far.
        zero: names of what had an all-zero gradient on both sides in every step.
    """
    missing = {c.name for c in checks if _missing(c)}
    compared = {c.name for c in checks if c.phase == "gradient" and not c.of_use and c.error is not None}
    names = (zero & compared) | (missing - compared)
    return {m.name(plan.reference): m for m in plan.trained if m.name(plan.reference) in names}


def without_gradient(plan: MatchPlan, checks: Sequence[Check], effects: Mapping[str, str]) -> dict[str, str]:
    """Name -> `UNUSED` or `WITHOUT_EFFECT` of those parameters that nothing that is compared depends on.

    Args:
        plan: of the run.
        checks: of the run so far.
        effects: name -> what shows an effect of it, as `effect.effects` says.
    """
    missing = {c.name for c in checks if _missing(c)}
    return {name: UNUSED if name in missing else WITHOUT_EFFECT for name, word in effects.items() if word == "none"}


def excused(checks: Sequence[Check], found: Mapping[str, str]) -> list[Check]:
    """The checks, of which those of a gradient that neither side has pass where the parameter has no effect.

    Args:
        checks: of any phase.
        found: name -> why, from `without_gradient`.
    """

    def of(check: Check) -> Check:
        if not _missing(check) or check.name not in found:
            return check
        detail = f"{found[check.name]}: moved on both sides, it changes neither an output nor the loss"
        return replace(check, verdict=Verdict.EQUIVALENT, detail=detail)

    return [of(check) for check in checks]


def unreached(
    plan: MatchPlan, checks: Sequence[Check], matches: Mapping[str, Match], effects: Mapping[str, str]
) -> list[Check]:
    """The checks, in which what these batches leave uncompared is INCONCLUSIVE, with the line to add.

    Args:
        plan: of the run.
        checks: of the run so far.
        matches: by name, from `unproven`.
        effects: as for `without_gradient`; none of a name that could not be moved.
    """
    why = {
        "other inputs": "these batches do not reach it, other inputs do",
        "these": "its values enter what is compared, and its gradient does not",
    }
    details: dict[str, str] = {}
    for name, match in matches.items():
        if effects.get(name) != "none":
            told = why.get(effects.get(name, ""), "nothing of it was compared")
            line = f'weight_map={{"{match.torch}": xcheck.waive("why")}}'
            details[name] = f"zero or no gradient on both sides: {told}; use batches that reach it, or {line}"
    missing = {c.name for c in checks if _missing(c)}
    kept = [replace(c, detail=details[c.name]) if _missing(c) and c.name in details else c for c in checks]
    for name in (name for name in details if name not in missing):
        paths = matches[name].name("torch"), matches[name].name("keras")
        kept.append(Check("gradient", "float64", None, name, *paths, Verdict.INCONCLUSIVE, detail=details[name]))
    return kept


def idle_excused(checks: Sequence[Check], paths: set[str]) -> list[Check]:
    """The checks, in which a parameter without a counterpart passes where nothing depends on it.

    Args:
        checks: of the inventory and others.
        paths: of parameters that were moved and change nothing.
    """

    def of(check: Check) -> Check:
        if check.phase != "inventory" or check.verdict is not Verdict.INCONCLUSIVE or check.name not in paths:
            return check
        detail = f"{UNUSED}: no counterpart, and moved, it changes neither an output nor the loss"
        return replace(check, verdict=Verdict.EQUIVALENT, detail=detail)

    return [of(check) for check in checks]


def _missing(check: Check) -> bool:
    """Whether neither side has a gradient, or one has none where the other's is zero."""
    undecided = check.verdict is Verdict.INCONCLUSIVE and check.detail.startswith("missing on ")
    return undecided and check.phase == "gradient" and not check.of_use
