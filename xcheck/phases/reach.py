"""Further re-synced steps on batches made from the given ones; they reach cases that the given batches do not.

A step is first made without twins: values that agree to within the rounding of their sums need none. Where values may
differ it is made again with twins, and counts like any other step if all values stay finite and rounding does not
decide the result.
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
from ..numerics.made_batches import GivenBatches, MadeBatch, made_batches
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
from .not_covered import batch_notes
from .ordinary import BEFORE_THE_UPDATE, NOT_CARRIED, finite, uncarried
from .phase import Live
from .validity import fixed_size, ignored_label, refusal

Reach = Literal["none", "default", "full"]

USUAL = 6
"""Number of made batches at the default reach, the most informative first; not a time limit, since a verdict must not
depend on the speed of a machine."""

SAMPLED_BATCHES = 5
"""Number of given batches that define valid values."""

AFTER = 2
"""Steps from the last one on a given batch to the first one here: one at weights of ordinary size lies between."""

NAMED = 3
"""Largest number of made batches that a note names."""

STABLE = 1e-3
"""How far a difference at ties may change, relative to itself, when all weights are moved by a rounding error."""

VISIBLE = KAPPA * epsilon("float32")
"""Smaller differences come from approximations that are equal in float32: a softplus is linear far from zero in one
library, and nearly linear in another."""

BY_ROUNDING = "numbers overflow, or rounding errors dominate"
PADDING = "outputs differ only at padded positions, which may be irrelevant"
LATE = "only with --reach full"


@dataclass
class MadeBatchSteps:
    """The further steps of a run on made batches, each from the state after the given batches.

    Args:
        live: both sides, in the state after the last given batch; it is restored afterwards.
        number: of the first of these steps.
        batch: the last given batch.

    Attributes:
        start: state of both sides after the given batches; None where no such steps are made.
    """

    live: Live
    number: int
    batch: Batch
    once: bool = False
    start: tuple[Any, Any] | None = field(init=False, default=None)
    _made: MadeBatch = field(init=False)
    _outcome: str | None = field(init=False, default=None)
    _shrinking: str | None = field(init=False, default=None)
    _shown: list[bool] = field(init=False, default_factory=list[bool])
    _before: dict[str, float] | None = field(init=False, default=None)
    _passes: dict[SideName, int] = field(init=False, default_factory=dict[SideName, int])

    def __post_init__(self) -> None:
        runner = self.live.reference.runner
        if self.live.findings.reach != "none" and runner is not None:
            self.start = runner.snapshot(), self.live.follower.snapshot()

    def steps(self) -> Iterator[StepPair]:
        """The steps, until one differs."""
        live, findings = self.live, self.live.findings
        runner, reason = live.reference.runner, self.skip_reason()
        if findings.reach == "none" or reason is not None or runner is None:
            findings.notes += [f"not covered: batches made from the given ones ({reason})"] if reason else []
            return
        given = self._given_batches()
        varied_weights = "weights" in {*given.kinds.values(), *given.of_targets.values()}
        findings.notes += batch_notes(findings.pair, self.batch, varied_weights)
        uncompared: dict[str, list[str]] = {}
        late: list[str] = []
        compared = usual = 0
        for made, batch in self._batches(given):
            usual += made.usual
            if findings.reach == "default" and (usual > USUAL or not made.usual):
                uncompared.setdefault(LATE, []).append(made.name)
                continue
            if late or not findings.allows_further("batches made from the given ones"):
                late.append(made.name)
                continue
            live.progress(f"on the given batch {made.name}")
            self._made, self._outcome = made, None
            yield from self._attempts(runner, batch)
            if self._outcome is None:
                if self._differs():
                    yield from self._fewer_examples(runner, batch)
                    break
                findings.checks = [c for c in findings.checks if c.step != self.number]  # all differences are accepted
            if self._outcome:
                uncompared.setdefault(self._outcome, []).append(made.name)
            compared += not self._outcome
            self.number += 1
        else:
            left_out = sum(map(len, uncompared.values())) + len(late)
            findings.coverage["made batches"] = {"compared": compared, "left out": left_out}
        self._restore(runner)
        findings.notes += [
            f"not covered: the given batch {_listed(names)} ({reason})" for reason, names in uncompared.items()
        ]

    def skip_reason(self) -> str | None:
        """Why there are no such steps; "" where no note is needed."""
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
            return "the parameter match is not proven"
        if any(map(uncarried, checks)):
            return NOT_CARRIED
        unsteady = any(c.verdict is Verdict.INCONCLUSIVE and c.name.startswith("repeatability of") for c in checks)
        return "steps do not repeat" if unsteady or any(findings.draws.values()) else None

    def _differs(self) -> bool:
        return any(c.verdict is Verdict.DIFFERENT and c.step == self.number for c in self.live.findings.checks)

    def _given_batches(self) -> GivenBatches:
        findings = self.live.findings
        batches = batches_of(findings.pair, findings.seed, min(findings.steps, SAMPLED_BATCHES), fewer=True)
        return GivenBatches.of([flat_of(batch) for batch in chain(batches, [self.batch])])

    def _batches(self, given: GivenBatches) -> Iterator[tuple[MadeBatch, Batch]]:
        findings = self.live.findings
        on_cpu = findings.environment.get("device") == "cpu"  # elsewhere an index out of range ends the process
        made = made_batches(given, ignored=ignored_label(findings.pair), beyond=on_cpu)
        for made_batch in sorted([*padded_batches(given), *made], key=lambda m: not m.usual):
            yield made_batch, like(self.batch, made_batch.batch)

    def _attempts(self, runner: Runner, batch: Batch) -> Iterator[StepPair]:
        live, made = self.live, self._made
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._outcome = fixed_size(live.findings.pair, self.batch, batch) or self._split_otherwise(
                    runner, batch
                )
                if made.mask is not None and self._outcome is None:
                    batch = self._without_padding(runner, batch)
                # At ties, twice: rounding errors that break ties do not break them equally from perturbed weights.
                for twins, perturb in (
                    ((0, False), (TWINS, True), (TWINS, False)) if made.ties else ((0, False), (TWINS, False))
                ):
                    if self._outcome is None:
                        self._restore(runner)
                        self._set_weights(runner, perturb)
                        yield from self._step(runner, batch, twins)
        except UserCodeError as error:
            self._outcome = refusal(runner, live.follower, self._restore, self.number, batch, error)

    def _split_otherwise(self, runner: Runner, batch: Batch) -> str | None:
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
        assert self.start is not None
        side.restore(self.start[side is self.live.follower])
        return side.step(self.number, batch).passes or 0

    def _step(self, runner: Runner, batch: Batch, twins: int) -> Iterator[StepPair]:
        findings, ties = self.live.findings, self._made.ties
        settings: dict[str, Any] = {"precision": "float64", "seed": findings.seed, "first": self.number, "ties": ties}
        steps = reference_steps(runner, [batch], twins=twins, **settings)
        yield from resynced(steps, self.live.follower, self.live.plan, seed=findings.seed, by_effect=findings.by_effect)

    def _restore(self, runner: Runner) -> None:
        assert self.start is not None
        runner.restore(self.start[0])
        self.live.follower.restore(self.start[1])

    def _set_weights(self, runner: Runner, perturb: bool) -> None:
        """Set the weights of the made batch, each perturbed by a rounding error if requested."""
        weights_of = self._made.weights
        if weights_of is None:
            return
        # Parameters without a counterpart stay: the other side may have them as constants.
        trained = {path for m in self.live.plan.trained for path in m.piece(runner.side).paths}
        parameters = runner.read().parameters
        values = {p: weights_of(a, runner.side) if p in trained else a for p, a in parameters.items()}
        rng = np.random.default_rng([self.live.findings.seed, self.number])
        runner.write(State(perturbed(values, rng, "float64") if perturb else values))

    def _without_padding(self, runner: Runner, batch: Batch) -> Batch:
        """The batch, with padding excluded from the comparison of outputs that have it."""
        mask = self._made.mask
        assert mask is not None
        self._restore(runner)
        masks = {name: mask for name, a in runner.infer(batch).items() if a.shape[: mask.ndim] == mask.shape}
        return replace(batch, compare={**masks, **(batch.compare or {})} or None)

    def _fewer_examples(self, runner: Runner, batch: Batch) -> Iterator[StepPair]:
        """Steps on parts of the batch, to find the fewest examples that show the first difference."""
        made = self._made
        examples: Sequence[int] = range(batch.size)
        if made.mask is not None:
            return  # the padding of a part is unknown
        self._shrinking = next(c.phase for c in self.live.findings.checks if c.step == self.number)
        while len(examples) > 1:
            half: int = len(examples) // 2
            halves: tuple[Sequence[int], Sequence[int]] = examples[:half], examples[half:]
            for part in halves:
                try:
                    self._restore(runner)
                    self._set_weights(runner, perturb=False)
                    yield from self._step(runner, _part(batch, part), 0)
                except UserCodeError:
                    continue  # a batch norm takes no single example
                if self._shown.pop():
                    examples = part
                    break
            else:
                break
        if len(examples) < batch.size:
            which = f"example {examples[0] + 1} alone" if len(examples) == 1 else f"{len(examples)} of its examples"
            self.live.findings.notes.append(
                f"on the given batch {made.name}, {which} of {batch.size} shows the difference"
            )

    def counted_checks(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """The differences on a made batch; None where there are none, or none can be judged.

        Args:
            step: of both sides.
            checks: of the step.
        """
        differences = [c for c in checks if c.verdict is Verdict.DIFFERENT]
        differences = [c for c in differences if c.error is None or c.error > VISIBLE]
        if self._shrinking is not None:
            self._shown.append(finite(step) and any(c.phase == self._shrinking for c in differences))
        elif not finite(step):
            self._outcome = BY_ROUNDING
        elif not differences:
            self._outcome = ""
        elif step.reference.twins:
            return self._judged(step, checks, differences)
        return None

    def _judged(self, step: StepPair, checks: Sequence[Check], differences: Sequence[Check]) -> list[Check] | None:
        uncertain = [c for c in checks if c.phase in BEFORE_THE_UPDATE and not c.of_use and (c.allowed or 0.0) > WIDE]
        if self._made.ties:
            earlier, self._before = self._before, {c.name: c.error or 0.0 for c in differences}
            if earlier is None and not uncertain:
                return None
            self._before = None
            differences = [
                c for c in differences if (c.error or 0.0) > WIDE and _close(c.error, (earlier or {}).get(c.name))
            ]
        if uncertain or all((c.allowed or 0.0) > WIDE for c in differences):
            self._outcome = BY_ROUNDING
        elif self._made.mask is not None and differences[0].phase != "forward" and self._padding_differs(step):
            self._outcome = PADDING
        else:
            return [
                replace(c, detail="; ".join(filter(None, (ON_MADE + self._made.name, c.detail)))) for c in differences
            ]
        return None

    def _padding_differs(self, step: StepPair) -> bool:
        unmasked = replace(step, reference=replace(step.reference, batch=replace(step.reference.batch, compare=None)))
        return any(c.verdict is Verdict.DIFFERENT for c in forward_checks(self.live.plan, unmasked, "float64"))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _part(batch: Batch, examples: Sequence[int]) -> Batch:
    """Some examples of a batch."""
    return like(batch, flat_of(batch).each(lambda array: array[list(examples)]))


def _close(error: float | None, other: float | None) -> bool:
    return error is not None and other is not None and abs(error - other) <= STABLE * error
