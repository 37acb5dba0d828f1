"""What a match that is not proven leaves of a verdict: a guess of the matching is no difference of the port."""

from __future__ import annotations

from dataclasses import replace

from ..matching import MatchPlan
from ..records.result import Check, Verdict
from .findings import Findings

COMPUTED = ("forward", "loss", "gradient", "update", "state")
"""Phases in which a wrong match looks like a difference."""

MOST_NAMED = 3
"""Lines of a map that are named as those that would settle it."""


def settle(findings: Findings, plan: MatchPlan) -> None:
    """Weigh the checks and causes of a run by what its plan rests on.

    Args:
        findings: of all steps in float64.
        plan: of the run.
    """
    if plan.mapped or plan.proven:
        return
    if plan.open:
        findings.causes = [
            replace(c, confirmed=False) if c.phase in ("forward", "gradient") and _rests_on(plan, c.torch) else c
            for c in findings.causes
        ]
    different = [c for c in findings.checks if c.phase in COMPUTED and c.verdict is Verdict.DIFFERENT]
    if different and blamed(plan):
        detail = (
            f"this may be the matching: of the other matches that are possible only {plan.tried} were tried; "
            f"{_asked(plan)}"
        )
        findings.checks = [
            replace(c, verdict=Verdict.INCONCLUSIVE, detail=detail) if any(c is d for d in different) else c
            for c in findings.checks
        ]
    elif different and plan.tried:
        findings.notes.append(f"under none of {plan.tried} other matches that are possible do the sides agree")
    elif plan.proven is False and findings.passes():
        detail = (
            f"not proven: with other weights and on other inputs {plan.unproven}; either a match is wrong, or the "
            "models differ where these weights and batches do not reach"
        )
        findings.checks.append(Check("inventory", None, None, "match", None, None, Verdict.INCONCLUSIVE, detail=detail))


def blamed(plan: MatchPlan) -> bool:
    """Whether a difference may be the matching's: something is open, and not all that it could be was tried."""
    return bool(plan.open) and not plan.exhausted


def settling(plan: MatchPlan) -> list[str]:
    """Names on the PyTorch side of what a map should say, the most telling first."""
    guessed = [m for m in plan.parameters if m.evidence]
    doubted = [m.name("torch") for m in guessed if any(_about(d.torch, m.torch) for d in plan.doubts)]
    return list(dict.fromkeys([*doubted, *(m.name("torch") for m in guessed if m.name("torch") in plan.open)]))


def _about(layers: str, path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in layers.split(", "))


def _rests_on(plan: MatchPlan, place: str | None) -> bool:
    """Whether a place of the PyTorch side has parameters of which it is open what they match, or may have."""
    module = (place or "").partition(":")[0]
    known = [m.name("torch") for m in plan.parameters if m.name("torch").startswith(f"{module}.")]
    return not known or any(name in plan.open for name in known)


def _asked(plan: MatchPlan) -> str:
    wanted = settling(plan)[:MOST_NAMED]
    lines = [m for name in wanted for m in plan.parameters if m.name("torch") == name]
    named = ", ".join(f'"{m.name("torch")}": ("{m.name("keras")}", "{m.layout.name}")' for m in lines)
    return f"weight_map={{{named}}}, each with what is right, settles it"
