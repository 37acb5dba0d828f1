"""A free run that multiplies errors allows what it has grown by; where nothing grows it allows nothing."""

from __future__ import annotations

from typing import Any

import pytest
from ports import keras_sgd, mlp, torch_sgd

import xcheck
from xcheck.numerics.tolerance import LUCK
from xcheck.phases.trajectory_bounds import Envelope
from xcheck.records.result import Check, Verdict


def drifted(error: float, allowed: float, name: str = "total loss") -> Check:
    verdict = Verdict.EQUIVALENT if error <= allowed else Verdict.DIFFERENT
    return Check("trajectory", "float64", 1, name, name, name, verdict, error=error, allowed=allowed)


def after(*steps: tuple[float, float]) -> Check:
    envelope = Envelope()
    (last,) = [envelope.widened([drifted(*step)])[0] for step in steps][-1:]
    return last


@pytest.mark.parametrize(
    ("steps", "verdict", "allowed"),
    [
        (((2e-14, 1e-14),), "DIFFERENT", 1e-14),  # nothing has grown yet
        (((0.0, 1e-14), (2e-14, 1e-14)), "DIFFERENT", 1e-14),
        (((0.0, 1e-14), (5e-12, 1e-12)), "EQUIVALENT", 1e-10),
        (((0.0, 1e-14), (2e-10, 1e-12)), "DIFFERENT", 1e-10),
        (((0.0, 1e-14), (0.0, 1e-12), (1e-13, 2e-14)), "EQUIVALENT", 2e-12),  # it has grown, and may do so unseen
        (((0.0, 1e-14), (0.0, 1e-8)), "EQUIVALENT", LUCK * 1e-8),
        (((0.0, 1e-10), (2e-14, 1e-14)), "DIFFERENT", 1e-14),  # what shrinks takes nothing off, and gives nothing
    ],
)
def test_a_drift_may_be_larger_by_what_it_has_grown(steps: Any, verdict: str, allowed: float) -> None:
    found = after(*steps)
    assert (found.verdict, found.allowed) == (verdict, pytest.approx(allowed))


def test_what_has_grown_most_counts_for_all_and_what_has_no_number_passes_through() -> None:
    envelope = Envelope()
    envelope.widened([drifted(0.0, 1e-14, "a"), drifted(0.0, 1e-14, "b")])
    broken = Check("trajectory", "float64", 2, "c", "c", "c", Verdict.DIFFERENT, detail="NaN")
    a, b, c = envelope.widened([drifted(1e-13, 1e-12, "a"), drifted(1e-13, 1e-14, "b"), broken])
    assert (a.allowed, b.verdict, b.allowed, c) == (pytest.approx(1e-10), "EQUIVALENT", pytest.approx(1e-12), broken)


FREE: dict[str, Any] = {"steps": 1, "free_steps": 8, "precision": ("float64",), "phases": ("update", "trajectory")}


def growing(torch_rate: float, keras_rate: float) -> xcheck.Pair:
    """Its loss is the square of what comes out, which a large rate drives up."""
    return mlp(
        torch={"loss": lambda o, _: o.square().mean(), "optimizer": lambda p: torch_sgd(p, torch_rate)},
        keras={"loss": lambda _, o: keras_square(o), "optimizer": lambda: keras_sgd(keras_rate)},
    )


def keras_square(outputs: Any) -> Any:
    import keras

    return keras.ops.mean(outputs * outputs)


@pytest.mark.parametrize("rate", [1e2, 1e6])
def test_a_run_whose_twins_diverge_ends_there_and_says_so(rate: float) -> None:
    result = xcheck.check(growing(rate, rate), **FREE)
    assert result.verdict == "EQUIVALENT", result.report()
    (note,) = [n for n in result.notes if n.startswith("the free run ended")]
    steps = [c.step or 0 for c in result.checks if c.phase == "trajectory"]
    assert f"ended after {max(steps, default=0)} of 8 steps" in note
    assert max(steps, default=0) < 8


def test_a_wrong_rate_is_found_before_the_twins_diverge() -> None:
    result = xcheck.check(growing(1e2, 1e2 * (1 + 1e-6)), **{**FREE, "phases": ("trajectory",)})
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.step == 1
