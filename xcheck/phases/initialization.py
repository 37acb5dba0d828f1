"""Before any sync: does each side start as it promises?"""

from __future__ import annotations

from collections.abc import Mapping

from ..distributions import Distribution, distance_bound
from ..matching import SideName
from ..result import Check, Verdict
from ..tolerance import CHANCE_OF_FALSE_ALARM
from ..trace import Array


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
