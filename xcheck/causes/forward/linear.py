"""Sums with coefficients: a factor on one side alone, an offset, a term that one side leaves out, another constant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ...numerics.align.orders import closest
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array
from ..prove import Trial, prove
from .activation import fewest_digits
from .one_computation import Local, Seen

SAMPLE = 4096
"""Elements that coefficients are solved from; they are verified on all."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A value as a sum of what went in.

    Attributes:
        terms: name -> (array, coefficient).
        offset: added to all.
        size: of its largest element.
        gap: how far the sum is from the value.
    """

    terms: dict[str, tuple[Array, float]]
    offset: float
    size: float
    gap: float


@isolated(list[Cause])
def linear_causes(local: Local) -> list[Cause]:
    """Why two sums of the same terms differ; none where either side is no sum.

    Args:
        local: what both sides did.
    """
    torch, keras = _solve(local, local.torch), _solve(local, local.keras)
    if torch is None or keras is None:
        return []
    causes: list[Cause] = []
    partners = _partners(local, torch, keras)
    turned = _turned(local, torch, keras, partners)
    if turned is not None:
        return [
            prove(turned, [Trial(local.error, max(torch.gap, keras.gap), local.allowed, local.torch.value.size - 3)])
        ]
    for mine, theirs in partners:
        one, two = torch.terms[mine][1], keras.terms[theirs][1]
        # Of a term that is small beside the sum, the rounding of the sum leaves few digits of the coefficient.
        unsure = local.allowed * max(of.size / _rms(of.terms[n][0]) for of, n in ((torch, mine), (keras, theirs)))
        if not math.isclose(one, two, rel_tol=local.allowed, abs_tol=max(local.allowed, unsure)):
            causes.append(_factor(local, mine or theirs, one, two))
    if not math.isclose(torch.offset, keras.offset, rel_tol=1e-9, abs_tol=local.allowed * 1e-3):
        causes.append(_offset(local, torch.offset, keras.offset))
    left = [(n, t) for n, t in torch.terms.items() if n not in {m for m, _ in partners}]
    right = [(n, t) for n, t in keras.terms.items() if n not in {t for _, t in partners}]
    if len(left) == len(right):
        for (mine, (a, one)), (theirs, (b, two)) in zip(left, right, strict=True):
            causes.append(_operand(local, mine, theirs, a * one, b * two))
    else:
        causes += [_factor(local, name, coefficient, 0.0) for name, (_, coefficient) in left]
        causes += [_factor(local, name, 0.0, coefficient) for name, (_, coefficient) in right]
    if not causes:
        causes = [c for mine, theirs in partners if (c := _moved(local, mine, torch.terms[mine], keras.terms[theirs]))]
    after = max(torch.gap, keras.gap)
    numbers = local.torch.value.size - 1 - max(len(torch.terms), len(keras.terms))
    return [prove(cause, [Trial(local.error, after, local.allowed, numbers)]) for cause in causes]


def _turned(local: Local, torch: Sum, keras: Sum, partners: Sequence[tuple[str, str]]) -> Cause | None:
    """A mask that one side takes for 1 less the other's: another sign, and that number added."""
    if len(partners) != 1 or len(torch.terms) != 1 or len(keras.terms) != 1:
        return None
    ((mask, one),), ((_, two),) = torch.terms.values(), keras.terms.values()
    apart = keras.offset - torch.offset
    close = 1e-9 * abs(one)
    if not np.isin(mask, (0.0, 1.0)).all() or abs(one + two) > close or min(abs(apart - one), abs(apart + two)) > close:
        return None
    summary = f"{partners[0][0] or 'a mask'} is a mask, and what it lets through in torch it blocks in keras"
    return _cause(local, "mask_polarity", summary, {"torch": one, "keras": two}, "keras: 1 - mask, or torch: 1 - mask")


def _moved(local: Local, name: str, torch: tuple[Array, float], keras: tuple[Array, float]) -> Cause | None:
    """A term that holds the same numbers in another order."""
    if torch[0].shape != keras[0].shape or np.array_equal(torch[0], keras[0]):
        return None
    said = f"what is added holds the same numbers in another order: the output of {name}, {torch[0].shape}"
    fix = "make it in the same order on both sides"
    return _cause(local, "permuted_axes", said, {"shape": list(torch[0].shape)}, fix)


def _solve(local: Local, seen: Seen) -> Sum | None:
    value = seen.value
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return None
    given = {n: a for n, a in {**seen.given, **seen.constants}.items() if a.any() or a.size > 1}  # 0 adds nothing
    terms = {n: a for n, a in given.items() if a.dtype.kind in "fiu" and fits(a, value)}
    if not terms or len(terms) > 6 or len(terms) < len(given):
        return None
    rng = np.random.default_rng(0)
    at = np.arange(value.size) if value.size <= SAMPLE else rng.integers(0, value.size, SAMPLE)
    columns = [np.broadcast_to(a, value.shape).reshape(-1)[at].astype(np.float64) for a in terms.values()]
    table = np.stack([*columns, np.ones(len(at))], axis=1)
    sizes = np.sqrt((table**2).mean(axis=0))
    if not sizes.all() or not np.isfinite(sizes).all() or len(at) <= table.shape[1]:
        return None
    solved = cast("Array", np.linalg.lstsq(table / sizes, value.reshape(-1)[at], rcond=None)[0])
    found = solved / sizes
    largest = max(float(np.abs(value).max()), 1e-300)
    coefficients = [_tidy(float(c), largest / float(s)) for c, s in zip(found, sizes, strict=True)]
    made = sum(
        (c * np.broadcast_to(a, value.shape) for c, a in zip(coefficients[:-1], terms.values(), strict=True)),
        start=np.zeros(value.shape),
    )
    if coefficients[-1]:  # what is left beside tidy factors has more digits of it
        coefficients[-1] = _tidy(float((value - made).mean()), largest)
    again = made + coefficients[-1]
    if not local.agree(value, again):
        return None
    pairs = zip(terms.items(), coefficients[:-1], strict=True)
    return Sum(
        {name: (array, c) for (name, array), c in pairs if c}, coefficients[-1], largest, local.gap(value, again)
    )


def _rms(array: Array) -> float:
    return max(float(np.sqrt((array.astype(np.float64) ** 2).mean())), 1e-300)


def fits(array: Array, value: Array) -> bool:
    """Whether an array can be broadcast to the shape of a value."""
    try:
        return np.broadcast_shapes(array.shape, value.shape) == value.shape
    except ValueError:
        return False


def _tidy(coefficient: float, scale: float) -> float:
    """A coefficient as it was written; what is added to larger numbers is known only to their rounding errors."""
    if abs(coefficient) < 1e-12 * scale:
        return 0.0
    return fewest_digits(coefficient, max(1e-13, 1e-15 * scale / abs(coefficient)))


def _partners(local: Local, torch: Sum, keras: Sum) -> list[tuple[str, str]]:
    """Terms of both sides that hold the same numbers."""
    found: list[tuple[str, str]] = []
    for mine, (a, _) in torch.terms.items():
        for theirs, (b, _) in keras.terms.items():
            if a.size == b.size and theirs not in {t for _, t in found}:
                x, y = np.sort(a.reshape(-1)), np.sort(b.reshape(-1))
                if local.agree(x, y):
                    found.append((mine, theirs))
                    break
    return found


def _norm_of(local: Local) -> bool:
    kinds = (*local.torch.within, *local.keras.within, local.torch.call.kind, local.keras.call.kind)
    return any("norm" in kind.lower() for kind in kinds)


def _factor(local: Local, term: str, torch: float, keras: float) -> Cause:
    ratio = torch / keras if keras else math.inf
    missing = "torch" if torch == 0 else "keras" if keras == 0 else None
    size = local.torch.value.shape[-1] if local.torch.value.ndim else 1
    root = f", which is the square root of {size}" if math.isclose(abs(ratio), math.sqrt(size), rel_tol=1e-9) else ""
    root = root or (
        f", which is 1 / the square root of {size}"
        if math.isclose(abs(ratio) * math.sqrt(size), 1, rel_tol=1e-9)
        else ""
    )
    name = f"the output of {term}" if term else "this"
    summary = (
        f"{missing} leaves out a term: {name} enters with the factor {torch:.12g} in torch and {keras:.12g} in keras"
        if missing
        else f"{name} enters with the factor {torch:.12g} in torch and {keras:.12g} in keras{root}"
    )
    fix = f"keras: multiply {name} by {ratio:.12g}, or torch: divide it by that"
    return _cause(
        local,
        "missing_term" if missing else "constant_factor",
        summary,
        {"torch": torch, "keras": keras} | ({"ratio": ratio} if keras else {}),
        f"{missing}: add {name}" if missing else fix,
    )


def _offset(local: Local, torch: float, keras: float) -> Cause:
    norm = _norm_of(local) and max(abs(torch), abs(keras)) < 0.1
    what = "epsilon" if norm else "the number added"
    return _cause(
        local,
        "epsilon" if norm else "constant_offset",
        f"{what} is {torch:.12g} in torch and {keras:.12g} in keras",
        {"torch": torch, "keras": keras},
        f"keras: {what} {torch:.12g}, or torch: {what} {keras:.12g}",
    )


def _operand(local: Local, torch: str, keras: str, mine: Array, theirs: Array) -> Cause:
    order = closest(theirs, mine) if mine.size == theirs.size else None
    apart = local.gap(mine, order.apply(theirs)) if order is not None else math.inf
    each_example = mine.size == theirs.size == local.torch.value.size  # a constant has no axis of the examples
    return _cause(
        local,
        "other_operand" if each_example else "other_constant",
        f"the two sides add different tensors: {torch} in torch and {keras} in keras",
        {"difference": apart, "torch": list(mine.shape), "keras": list(theirs.shape)},
        "add the same tensor on both sides" if each_example else "compare the code that computes it on both sides",
    )


def _cause(local: Local, name: str, summary: str, evidence: Mapping[str, object], fix: str) -> Cause:
    return Cause(
        id=name,
        phase="forward",
        torch=local.torch.call.name,
        keras=local.keras.call.name,
        summary=summary,
        evidence=evidence,
        fix=fix,
    )
