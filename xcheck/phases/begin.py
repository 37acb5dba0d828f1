"""The start of a run: the requested phases, and the validation of its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import PairError
from ..frameworks.protocol import Runner
from ..pairs.batches import batches_of
from ..pairs.fingerprints import size_and_digest
from ..pairs.pair import Batch, Pair
from ..records.accepted import Acceptance, Accepted
from ..stepping.lockstep import reference_steps
from ..stepping.reference import Reference
from . import AVAILABLE, ON_REQUEST
from .findings import Findings
from .ties.storage import probed

REACHES = ("none", "default", "full")

EVERY = "all"
"""Requests every phase."""


def begin(pair: Pair, seed: int, steps: int, phases: Sequence[str] | None, reach: str = "default") -> Findings:
    """Empty findings for the requested phases.

    Raises:
        PairError: a phase or a reach does not exist.
    """
    if reach not in REACHES:
        raise PairError(f"Unknown reach {reach!r}.", numbers=f"choose from: {', '.join(REACHES)}")
    if phases is not None and EVERY in phases:
        phases = AVAILABLE
    unknown = [p for p in phases or () if p not in AVAILABLE]
    if unknown:
        raise PairError(f"Unknown phase {unknown[0]!r}.", numbers=f"choose from: {', '.join(AVAILABLE)}")
    usual = tuple(p for p in AVAILABLE if p not in ON_REQUEST or p in pair.also)
    chosen = usual if phases is None else tuple(p for p in AVAILABLE if p in phases)
    accepted = {a: Accepted(a.text, cause=a.cause) for a in map(Acceptance.of, pair.accept)}
    return Findings(pair, seed, steps, chosen, complete=set(chosen) >= set(usual), accepted=accepted, reach=reach)


def validate(steps: int, seed: int, precision: Sequence[str], free_steps: int | None = None) -> None:
    """Refuse settings that cannot be run.

    Raises:
        PairError: there is no step, a number of steps is negative, the seed is none of NumPy's, or a precision cannot
            be judged.
    """
    if free_steps is not None and free_steps < 0:
        raise PairError("--free-steps must be 0 or more.", numbers=f"--free-steps {free_steps}")
    if steps < 1:
        raise PairError("A check needs at least one step.", numbers=f"--steps {steps}")
    if not 0 <= seed < 2**32:
        raise PairError("The seed must be an integer from 0 to 2**32 - 1, as NumPy requires.", numbers=f"--seed {seed}")
    if "float64" not in precision or not set(precision) <= {"float64", "float32"}:
        raise PairError(
            "The precision must be float64, or float64 and float32.",
            numbers=f"--precision {','.join(precision)}",
            cause="only in float64 are differences clearly larger than rounding errors",
            todo="run with --precision float64 or --precision float64,float32",
        )


def _noted(findings: Findings, batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        findings.batches.append(size_and_digest(batch))
        yield batch


def live_reference(findings: Findings, runner: Runner) -> Reference:
    """The reference of a run, from its open side."""
    batches = _noted(findings, batches_of(findings.pair, findings.seed, findings.steps))
    steps = reference_steps(runner, batches, precision="float64", seed=findings.seed)
    facts = runner.unmapped_slots, runner.promises(), runner, runner.holdings()
    return Reference(probed(runner), runner.read(), steps, *facts)
