"""Causes in how weights start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...matching import MatchPlan
from ...numerics.distributions import Distribution, distance_bound
from ...numerics.tolerance import CHANCE_OF_FALSE_ALARM
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName
from ...records.trace import Array
from ..prove import read_off

PREFIX = 1024
"""Elements compared between two parameters; a shared stream shows from the first."""

FEWEST = 8
"""Different elements below which a correlation says nothing."""

TAIL = 16
"""Elements at the end of a tensor that PyTorch draws again from a normal distribution, where no block of them is full:
`normal_fill` in aten/src/ATen/native/cpu/DistributionTemplates.h."""

SAME_STREAM = 1 - 1e-6
"""Correlation from which two parameters are one stream of random numbers up to scale. Float32 rounding of the stream
costs 1e-7; independent draws of n elements reach it with a chance of (2e-6)^((n - 2) / 2), 1e-17 for 8."""


@isolated(list[Cause])
def same_random_stream(
    side: SideName, parameters: Mapping[str, Array], promises: Mapping[str, Distribution] | None = None
) -> list[Cause]:
    """Parameters of one side that start from the same random numbers, though nothing ties them.

    Numbers that are equal to the last bit may as well have been copied, so that nothing is confirmed of them.

    Args:
        side: whose parameters.
        parameters: path -> initial value, one entry per storage.
        promises: path -> distribution that the side's initializer draws from; a parameter without one, or that does
            not follow it, was not drawn by an initializer. None where the side names no initializers.
    """
    rows = {
        path: _standardized(v) for path, v in parameters.items() if promises is None or _drawn(v, promises.get(path))
    }
    groups: list[list[str]] = []
    for path, row in rows.items():
        if row is None:
            continue
        for group in groups:
            first = rows[group[0]]
            assert first is not None
            n = min(first.size, row.size)
            if any(_correlation(first[:m], row[:m]) >= SAME_STREAM for m in (n, n - TAIL) if m >= FEWEST):
                group.append(path)
                break
        else:
            groups.append([path])
    found: list[Cause] = []
    for group in (group for group in groups if len(group) > 1):
        equal = all(np.array_equal(parameters[group[0]], parameters[path]) for path in group)
        found.append(_cause(side, group, promises or {}, one_stream=not equal))
    return found


def copied_alike(plan: MatchPlan, built: Mapping[SideName, Mapping[str, Array]]) -> set[str]:
    """Paths of parameters that equal another one on both sides, as a teacher that starts as its student does.

    Args:
        plan: whose matches are read.
        built: side -> path -> initial value.
    """
    seen: set[tuple[tuple[tuple[int, ...], bytes], ...]] = set()
    found: set[str] = set()
    for match in plan.parameters:
        pieces = match.piece("torch"), match.piece("keras")
        if all(p.plain and p.paths[0] in built[side] for side, p in zip(SIDES, pieces, strict=True)):
            torch, keras = (built[side][piece.paths[0]] for side, piece in zip(SIDES, pieces, strict=True))
            key = (torch.shape, torch.tobytes()), (keras.shape, keras.tobytes())
            found.update(path for piece in pieces for path in piece.paths if key in seen)
            seen.add(key)
    return found


def _drawn(value: Array, promise: Distribution | None) -> bool:
    """Whether a value is what its initializer draws; numbers that were loaded or trained seldom are."""
    if promise is None or promise.kind == "constant":
        return False
    return promise.distance(value) <= distance_bound(value.size, CHANCE_OF_FALSE_ALARM)


def _standardized(value: Array) -> Array | None:
    flat = value.reshape(-1)[:PREFIX].astype(np.float64)
    steps = np.diff(flat)
    if np.unique(flat).size < max(FEWEST, flat.size // 2) or (steps > 0).all() or (steps < 0).all():
        return None  # what was drawn hardly repeats, and is in no order
    return flat


def _correlation(a: Array, b: Array) -> float:
    left, right = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / size if size else 0.0


def _cause(side: SideName, group: list[str], promises: Mapping[str, Distribution], *, one_stream: bool) -> Cause:
    paths = " = ".join(group)
    names = " or ".join(dict.fromkeys(promises[path].name for path in group if path in promises)) or "HeNormal"
    cause = Cause(
        id="same_random_stream",
        phase="initialization",
        torch=paths if side == "torch" else None,
        keras=paths if side == "keras" else None,
        summary=(
            f"{len(group)} parameters start from one stream of random numbers, each scaled to its own layer: "
            "they are correlated, but not shared"
            if one_stream
            else f"{len(group)} parameters start equal but are not shared: they were copied, or drawn with the same "
            "seed"
        ),
        evidence={"correlation_at_least": SAME_STREAM, "elements": PREFIX},
        fix=(
            f"create an initializer per layer: keras.initializers.{names}(seed=i), a different i for each"
            if side == "keras"
            else "draw each parameter once: do not reset the generator's seed between layers"
        ),
    )
    return read_off(cause, shown=one_stream)
