"""The divergence curve of a free run: the error and its allowance at each step, as lines of a small drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..records.result import Check, ResultData
from .words import number, one_line

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 26
"""Margins, for the labels of the axes."""
DECADES = 40
"""Most decades of an axis; smaller values, also an error of exactly zero, lie on its lower edge."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity of a free run, step by step, on a logarithmic axis.

    Attributes:
        title: the quantity.
        summary: the curve in a sentence.
        error, allowed: lines, each the `d` of an SVG path.
        over: points with an error above its allowance, (x, y).
        rows, columns: ticks, (place, label).
    """

    title: str
    summary: str
    error: str
    allowed: str
    over: list[tuple[float, float]]
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]


def curves(result: ResultData) -> list[Curve]:
    """The curves of the total loss and of the weights for each precision of the free run; none for a single step."""
    groups: dict[tuple[str | None, bool], list[Check]] = {}
    for c in result.checks:
        if c.phase == "trajectory" and c.step is not None and math.isfinite(c.severity) and c.allowed:
            groups.setdefault((c.precision, c.name == "total loss"), []).append(c)
    several = len({precision for precision, _ in groups}) > 1
    result_curves: list[Curve] = []
    for (precision, loss), checks in groups.items():
        if len(checks) > 1:
            title = "total loss" if loss else "the parameter that is furthest off"
            result_curves.append(_curve(f"{title}, {precision}" if several else title, checks))
    return result_curves


def _curve(title: str, checks: Sequence[Check]) -> Curve:
    points = [(c.step or 0, c.error or 0.0, c.allowed or 0.0) for c in checks]
    low, high = _decades([value for _, *values in points for value in values])
    steps = [step for step, _, _ in points]
    first, last = min(steps), max(steps)

    def x(step: int) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / max(last - first, 1), 1)

    def y(value: float) -> float:
        decade = max(math.log10(value), low) if value > 0 else low
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (decade - low) / (high - low), 1)

    def line(values: Sequence[float]) -> str:
        return "M" + " L".join(f"{x(step)} {y(value)}" for step, value in zip(steps, values, strict=True))

    final = checks[-1]
    outside = [c for c in checks if (c.error or 0.0) > (c.allowed or 0.0)]
    summary = f"step {last}: error {number(final.error)}, allowed {number(final.allowed)}"
    if outside:
        summary += f"; outside on {len(outside)} of {len(checks)} steps, first on step {outside[0].step}"
    spacing = max(1, math.ceil((high - low) / 6))
    return Curve(
        title,
        one_line(summary),
        line([error for _, error, _ in points]),
        line([allowed for _, _, allowed in points]),
        [(x(c.step or 0), y(c.error or 0.0)) for c in outside],
        [(y(10.0**decade), f"1e{decade}") for decade in range(low, high + 1, spacing)],
        [(x(step), str(step)) for step in sorted({first, (first + last) // 2, last})],
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around all values but zero, at least one decade apart."""
    logs = [math.log10(value) for value in values if 0 < value < math.inf]
    high = math.ceil(max(logs))
    return max(min(math.floor(min(logs)), high - 1), high - DECADES), high
