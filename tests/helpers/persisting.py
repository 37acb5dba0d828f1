"""The persistence phase of one side alone, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import xcheck
from xcheck.causes.persistence.resumed_step import resumed_faults
from xcheck.causes.persistence.route import persistence_causes
from xcheck.phases.checks.persistence import persistence_notes
from xcheck.phases.persistence import every_route
from xcheck.records.result import Cause, Check


@dataclass
class Found:
    """What the phase says of one side."""

    checks: list[Check]
    causes: list[Cause]
    notes: list[str]

    def after(self, route: str) -> dict[str, Check]:
        """Checks of one route, by name without the side."""
        of_route = [c for c in self.checks if f" {route}" in c.name]
        return {c.name.partition(": ")[2]: c for c in of_route}

    def wrong(self) -> list[Check]:
        return [c for c in self.checks if c.verdict != "EQUIVALENT"]

    def routes(self, verdict: str) -> set[str]:
        """The routes with a check of this verdict."""
        names = ("assign=True", "state_dict", "safetensors", "deepcopy", "to(dtype)", "parameters", "all")
        names += (".keras", ".weights.h5", "clone_model", "from_config")
        found = {c.name for c in self.checks if c.verdict == verdict}
        return {route for route in names for name in found if f" {route}" in f"{name} "}


def persisted(runner: Any, batches: Iterable[xcheck.Batch], tied: Iterable[str] = (), seed: int = 0) -> Found:
    """Every route of a side."""
    routes = every_route(runner, batches, seed, set(tied), resumed_faults)
    return Found(
        [check for route in routes for check in route.checks],
        persistence_causes(runner.side, [fault for route in routes for fault in route.faults]),
        persistence_notes(runner.side, routes),
    )
