"""The divergence curve of a free run: where it lies, what it says, and that a run outside of its envelope shows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from results import different, equivalent

from xcheck.records.result import Check, Verdict
from xcheck.report.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, curves
from xcheck.report.html import as_html
from xcheck.report.result import Result


def free_run(
    errors: list[float], allowed: float = 1e-12, name: str = "total loss", precision: str = "float64"
) -> Result:
    checks = tuple(
        Check(
            "trajectory",
            precision,
            step,
            name,
            name,
            name,
            Verdict.EQUIVALENT if error <= allowed else Verdict.DIFFERENT,
            error,
            allowed * step,
        )
        for step, error in enumerate(errors, 1)
    )
    return replace(equivalent(), checks=checks)


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", line)]


def only(result: Result) -> Curve:
    (curve,) = curves(result)
    return curve


def test_a_step_of_ten_is_one_decade_down_whatever_the_size() -> None:
    curve = only(free_run([1e-16, 1e-15, 1e-14, 1e-13]))
    xs, ys = zip(*points(curve.error), strict=True)
    assert list(ys) == sorted(ys, reverse=True)
    assert ys[0] - ys[1] == pytest.approx(ys[2] - ys[3], abs=0.2)
    assert (xs[0], xs[-1]) == (LEFT, WIDTH - RIGHT)
    assert len(points(curve.allowed)) == 4
    assert all(y < at for (_, y), at in zip(points(curve.allowed), ys, strict=True))  # above the error, so further up
    assert curve.over == []
    assert curve.summary == "step 4: error 1.0e-13, allowed 4.0e-12"


def test_everything_lies_inside_of_the_axes() -> None:
    curve = only(free_run([0.0, 1e-300, 1e-3, 5.0]))
    for x, y in [*points(curve.error), *points(curve.allowed), *curve.over]:
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM
    assert points(curve.error)[0][1] == points(curve.error)[1][1] == HEIGHT - BOTTOM  # too small to be told from zero
    labels = [label for _, label in curve.rows]
    assert len(labels) <= 8


def test_a_run_that_leaves_its_envelope_shows_where() -> None:
    curve = only(free_run([1e-14, 1e-14, 1e-9, 1e-9]))
    assert [x for x, _ in curve.over] == [x for x, _ in points(curve.error)][2:]
    assert curve.summary.endswith("outside on 2 of 4 steps, first on step 3")
    assert as_html([free_run([1e-14, 1e-14, 1e-9])]).count('<circle class="over"') == 1


def test_the_loss_and_the_weights_have_a_drawing_each_and_so_has_a_precision() -> None:
    loss, weights = free_run([1e-15] * 3), free_run([1e-14] * 3, name="0.weight")
    moving = replace(weights.checks[2], name="0.bias")  # another parameter is furthest off by then
    both = replace(loss, checks=(*loss.checks, *weights.checks[:2], moving))
    assert [c.title for c in curves(both)] == ["total loss", "the parameter that is furthest off"]
    narrow = free_run([1e-7] * 3, precision="float32")
    titles = [c.title for c in curves(replace(loss, checks=(*loss.checks, *narrow.checks)))]
    assert titles == ["total loss, float64", "total loss, float32"]
    assert as_html([both]).count("<figure") == 2


def test_what_has_no_number_or_no_second_step_is_not_drawn() -> None:
    lost = replace(free_run([1e-15] * 2).checks[1], error=None, allowed=None, verdict=Verdict.DIFFERENT)
    assert curves(replace(equivalent(), checks=(free_run([1e-15]).checks[0], lost))) == []
    assert curves(different()) == []  # its free run has one check
    assert "<figure" not in as_html([equivalent()])


def test_a_long_run_stays_light() -> None:
    with_curve = as_html([free_run([1e-15] * 500)])
    without = as_html([replace(free_run([1e-15] * 500), checks=())])
    assert len(with_curve) - len(without) < 700_000  # nearly all of it the table of the checks
    assert len(only(free_run([1e-15] * 500)).error) < 8_000
