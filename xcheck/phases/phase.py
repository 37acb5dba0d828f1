"""A phase: a question about two sides, the phases it needs, its cost, and the function that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..frameworks.protocol import Runner
from ..frameworks.sides import Progress, Sides
from ..matching import MatchPlan
from ..onnx.run import Exports
from ..records.reload import Fault, Reloaded
from ..records.result import Cause, Check
from ..records.sides import SideName
from ..records.trace import StepRecord
from ..stepping.lockstep import StepPair
from ..stepping.reference import Reference
from .findings import Findings


class Explanations(NamedTuple):
    """Functions that find the causes of differences and add them to the findings; `causes` provides them.

    Attributes:
        setup: (both sides, phase) -> causes in how the sides are built.
        step: (both sides, step) -> causes of each first difference of the step.
        dropout: (both sides, step) -> dropouts that explain a step in which each scales its input.
        own_updates: (both sides, step) -> differences between the optimizers themselves.
        float32: (findings, step, checks) -> float32 numbers that explain the rest of a difference.
        resumed: (side, step, reloaded side, environment) -> faults that the step after loading shows.
        routes: (side, faults) -> causes.
        files: (exports, side -> its runner) -> causes.
    """

    setup: Callable[[Live, str], None]
    step: Callable[[Live, StepPair], None]
    dropout: Callable[[Live, StepPair], None]
    own_updates: Callable[[Live, StepPair], None]
    float32: Callable[[Findings, StepPair, Sequence[Check]], None]
    resumed: Callable[[SideName, StepRecord, Reloaded, Mapping[str, Any]], Sequence[Fault]]
    routes: Callable[[SideName, Sequence[Fault]], list[Cause]]
    files: Callable[[Exports, Mapping[str, Runner]], list[Cause]]


@dataclass(frozen=True)
class Live:
    """Both sides of the semantic run, open, in float64.

    Attributes:
        findings: filled in as the run goes.
        reference: the reference, live or recorded.
        follower: the other side.
        plan: which parameter is which.
        explanations: see `Explanations`.
        progress: called with the current activity.
    """

    findings: Findings
    reference: Reference
    follower: Runner
    plan: MatchPlan
    explanations: Explanations
    progress: Progress


@dataclass(frozen=True)
class Run:
    """A run whose sides have been compared in float64; the phases that open their own sides start from it.

    Attributes:
        findings: filled in as the run goes.
        sides: opens them.
        plan: which parameter is which.
        explanations: see `Explanations`.
        free_steps: of the free run; None for the usual number.
        float32: whether float32 was requested.
    """

    findings: Findings
    sides: Sides
    plan: MatchPlan
    explanations: Explanations
    free_steps: int | None = None
    float32: bool = False


Compare = Callable[[MatchPlan, StepPair, str], list[Check]]
"""(plan, step, precision) -> checks."""


@dataclass(frozen=True)
class Phase:
    """One phase. Exactly one of `start`, `compare` and `run` is there.

    Attributes:
        name: as in `--phases` and in `result.json`.
        question: the question that it answers, in one line.
        cost: in words, for the list of phases.
        needs: phases whose differences cause differences of this phase; without one there, it is a first difference.
        on_request: runs only if the call or the pair requests it: it takes longer than all other phases, and checks
            each side rather than the port.
        only_if_equal: runs only where nothing before it differs.
        start: examines two open sides, before any step.
        compare: examines the records of each step, in each precision.
        run: opens its own sides, after all steps.
    """

    name: str
    question: str
    cost: str
    needs: tuple[str, ...] = ()
    on_request: bool = False
    only_if_equal: bool = False
    start: Callable[[Live], None] | None = None
    compare: Compare | None = None
    run: Callable[[Run], None] | None = None
