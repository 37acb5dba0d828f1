"""What a run has found so far; a result can be made of it at any time, so that nothing computed is lost."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadInput
from ..layouts.patterns import reorders
from ..matching import MatchPlan
from ..pairs.pair import Expectation, Pair
from ..records.reproduction import Reproduction
from ..records.result import Cause, Check, Divergence, Result, Tie, Verdict
from ..records.sides import SideName
from ..records.trace import Arrays
from .ties.stages import staged


@dataclass
class Findings:
    """The growing part of a run.

    Attributes:
        pair, seed, steps: as asked for.
        phases: that were asked for.
        complete: these are all phases there are.
        checks, ties, causes, coverage, environment, timings, notes, exports: as in `Result`.
        located: the first difference, where it could be followed into the models.
        reproduction: of it, where nothing explains it.
        by_effect: roles of slots that the sides keep in different forms: judged by the updates of the next steps.
        sampled: some of each gradient of the last step that was looked at, by side and path.
    """

    pair: Pair
    seed: int
    steps: int
    phases: tuple[str, ...]
    complete: bool
    checks: list[Check] = field(default_factory=list[Check])
    ties: tuple[Tie, ...] = ()
    causes: list[Cause] = field(default_factory=list[Cause])
    coverage: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    environment: dict[str, Any] = field(default_factory=dict[str, Any])
    timings: dict[str, float] = field(default_factory=dict[str, float])
    notes: list[str] = field(default_factory=list[str])
    exports: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    located: Divergence | None = None
    reproduction: Reproduction | None = None
    by_effect: set[str] = field(default_factory=set[str])
    sampled: Mapping[SideName, Arrays] = field(default_factory=dict[SideName, Arrays])

    @contextmanager
    def timed(self, stage: str) -> Generator[None]:
        """Add the seconds of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - started, 4)

    @contextmanager
    def reporting(self) -> Generator[None]:
        """Attach what was computed so far to a user's mistake."""
        try:
            yield
        except BadInput as error:
            error.result = self.result(failure=str(error))
            raise

    def matched(self, plan: MatchPlan) -> None:
        """Count the parameters of a plan and repeat its waivers."""
        self.coverage["parameters"] = {
            "matched": len(plan.parameters),
            "waived": len(plan.waived),
            "unmatched": len(plan.unmatched_torch) + len(plan.unmatched_keras),
        }
        self.notes += [f"waived: {path} ({reason})" for path, reason in plan.waived.items()]
        found = [m.evidence for m in plan.parameters if m.evidence]
        if found:
            by_value = sum(e == "by value" for e in found)
            self.notes.append(f"matched without a map: {by_value} by value, {len(found) - by_value} by structure alone")
        turned = [m for m in plan.parameters if m.evidence and "->" in m.layout.name and reorders(m.layout.name)]
        if turned:
            told = ", ".join(f"{m.name('torch')} as {m.layout.name}" for m in turned[:2])
            more = f" and {len(turned) - 2} more" if len(turned) > 2 else ""
            self.notes.append(f"the same only where the port loads the parts of an axis in another order: {told}{more}")

    def count_step(self, step: int) -> None:
        """Count what a step compared."""
        at = [c for c in self.checks if c.step == step]
        for kind, phase in (("gradients", "gradient"), ("outputs", "forward")):
            of_phase = [c for c in at if c.phase == phase and not c.of_use]
            compared = sum(c.error is not None for c in of_phase)
            tally = self.coverage.setdefault(kind, {"compared": 0, "missing": 0})
            tally["compared"] += compared
            tally["missing"] += len(of_phase) - compared

    def passes(self) -> bool:
        """Whether every check so far is EQUIVALENT."""
        return all(c.verdict is Verdict.EQUIVALENT for c in self.checks)

    def result(self, failure: str | None = None) -> Result:
        """The result of what has been found.

        Args:
            failure: message of the error that ended the run; such a run is INCONCLUSIVE at best.
        """
        verdicts = [c.verdict for c in self.checks] + ([Verdict.INCONCLUSIVE] if failure else [])
        verdict = Verdict.worst(verdicts)
        divergence = self._divergence()
        expect = self.pair.expect
        assert not isinstance(expect, str)  # Pair turns a word into an Expectation
        notes = list(dict.fromkeys(self.notes))
        if not self.complete:
            notes.append(f"only these phases were asked for: {', '.join(self.phases)}")
        return Result(
            pair=self.pair.name,
            verdict=verdict,
            expected=expect.verdict.value if expect else None,
            expectation=_expectation(expect, verdict, divergence, self.causes) if expect else None,
            seed=self.seed,
            steps=self.steps,
            environment=self.environment,
            checks=tuple(self.checks),
            first_divergence=divergence,
            causes=tuple(self.causes),
            coverage=self.coverage,
            ties=staged(self.ties, self.checks),
            timings=self.timings,
            notes=tuple(notes),
            failure=failure,
            exports=tuple(self.exports),
            reproduction=self.reproduction,
        )

    def first_difference(self, phases: Collection[str]) -> Check | None:
        """The first check of some phases that is DIFFERENT; checks stand in dataflow order."""
        return next((c for c in self.checks if c.verdict is Verdict.DIFFERENT and c.phase in phases), None)

    def _divergence(self) -> Divergence | None:
        found, inside = first_divergence(self.checks), self.located
        if found is None or inside is None or (found.phase, found.step) != (inside.phase, inside.step):
            return found
        return inside


def first_divergence(checks: Sequence[Check]) -> Divergence | None:
    """The first difference among checks that stand in dataflow order."""
    for c in checks:
        if c.verdict is Verdict.DIFFERENT:
            return Divergence(c.phase, c.precision, c.step, c.torch, c.keras, c.error, c.allowed, c.name)
    return None


def _expectation(
    expect: Expectation, verdict: Verdict, divergence: Divergence | None, causes: Sequence[Cause]
) -> dict[str, Any]:
    """Whether a negative control showed what it declares, and if not, why not."""
    why: list[str] = []
    if verdict is not expect.verdict:
        why.append(f"expected {expect.verdict}, got {verdict}")
    found = divergence.phase if divergence else None
    if expect.phase is not None and found != expect.phase:
        why.append(f"expected the sides to part in {expect.phase}, they part in {found or 'no phase'}")
    if expect.cause is not None and expect.cause not in {c.id for c in causes}:
        why.append(f"expected the cause {expect.cause}, found {', '.join(c.id for c in causes) or 'none'}")
    return {
        "verdict": expect.verdict.value,
        "phase": expect.phase,
        "cause": expect.cause,
        "held": not why,
        "why": "; ".join(why),
    }
