"""Before any sync: does each side start as it promises?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...matching import MatchPlan
from ...numerics.distributions import Distribution, distance_bound
from ...numerics.tolerance import CHANCE_OF_FALSE_ALARM
from ...records.result import Check, Verdict
from ...records.sides import SideName
from ...records.trace import Array, State


def initialization_checks(
    side: SideName, parameters: Mapping[str, Array], promises: Mapping[str, Distribution]
) -> list[Check]:
    """Initial values against the distribution that the side's initializer promises.

    The error is the Kolmogorov-Smirnov distance, the allowance what independent draws stay below.

    Args:
        side: whose parameters.
        parameters: path -> initial value.
        promises: path -> distribution; parameters without one are left out.
    """
    checks: list[Check] = []
    for path, promise in promises.items():
        values = parameters[path]
        chance = CHANCE_OF_FALSE_ALARM / len(promises)
        allowed = 0.0 if promise.kind == "constant" else distance_bound(values.size, chance)
        error = promise.distance(values)
        verdict = Verdict.EQUIVALENT if error <= allowed else Verdict.DIFFERENT
        detail = "" if verdict is Verdict.EQUIVALENT else f"does not follow {promise.name}, its initializer"
        paths = (path, None) if side == "torch" else (None, path)
        checks.append(
            Check(
                "initialization",
                None,
                None,
                f"{path} ({promise.name})",
                *paths,
                verdict,
                error=error,
                allowed=allowed,
                metric="distribution",
                detail=detail,
            )
        )
    return checks


def transferred(plan: MatchPlan, reference: State, follower: State) -> frozenset[str]:
    """Paths of both sides that start from the same numbers: those were carried over, and no initializer drew them.

    Args:
        plan: whose matches are read.
        reference, follower: the sides as they were built.
    """
    found: set[str] = set()
    sent = plan.for_follower(reference, slots=False).parameters
    for match in plan.parameters:
        theirs = match.piece(plan.follower).paths
        if all(p in sent and p in follower.parameters and _same(sent[p], follower.parameters[p]) for p in theirs):
            found.update(theirs, match.piece(plan.reference).paths)
    return frozenset(found)


def _same(one: Array, other: Array) -> bool:
    """Up to a rounding to float32; equal constants say nothing."""
    size = float(np.ptp(one)) if one.size > 1 and one.shape == other.shape else 0.0
    return size > 0.0 and bool(np.abs(one - other).max() <= np.finfo(np.float32).eps * np.abs(one).max())
