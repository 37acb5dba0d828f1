"""Further re-synced steps on batches made from the given ones: what these do not reach.

A step is made without twins first: what agrees to within the roundings of its sums needs none. Where something may
differ it is made again with them, and counts as any other step does, if all stays finite and rounding decides nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..numerics.made_batches import Given, Made, made_batches
from ..numerics.padded_rows import padded_batches
from ..numerics.tolerance import KAPPA, TWINS, WIDE, epsilon
from ..pairs.batches import batches_of
from ..pairs.flat import flat_of, like
from ..pairs.pair import Batch
from ..records.result import ON_MADE, Check, Verdict
from ..records.sides import SideName
from ..records.trace import State
from ..stepping.lockstep import StepPair, perturbed, reference_steps, resynced
from .checks.step import forward_checks
from .ordinary import BEFORE_THE_UPDATE, NOT_CARRIED, finite, uncarried
from .phase import Live
from .uncovered import uncovered
from .validity import fixed_size, ignored_label, refusal

Reach = Literal["none", "default", "full"]

USUAL = 6
"""Made batches of a default reach, those first that tell most; a number, since a verdict must not depend on the time
that a machine takes."""

LOOKED_AT = 5
"""Given batches that say what is valid."""

AFTER = 2
"""Steps from the last one on a given batch to the first one here: one at weights of ordinary size lies between."""

NAMED = 3
"""Made batches that a note names at most."""

ALIKE = 1e-3
"""How far a difference at ties may change, relative to itself, when all weights are moved by a rounding error."""

SEEN = KAPPA * epsilon("float32")
"""Differences below are none of another way to compute, but of an approximation that float32 cannot tell from it: a
softplus is linear far from zero in one library, and next to linear in another."""

BY_ROUNDING = "there numbers overflow, or rounding errors decide"
PADDING = "there outputs differ where a row is padded, which may mean nothing"
LATE = "only with --reach full"


@dataclass
class MadeBatches:
    """The further steps of a run on made batches, each from where the given batches have led.

    Args:
        live: both sides, as the last given batch left them; afterwards they are so again.
        number: of the first of these steps.
        batch: the last given one.
    """

    live: Live
    number: int
    batch: Batch
    once: bool = False
    _start: tuple[Any, Any] | None = field(init=False, default=None)
    _made: Made = field(init=False)
    _became: str | None = field(init=False, default=None)
    _before: dict[str, float] | None = field(init=False, default=None)
    _passes: dict[SideName, int] = field(init=False, default_factory=dict[SideName, int])

    def __post_init__(self) -> None:
        runner = self.live.reference.runner
        if self.live.findings.reach != "none" and runner is not None:
            self._start = runner.snapshot(), self.live.follower.snapshot()

    def steps(self) -> Iterator[StepPair]:
        """The steps, until one differs."""
        live, findings = self.live, self.live.findings
        runner, why = live.reference.runner, self._why_not()
        if findings.reach == "none" or why is not None or runner is None:
            findings.notes += [f"not covered: batches made from the given ones ({why})"] if why else []
            return
        made_of = self._given()
        weighed = "weights" in {*made_of.kinds.values(), *made_of.of_targets.values()}
        findings.notes += uncovered(findings, self.batch, weighed)
        left: dict[str, list[str]] = {}
        same = tried = 0
        for made, batch in self._batches(made_of):
            tried += made.usual
            if findings.reach == "default" and (tried > USUAL or not made.usual):
                left.setdefault(LATE, []).append(made.name)
                continue
            self._made, self._became = made, None
            yield from self._tried(runner, batch)
            if self._became is None:
                if self._differs():
                    break
                findings.checks = [c for c in findings.checks if c.step != self.number]  # all of it is accepted
            if self._became:
                left.setdefault(self._became, []).append(made.name)
            elif not same:
                findings.notes += self._counts(runner)
            same += not self._became
            self.number += 1
        else:
            findings.coverage["made batches"] = {"compared": same, "left out": sum(map(len, left.values()))}
        self._restore(runner)
        findings.notes += [f"not covered: the given batch {_listed(names)} ({why})" for why, names in left.items()]

    def _why_not(self) -> str | None:
        """Why there are no such steps; "" where that need not be said."""
        live, findings = self.live, self.live.findings
        checks = findings.checks
        ended = self.number - AFTER < findings.steps
        if ended or any(c.verdict is Verdict.DIFFERENT for c in checks):
            return ""
        if not {*BEFORE_THE_UPDATE} <= {*findings.phases}:
            return ""
        if live.reference.runner is None:
            return "the reference is a recording"
        if live.plan.doubts:
            return "which parameter is which is open"
        if any(map(uncarried, checks)):
            return NOT_CARRIED
        unsteady = any(c.verdict is Verdict.INCONCLUSIVE and c.name.startswith("repeatability of") for c in checks)
        return "steps do not repeat" if unsteady or any(findings.draws.values()) else None

    def _counts(self, runner: Runner) -> list[str]:
        """What a step counts in Python: far more steps may do something else."""
        assert self._start is not None
        follower = self.live.follower
        sides = (runner, self._start[0]), (follower, self._start[1])
        found = [f"{side.side} {way}" for side, start in sides for way in side.counted(start, side.snapshot())]
        return [f"not covered: far later steps, though a step counts: {', '.join(found)}"] if found else []

    def _differs(self) -> bool:
        return any(c.verdict is Verdict.DIFFERENT and c.step == self.number for c in self.live.findings.checks)

    def _given(self) -> Given:
        findings = self.live.findings
        batches = batches_of(findings.pair, findings.seed, min(findings.steps, LOOKED_AT), fewer=True)
        return Given.of([flat_of(batch) for batch in chain(batches, [self.batch])])

    def _batches(self, seen: Given) -> Iterator[tuple[Made, Batch]]:
        findings = self.live.findings
        on_cpu = findings.environment.get("device") == "cpu"  # elsewhere an index out of range ends the process
        made = made_batches(seen, ignored=ignored_label(findings.pair), beyond=on_cpu)
        for each in sorted([*padded_batches(seen), *made], key=lambda m: not m.usual):
            yield each, like(self.batch, each.batch)

    def _tried(self, runner: Runner, batch: Batch) -> Iterator[StepPair]:
        live, made = self.live, self._made
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._became = fixed_size(live.findings.pair, self.batch, batch) or self._parted(runner, batch)
                if made.mask is not None and self._became is None:
                    batch = self._comparing(runner, batch)
                # At ties, twice: rounding errors that break them would not do so alike from weights that are moved.
                for twins, moved in (
                    ((0, False), (TWINS, True), (TWINS, False)) if made.ties else ((0, False), (TWINS, False))
                ):
                    if self._became is None:
                        self._restore(runner)
                        self._reweigh(runner, moved)
                        yield from self._step(runner, batch, twins)
        except UserCodeError as error:
            self._became = refusal(runner, live.follower, self._restore, self.number, batch, error)

    def _parted(self, runner: Runner, batch: Batch) -> str | None:
        """Why a batch of another size is not valid: a step takes it in another number of parts than the given ones."""
        if batch.size == self.batch.size:
            return None
        for side in (runner, self.live.follower):
            if side.side not in self._passes:
                self._passes[side.side] = self._parts(side, self.batch)
            given = self._passes[side.side]
            if given > 1 and (now := self._parts(side, batch)) != given:
                return f"the {side.side} step calls its model {now} times there, and {given} times on a given batch"
        return None

    def _parts(self, side: Runner, batch: Batch) -> int:
        assert self._start is not None
        side.restore(self._start[side is self.live.follower])
        return side.step(self.number, batch).passes

    def _step(self, runner: Runner, batch: Batch, twins: int) -> Iterator[StepPair]:
        findings, ties = self.live.findings, self._made.ties
        settings: dict[str, Any] = {"precision": "float64", "seed": findings.seed, "first": self.number, "ties": ties}
        made = reference_steps(runner, [batch], twins=twins, **settings)
        yield from resynced(made, self.live.follower, self.live.plan, seed=findings.seed, by_effect=findings.by_effect)

    def _restore(self, runner: Runner) -> None:
        assert self._start is not None
        runner.restore(self._start[0])
        self.live.follower.restore(self._start[1])

    def _reweigh(self, runner: Runner, moved: bool) -> None:
        """Set the weights that the made batch goes with, each moved by a rounding error if asked for."""
        change = self._made.weights
        if change is None:
            return
        # What has no counterpart stays: the other side may hold it as a constant.
        trained = {path for m in self.live.plan.trained for path in m.piece(runner.side).paths}
        parameters = runner.read().parameters
        values = {p: change(a, runner.side) if p in trained else a for p, a in parameters.items()}
        rng = np.random.default_rng([self.live.findings.seed, self.number])
        runner.write(State(perturbed(values, rng, "float64") if moved else values))

    def _comparing(self, runner: Runner, batch: Batch) -> Batch:
        """The batch, with its padding left out of the comparison of outputs that have it."""
        mask = self._made.mask
        assert mask is not None
        self._restore(runner)
        masks = {name: mask for name, a in runner.infer(batch).items() if a.shape[: mask.ndim] == mask.shape}
        return replace(batch, compare={**masks, **(batch.compare or {})} or None)

    def taken(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """What differs on a made batch; None where nothing does, or nothing can be said.

        Args:
            step: of both sides.
            checks: of it.
        """
        found = [c for c in checks if c.verdict is Verdict.DIFFERENT]
        found = [c for c in found if c.error is None or c.error > SEEN]
        if not finite(step):
            self._became = BY_ROUNDING
        elif not found:
            self._became = ""
        elif step.reference.twins:
            return self._counting(step, checks, found)
        return None

    def _counting(self, step: StepPair, checks: Sequence[Check], found: Sequence[Check]) -> list[Check] | None:
        wide = [c for c in checks if c.phase in BEFORE_THE_UPDATE and not c.of_use and (c.allowed or 0.0) > WIDE]
        if self._made.ties:
            earlier, self._before = self._before, {c.name: c.error or 0.0 for c in found}
            if earlier is None and not wide:
                return None
            self._before = None
            found = [c for c in found if (c.error or 0.0) > WIDE and _close(c.error, (earlier or {}).get(c.name))]
        if wide or all((c.allowed or 0.0) > WIDE for c in found):
            self._became = BY_ROUNDING
        elif self._made.mask is not None and found[0].phase != "forward" and self._padding_differs(step):
            self._became = PADDING
        else:
            return [replace(c, detail="; ".join(filter(None, (ON_MADE + self._made.name, c.detail)))) for c in found]
        return None

    def _padding_differs(self, step: StepPair) -> bool:
        whole = replace(step, reference=replace(step.reference, batch=replace(step.reference.batch, compare=None)))
        return any(c.verdict is Verdict.DIFFERENT for c in forward_checks(self.live.plan, whole, "float64"))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _close(error: float | None, other: float | None) -> bool:
    return error is not None and other is not None and abs(error - other) <= ALIKE * error
