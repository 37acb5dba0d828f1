"""Initial weights before any sync: does each side follow its initializers?"""

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

    The error is the Kolmogorov-Smirnov distance, the allowance its upper bound for independent draws.

    Args:
        side: side of the parameters.
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
    """Paths of both sides with the same initial numbers: they were copied, not drawn by an initializer.

    Args:
        plan: of the run.
        reference, follower: initial states of the sides.
    """
    copied: set[str] = set()
    sent = plan.for_follower(reference, slots=False).parameters
    for match in plan.parameters:
        follower_paths = match.piece(plan.follower).paths
        if all(
            p in sent and p in follower.parameters and _same(sent[p], follower.parameters[p]) for p in follower_paths
        ):
            copied.update(follower_paths, match.piece(plan.reference).paths)
    return frozenset(copied)


def _same(array: Array, other: Array) -> bool:
    """Whether two arrays are equal up to rounding to float32; equal constants do not count."""
    size = float(np.ptp(array)) if array.size > 1 and array.shape == other.shape else 0.0
    return size > 0.0 and bool(np.abs(array - other).max() <= np.finfo(np.float32).eps * np.abs(array).max())
