"""The persistence phase: each side is saved and loaded by every route it has, trained on, and told from itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..pairs.batches import batches_of
from ..pairs.pair import Batch
from ..records.reload import Fault, Reloaded, Route
from ..records.result import Verdict
from ..records.sides import SIDES, SideName
from ..records.trace import StepRecord
from ..stepping.lockstep import ReferenceStep
from ..stepping.saving import after_reload
from .checks.persistence import Persisted, persistence_checks, persistence_notes, stopped
from .phase import Run


def compare_reloaded(run: Run) -> None:
    """Each side against itself, by every route, in float64."""
    findings = run.findings
    for side in SIDES:
        run.sides.progress(f"saving and loading the {side} side")
        tied = {path for tie in findings.ties if tie.tied(side) for path in tie.paths(side)}
        with run.sides.open(side) as runner, findings.timed("persistence"):
            batches = batches_of(findings.pair, findings.seed, 2, fewer=True)
            try:
                routes = every_route(runner, batches, findings.seed, tied, run.explanations.resumed)
            except UserCodeError as error:  # such as a step that does not run, which ends no run before it was told
                routes = [stopped(side, Route("saving"), error)]
        findings.checks += [check for route in routes for check in route.checks]
        findings.causes += run.explanations.routes(side, [fault for route in routes for fault in route.faults])
        findings.notes += persistence_notes(side, routes)


Resumed = Callable[[SideName, StepRecord, Reloaded, Mapping[str, Any]], Sequence[Fault]]
"""See `Explanations.resumed`."""


def every_route(
    runner: Runner, batches: Iterable[Batch], seed: int, tied: Collection[str], resumed: Resumed
) -> list[Persisted]:
    """What is said about each route of a side.

    Args:
        runner: of the side, freshly built.
        batches: one or two; the last is that of the step after loading.
        seed: of the values that are saved.
        tied: paths whose ties are reported even where the side has a single path for all uses.
        resumed: what the step after loading tells of a route that nothing else explains.
    """
    return [
        stopped(runner.side, route, left)
        if isinstance(left, UserCodeError)
        else _with_cause(persistence_checks(runner.side, *left, tied), runner, *left, resumed)
        for route, left in after_reload(runner, batches, seed=seed)
    ]


def _with_cause(said: Persisted, runner: Runner, step: ReferenceStep, found: Reloaded, resumed: Resumed) -> Persisted:
    """What is said about a route, with what the next step tells of where nothing else explains it."""
    if said.faults or all(c.verdict is not Verdict.DIFFERENT for c in said.checks):
        return said
    return replace(said, faults=resumed(runner.side, step.record, found, runner.environment()))
