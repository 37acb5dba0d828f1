"""The persistence phase: each side is saved and loaded by every route it has, trained on, and told from itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ..causes.persistence.resumed_step import resumed_faults
from ..causes.persistence.route import persistence_causes
from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..frameworks.sides import Sides
from ..pairs.batches import batches_of
from ..pairs.pair import Batch
from ..records.reload import Reloaded, Route
from ..records.result import Verdict
from ..records.sides import SideName
from ..stepping.lockstep import ReferenceStep
from ..stepping.saving import after_reload
from . import checks as phase
from .checks.persistence import Persisted
from .findings import Findings

BOTH: tuple[SideName, SideName] = ("torch", "keras")


def persistence(findings: Findings, sides: Sides) -> None:
    """Each side against itself, by every route, in float64."""
    for side in BOTH:
        sides.progress(f"saving and loading the {side} side")
        tied = {path for tie in findings.ties if tie.tied(side) for path in tie.paths(side)}
        with sides.open(side) as runner, findings.timed("persistence"):
            batches = batches_of(findings.pair, findings.seed, 2, fewer=True)
            try:
                routes = every_route(runner, batches, findings.seed, tied)
            except UserCodeError as error:  # such as a step that does not run, which ends no run before it was told
                routes = [phase.stopped(side, Route("saving"), error)]
        findings.checks += [check for route in routes for check in route.checks]
        findings.causes += persistence_causes(side, [fault for route in routes for fault in route.faults])
        findings.notes += phase.persistence_notes(side, routes)


def every_route(runner: Runner, batches: Iterable[Batch], seed: int, tied: Collection[str]) -> list[Persisted]:
    """What is said about each route of a side.

    Args:
        runner: of the side, freshly built.
        batches: one or two; the last is that of the step after loading.
        seed: of the values that are saved.
        tied: paths whose ties are reported even where the side has a single path for all uses.
    """
    return [
        phase.stopped(runner.side, route, left)
        if isinstance(left, UserCodeError)
        else _with_cause(phase.persistence_checks(runner.side, *left, tied), runner, *left)
        for route, left in after_reload(runner, batches, seed=seed)
    ]


def _with_cause(said: Persisted, runner: Runner, step: ReferenceStep, found: Reloaded) -> Persisted:
    """What is said about a route, with what the next step tells of where nothing else explains it."""
    if said.faults or all(c.verdict is not Verdict.DIFFERENT for c in said.checks):
        return said
    return replace(said, faults=resumed_faults(runner.side, step.record, found, runner.environment()))
