"""The persistence phase: each side is saved, loaded by all its routes, trained further, and compared with itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..pairs.batches import batches_of
from ..pairs.pair import Batch
from ..records.reload import Fault, Reloaded, Route
from ..records.result import Check, Verdict
from ..records.sides import SIDES, SideName
from ..records.trace import StepRecord
from ..stepping.lockstep import ReferenceStep
from ..stepping.saving import after_reload
from .checks.persistence import Persisted, persistence_checks, persistence_notes, stopped
from .phase import Live, Run


def compare_reloaded(run: Run) -> None:
    """Compare each side with itself after every route, in float64."""
    findings = run.findings
    for side in SIDES:
        run.sides.progress(f"saving and loading the {side} side")
        tied = {path for tie in findings.ties if tie.tied(side) for path in tie.paths(side)}
        with run.sides.open(side) as runner, findings.timed("persistence"):
            batches = batches_of(findings.pair, findings.seed, 2, fewer=True)
            try:
                routes = every_route(runner, batches, findings.seed, tied, run.explanations.resumed)
            except UserCodeError as error:  # such as a step that does not run: it is reported, and the run continues
                routes = [stopped(side, Route("saving"), error)]
        findings.checks += [check for route in routes for check in route.checks]
        findings.causes += run.explanations.routes(side, [fault for route in routes for fault in route.faults])
        findings.notes += persistence_notes(side, routes)


def compare_configs(live: Live) -> None:
    """Report settings that a side's config leaves out; nothing is saved, so this is part of every whole run."""
    findings = live.findings
    for runner in (live.reference.runner, live.follower):
        if runner is None:
            continue
        side, name = runner.side, "get_config"
        for path, (value, default) in runner.persistence().forgotten().items():
            detail = f"{path} is {value!r} here and {default!r} after saving and loading"
            places = (path, None) if side == "torch" else (None, path)
            check = Check("persistence", None, None, f"{side}: {name}", *places, Verdict.DIFFERENT, detail=detail)
            findings.checks.append(check)
            findings.causes += live.explanations.routes(side, [Fault("setting_not_saved", name, (path,), detail, True)])


Resumed = Callable[[SideName, StepRecord, Reloaded, Mapping[str, Any]], Sequence[Fault]]
"""See `Explanations.resumed`."""


def every_route(
    runner: Runner, batches: Iterable[Batch], seed: int, tied: Collection[str], resumed: Resumed
) -> list[Persisted]:
    """The results of all routes of a side.

    Args:
        runner: of the side, freshly built.
        batches: one or two; the last is that of the step after loading.
        seed: of the values that are saved.
        tied: paths whose ties are reported even where the side has a single path for all uses.
        resumed: finds faults from the step after loading, for routes without other faults.
    """
    return [
        stopped(runner.side, route, outcome)
        if isinstance(outcome, UserCodeError)
        else _with_cause(persistence_checks(runner.side, *outcome, tied), runner, *outcome, resumed)
        for route, outcome in after_reload(runner, batches, seed=seed)
    ]


def _with_cause(
    result: Persisted, runner: Runner, step: ReferenceStep, reloaded: Reloaded, resumed: Resumed
) -> Persisted:
    """The result of a route; where nothing else explains a difference, with the faults that the next step shows."""
    if result.faults or all(c.verdict is not Verdict.DIFFERENT for c in result.checks):
        return result
    return replace(result, faults=resumed(runner.side, step.record, reloaded, runner.environment()))
