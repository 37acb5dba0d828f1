"""The findings of a run so far; they give a result at any time, so that nothing computed is lost."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import BadInput, Terminated
from ..layouts.patterns import reorders
from ..matching import MatchPlan
from ..numerics.compare import METRICS
from ..numerics.tolerance import WIDE
from ..pairs.fingerprints import fingerprints
from ..pairs.pair import Expectation, Pair
from ..records.accepted import Acceptance, Accepted
from ..records.inventory import Holdings, Inventory
from ..records.isolated_hypotheses import noting_faults
from ..records.memory_needed import shortage
from ..records.reproduction import Reproduction
from ..records.result import PHASES, Cause, Check, Divergence, Tie, Verdict
from ..records.sides import SideName, other_side
from ..records.sites import Sites
from ..records.trace import Arrays
from ..report.result import Result
from .edits import located
from .not_covered import not_covered
from .pace import MOST_TELLING, Pace
from .ties.stages import staged

EXPLAINED_BY_FLOAT32 = ("float32_constant", "float32_operation")
"""Causes that state what rounding explains; beside another cause they are not a second mistake."""


BY_DESIGN = ("biased_variance",)
"""Causes that lie in a framework itself: the author of a port mends all others first."""


def in_order(causes: Sequence[Cause], checks: Sequence[Check]) -> list[Cause]:
    """The causes in dataflow order; in a phase what the port's author can mend first, observations at the end.

    Args:
        causes: as they were found.
        checks: of the run.
    """
    different = {c.phase for c in checks if c.verdict is Verdict.DIFFERENT}

    def rank(cause: Cause) -> tuple[bool, int, bool]:
        # Initial weights are synced away, so that what is said of them explains no difference of another phase.
        observed = bool(different) and cause.phase == "initialization" and cause.phase not in different
        return observed, PHASES.index(cause.phase), cause.id in BY_DESIGN

    return sorted(causes, key=rank)


@dataclass
class Findings:
    """The growing part of a run.

    Attributes:
        pair, seed, steps: as requested.
        phases: the requested phases.
        complete: the phases include every usual one.
        checks, ties, causes, coverage, environment, timings, notes, exports: as in `Result`.
        located: the first difference, where it could be traced into the models.
        reproduction: of the first difference, where no cause explains it.
        by_effect: roles of slots that the sides keep in different forms; the updates of the next steps judge them.
        sampled: elements of each gradient of the last examined step, by side and path.
        inventories, holdings: parameters and buffers of each side, and those of its optimizer, once matched.
        unused: parameter -> why its gradient need not be compared.
        draws: sources of random numbers on each side; empty where there are none.
        accepted: the acceptances of the user -> their outcomes.
        reach: which batches are derived from the given ones: "none", "default" or "full".
        precision, free_steps: as requested.
        sites: where the objects of each side are constructed.
        batches: (examples, digest) of each batch that the sides were compared on.
        pace: the time that the run has.
        excluded: (phase, name) of quantities excluded from the comparison, or judged by formula -> the acceptance.
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
    inventories: Mapping[SideName, Inventory] = field(default_factory=dict[SideName, Inventory])
    holdings: Mapping[SideName, Holdings | None] = field(default_factory=dict[SideName, Holdings | None])
    unused: Mapping[str, str] = field(default_factory=dict[str, str])
    draws: Mapping[SideName, Sequence[str]] = field(default_factory=dict[SideName, Sequence[str]])
    accepted: dict[Acceptance, Accepted] = field(default_factory=dict[Acceptance, Accepted])
    reach: str = "default"
    precision: Sequence[str] = ("float64",)
    free_steps: int | None = None
    sites: dict[SideName, Sites] = field(default_factory=dict[SideName, Sites])
    batches: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    pace: Pace = field(default_factory=Pace)
    excluded: dict[tuple[str, str], Acceptance] = field(default_factory=dict[tuple[str, str], Acceptance])

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
        """Attach the result so far to the exception that ends the run, for `result_of`; note failures of the search.

        Raises:
            OutOfMemory: memory ran out in the block.
        """
        try:
            with np.errstate(all="ignore"), noting_faults(self.notes):  # non-finite values are judged, not warned about
                yield
        except BaseException as error:
            out_of_memory = shortage(error)
            reported = out_of_memory or error
            vars(reported)["result"] = self.result(failure=_failure(reported))
            if out_of_memory is not None:
                raise out_of_memory from error
            raise

    def matched(self, plan: MatchPlan) -> None:
        """Count the parameters of a plan and repeat its waivers."""
        self.coverage["parameters"] = {
            "matched": len(plan.parameters),
            "waived": len(plan.waived),
            "unmatched": len(plan.unmatched_torch) + len(plan.unmatched_keras),
        }
        self.notes += [f"waived: {path} ({reason})" for path, reason in plan.waived.items()]
        evidence = [m.evidence for m in plan.parameters if m.evidence]
        if evidence:
            by_value, by_name = (sum(kind == expected for kind in evidence) for expected in ("by value", "by name"))
            named = f", {by_name} by name" if by_name else ""
            by_structure = len(evidence) - by_value - by_name
            self.notes.append(f"matched without a map: {by_value} by value{named}, {by_structure} only by structure")
        if plan.proof:
            self.notes.append(f"the match is {plan.proof}")
        reordered = [m for m in plan.parameters if m.evidence and "->" in m.layout.name and reorders(m.layout.name)]
        if reordered:
            examples = ", ".join(f"{m.name('torch')} as {m.layout.name}" for m in reordered[:2])
            more = f" and {len(reordered) - 2} more" if len(reordered) > 2 else ""
            self.notes.append(
                f"equal only if the port loads the parts of an axis in a different order: {examples}{more}"
            )

    def count_step(self, step: int) -> None:
        """Count the comparisons of a step."""
        checks = [c for c in self.checks if c.step == step]
        for kind, phase in (("gradients", "gradient"), ("outputs", "forward")):
            of_phase = [c for c in checks if c.phase == phase and not c.of_use]
            compared = sum(c.error is not None for c in of_phase)
            tally = self.coverage.setdefault(kind, {"compared": 0, "missing": 0})
            tally["compared"] += compared
            tally["missing"] += len(of_phase) - compared

    def count_unused(self, word: str, count: int) -> None:
        """Count parameters that no compared quantity depends on, if there are any."""
        counts, key = self.coverage["parameters"], word.replace(" ", "_")
        if count:
            counts[key] = counts.get(key, 0) + count

    def allows_further(self, what: str) -> bool:
        """Whether a step beyond the given batches may begin: what comes after it and tells more keeps its time."""
        more = "float32" in self.precision or "trajectory" in self.phases
        return self.pace.allows(what, MOST_TELLING if more else 1.0)

    def passes(self) -> bool:
        """Whether every check so far is EQUIVALENT."""
        return all(c.verdict is Verdict.EQUIVALENT for c in self.checks)

    def result(self, failure: str | None = None) -> Result:
        """The result of the findings so far.

        Args:
            failure: message of the error that ended the run; such a run is INCONCLUSIVE at best.
        """
        verdicts = [c.verdict for c in self.checks] + ([Verdict.INCONCLUSIVE] if failure else [])
        verdict = Verdict.worst(verdicts)
        divergence = self._divergence()
        expect = self.pair.expect
        assert not isinstance(expect, str)  # Pair turns a word into an Expectation
        late = [f"not covered: {what} ({self.pace.reason})" for what in self.pace.left_out]
        notes = list(dict.fromkeys([*self.notes, *_wide_allowances(self.checks), *late]))
        if not self.complete:
            notes.append(f"only these phases were requested: {', '.join(self.phases)}")
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
            causes=tuple(self._written(cause) for cause in in_order(self.causes, self.checks)),
            coverage=self.coverage,
            ties=staged(self.ties, self.checks),
            timings=self.timings,
            notes=tuple(notes),
            failure=failure,
            exports=tuple(self.exports),
            accepted=tuple(self.accepted.values()),
            fingerprints=fingerprints(self.pair, self.batches, self._settings()),
            not_covered=(
                *not_covered(self.pair, self.phases, self.checks, self.coverage, self.accepted.values()),
                *(f"{what}: {self.pace.reason}" for what in self.pace.left_out),
            ),
            reproduction=self.reproduction,
        )

    def _written(self, cause: Cause) -> Cause:
        """A cause without what exists during a run only, and with its places in the source."""
        code, edits = located(cause, self.sites, other_side(self.pair.reference))
        return replace(cause, exchanges=(), code=code, edits=tuple(edits))

    def _settings(self) -> dict[str, Any]:
        phases = "all" if self.complete else "+".join(self.phases)
        free = {} if self.free_steps is None else {"free steps": self.free_steps}
        precision = "+".join(self.precision)
        return {"steps": self.steps, "phases": phases, "precision": precision, "reach": self.reach, **free}

    def first_difference(self, phases: Collection[str]) -> Check | None:
        """The first DIFFERENT check of some phases; checks are in dataflow order."""
        return next((c for c in self.checks if c.verdict is Verdict.DIFFERENT and c.phase in phases), None)

    def _divergence(self) -> Divergence | None:
        first, located = first_divergence(self.checks), self.located
        if first is None or located is None or (first.phase, first.step) != (located.phase, located.step):
            return first
        return located


def _failure(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        interruption = f"signal {error.signal}" if isinstance(error, Terminated) else "Ctrl-C"
        return f"The run was interrupted by {interruption}; this is the partial result."
    if isinstance(error, BadInput):
        return str(error)
    return f"This is a bug in xcheck: {type(error).__name__}: {error}"


def _wide_allowances(checks: Sequence[Check]) -> list[str]:
    """One line per phase with allowances over `WIDE`, naming the largest: a smaller difference passes."""
    widest: dict[str, Check] = {}
    for c in checks:
        measured = c.precision == "float64" and c.error is not None and c.metric in METRICS
        if measured and (c.allowed or 0.0) > max(WIDE, widest[c.phase].allowed or 0.0 if c.phase in widest else 0.0):
            widest[c.phase] = c
    return [
        f"rounding can change {c.name} by {c.allowed:.1e} of its size in {phase}"
        + (f", step {c.step}" if c.step else "")
        + ": smaller differences are not detected there"
        for phase, c in widest.items()
    ]


def first_divergence(checks: Sequence[Check]) -> Divergence | None:
    """The first difference among checks in dataflow order."""
    for c in checks:
        if c.verdict is Verdict.DIFFERENT:
            return Divergence(c.phase, c.precision, c.step, c.torch, c.keras, c.error, c.allowed, c.name)
    return None


def _expectation(
    expect: Expectation, verdict: Verdict, divergence: Divergence | None, causes: Sequence[Cause]
) -> dict[str, Any]:
    """Whether a negative control showed its declared difference, and if not, why not."""
    reasons: list[str] = []
    if verdict is not expect.verdict:
        reasons.append(f"expected {expect.verdict}, got {verdict}")
    phase = divergence.phase if divergence else None
    if expect.phase is not None and phase != expect.phase:
        reasons.append(f"expected the first difference in {expect.phase}, found it in {phase or 'no phase'}")
    if expect.cause is not None and expect.cause not in {c.id for c in causes}:
        reasons.append(f"expected the cause {expect.cause}, found {', '.join(c.id for c in causes) or 'none'}")
    permitted = (expect.cause, *expect.besides, *EXPLAINED_BY_FLOAT32)
    unexpected = dict.fromkeys(c.id for c in causes if c.confirmed and c.id not in permitted)
    if expect.cause is not None and unexpected:
        reasons.append(f"the run also confirms {', '.join(unexpected)}, not only {expect.cause}")
    return {
        "verdict": expect.verdict.value,
        "phase": expect.phase,
        "cause": expect.cause,
        "held": not reasons,
        "why": "; ".join(reasons),
    }
