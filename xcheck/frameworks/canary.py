"""Canaries: a tiny test run for each interception of a framework.

An interception replaces private functions of a framework, and a different version may no longer call them. Then
nothing is raised, and a check compares the wrong values. So each interception is tested before a check on a tiny
model, and the phases that need a failing one are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..errors import SetupError
from ..pairs.pair import Batch
from ..records.islands import Islands
from .drawing import seeded
from .numpy_precision import prepared_in_float64

MODEL = ("forward", "loss", "gradient", "update", "state", "trajectory", "modes", "persistence")
"""Phases that train."""

EVERY = ("inventory", "initialization", "sync", *MODEL, "export")
"""All phases: they use the match of parameters, or run the model."""

GRADIENT = ("gradient",)
"""Phases that need the gradients."""


class CanaryFailure(Exception):
    """An interception did not work; the message has the wrong result."""


@dataclass(frozen=True)
class Canary:
    """The test of one interception.

    Attributes:
        name: its purpose, such as "dropout off".
        phases: that cannot be judged without it.
        tried: runs the test; raises on failure.
    """

    name: str
    phases: tuple[str, ...]
    tried: Callable[[], None]


class Outcome(NamedTuple):
    """The result of a canary.

    Attributes:
        framework: with its version, such as "torch 2.13.0".
        name, phases: of the canary.
        reason: why it failed; None on success.
        seconds: its duration.
    """

    framework: str
    name: str
    phases: tuple[str, ...]
    reason: str | None
    seconds: float


def outcomes(
    framework: str, canaries: Sequence[Canary], around: Callable[[], AbstractContextManager[Any]]
) -> tuple[Outcome, ...]:
    """Run each canary; an exception is the reason of its failure.

    Args:
        framework: with its version.
        canaries: of it.
        around: context of each run; it restores global state of the framework.
    """
    return tuple(_outcomes(framework, canaries, around))


def _outcomes(
    framework: str, canaries: Sequence[Canary], around: Callable[[], AbstractContextManager[Any]]
) -> Iterator[Outcome]:
    for canary in canaries:
        reason, started = None, perf_counter()
        try:
            with seeded(0), around():
                canary.tried()
        except CanaryFailure as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a framework of another version may raise anything
            reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        yield Outcome(framework, canary.name, canary.phases, reason, perf_counter() - started)


def refuse_broken(outcomes: Sequence[Outcome]) -> None:
    """Refuse a run that cannot report failed canaries as a verdict.

    Args:
        outcomes: canary outcomes of its sides.

    Raises:
        SetupError: a canary failed.
    """
    for outcome in outcomes:
        if outcome.reason is not None:
            raise SetupError(
                f"xcheck cannot observe {outcome.framework} reliably.",
                where=f"canary: {outcome.name}",
                cause=outcome.reason,
                todo="xcheck doctor shows every canary, and the versions that xcheck was tested on",
            )


def expect(holds: Any, otherwise: str) -> None:
    """Check a condition.

    Raises:
        CanaryFailure: it is false.
    """
    if not holds:
        raise CanaryFailure(otherwise)


def expect_equal(what: str, got: Any, wanted: Any) -> None:
    """Check that a value or an array of float64 has the expected value, to the last few digits.

    Raises:
        CanaryFailure: it does not.
    """
    if _numeric(got) and _numeric(wanted):
        same = np.shape(got) == np.shape(wanted) and np.allclose(got, wanted, rtol=1e-14, atol=0.0)
    else:
        same = got == wanted
    if not same:
        raise CanaryFailure(f"{what}: got {_short(got)}, expected {_short(wanted)}")


def _numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "fiu" if not isinstance(value, Mapping) else False


def _short(value: Any) -> str:
    return str(value.tolist() if hasattr(value, "tolist") else value)[:120]


def numpy_in_float64() -> None:
    """`prepare` computes in float64, even with an explicit float32."""
    islands = Islands(lambda _: None)

    def prepare(batch: Batch) -> Any:
        return np.asarray(batch.inputs, dtype=np.float32) / np.float32(3), np.zeros(2, np.float32) + 0.1

    inputs, targets = prepared_in_float64(prepare, Batch(np.ones(2, np.float32)), islands)
    expect_equal("a third of 1 in prepare", inputs, np.full(2, 1 / 3))
    expect_equal("0 + 0.1 in prepare", targets, np.full(2, 0.1))


NUMPY = Canary("NumPy in float64", EVERY, numpy_in_float64)
