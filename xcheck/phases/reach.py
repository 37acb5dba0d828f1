"""Further re-synced steps on batches made from the given ones: what these do not reach."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import Runner, prepared
from ..frameworks.tree import tensors_in
from ..numerics.made_batches import Flat, Made, made_batches
from ..numerics.tolerance import TWINS, WIDE
from ..pairs.batches import batches_of, in_float32
from ..pairs.pair import Batch
from ..records.result import ON_MADE, Check, Verdict
from ..records.sides import SideName
from ..records.trace import Array
from ..stepping.lockstep import StepPair, reference_steps, resynced
from .checks.step import forward_checks
from .ordinary import BEFORE_THE_UPDATE, finite
from .phase import Live

Reach = Literal["none", "default", "full"]

SHARE = 0.5
"""Of the time that the run has taken until then: what a default reach may take."""

LOOKED_AT = 5
"""Given batches that say what is valid."""

NAMED, CUT = 3, 70
"""Made batches that a note names at most, and characters of a reason."""

BY_ROUNDING = "numbers that overflow or that rounding errors decide"
LATE = "not made within half of the run's time; --reach full makes them"


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
    _made: Made | None = field(init=False, default=None)
    _became: str | None = field(init=False, default=None)
    _left: dict[str, list[str]] = field(init=False, default_factory=dict[str, list[str]])

    def __post_init__(self) -> None:
        runner = self.live.reference.runner
        if self.live.findings.reach != "none" and runner is not None:
            self._start = runner.snapshot(), self.live.follower.snapshot()

    def steps(self) -> Iterator[StepPair]:
        """A step per made batch until one differs: without twins, and once more with them where it may differ."""
        live, findings = self.live, self.live.findings
        runner, why = live.reference.runner, self._why_not()
        if findings.reach == "none" or why is not None or runner is None or self._start is None:
            findings.notes += [f"not covered: batches made from the given ones ({why})"] if why else []
            return
        same, allowed, begun = 0, SHARE * sum(findings.timings.values()), time.perf_counter()
        for tried, (made, batch) in enumerate(self._batches()):
            spent = time.perf_counter() - begun
            late = spent + spent / max(tried, 1) > allowed
            if findings.reach == "default" and (late or not made.usual):
                self._left.setdefault(LATE, []).append(made.name)
                continue
            self._made, self._became = made, None
            yield from self._tried(runner, batch)
            if any(c.verdict is Verdict.DIFFERENT and c.step == self.number for c in findings.checks):
                break
            same += self._became == ""
            if self._became:
                self._left.setdefault(self._became, []).append(made.name)
            self.number += 1
        else:
            findings.coverage["made batches"] = {"compared": same, "left out": sum(map(len, self._left.values()))}
        self._restore(runner)
        findings.notes += [f"not covered: {_listed(names)} ({why})" for why, names in self._left.items()]

    def _why_not(self) -> str | None:
        live, findings = self.live, self.live.findings
        checks = findings.checks
        if any(c.verdict is Verdict.DIFFERENT and c.phase in BEFORE_THE_UPDATE for c in checks):
            return ""
        if not {*BEFORE_THE_UPDATE} <= {*findings.phases}:
            return ""
        if live.reference.runner is None:
            return "the reference is a recording"
        if live.plan.doubts:
            return "which parameter is which is open"
        unsteady = any(c.verdict is Verdict.INCONCLUSIVE and c.name.startswith("repeatability of") for c in checks)
        return "steps do not repeat" if unsteady or any(findings.draws.values()) else None

    def _batches(self) -> Iterator[tuple[Made, Batch]]:
        findings = self.live.findings
        given = [*batches_of(findings.pair, findings.seed, min(findings.steps, LOOKED_AT), fewer=True), self.batch]
        on_cpu = findings.environment.get("device") == "cpu"
        for made in made_batches([_flat(b) for b in given], ignored=_ignored(findings.pair), beyond=on_cpu):
            batch = _batch(made.batch, self.batch)
            yield made, replace(batch, inputs=in_float32(batch.inputs), targets=in_float32(batch.targets))

    def _tried(self, runner: Runner, batch: Batch) -> Iterator[StepPair]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if fixed := self._fixed(batch):
                    self._became = fixed
                    return
                batch = self._comparing(runner, batch)
                for twins in (0, TWINS):
                    self._restore(runner)
                    yield from self._step(runner, batch, twins)
                    if self._became is not None:
                        return
        except UserCodeError as error:
            self._became = self._refusal(runner, batch, error)

    def _step(self, runner: Runner, batch: Batch, twins: int) -> Iterator[StepPair]:
        findings = self.live.findings
        settings: dict[str, Any] = {"precision": "float64", "seed": findings.seed, "first": self.number}
        made = reference_steps(runner, [batch], twins=twins, **settings)
        yield from resynced(made, self.live.follower, self.live.plan, seed=findings.seed, by_effect=findings.by_effect)

    def _restore(self, runner: Runner) -> None:
        assert self._start is not None
        runner.restore(self._start[0])
        self.live.follower.restore(self._start[1])

    def _refusal(self, runner: Runner, batch: Batch, error: UserCodeError) -> str:
        """Which sides do not take a batch, and why not."""
        refusing: list[SideName] = []
        for each in (runner, self.live.follower):
            self._restore(runner)
            try:
                each.step(self.number, batch)
            except UserCodeError:
                refusing.append(each.side)
        if len(refusing) == 1:
            reason = (error.parts["cause"] or str(error)).strip().splitlines()[0]
            return f"the {refusing[0]} side alone does not take it: {reason[:CUT]}"
        return "neither side takes it" if refusing else str(error).splitlines()[0][:CUT]

    def _fixed(self, batch: Batch) -> str | None:
        """Whether what a side prepares has as many examples as the given batches, whatever it is given."""
        if batch.size == self.batch.size:
            return None
        pair = self.live.findings.pair
        for name, side in (("torch", pair.torch), ("keras", pair.keras)):
            before, after = (
                [a.shape for part in prepared(getattr(side, "prepare", None), b, name) for a in _arrays(part)]
                for b in (self.batch, batch)
            )
            for old, new in zip(before, after, strict=False):
                if old and new and old[0] == new[0] == self.batch.size:
                    return f"what the {name} side prepares has always {self.batch.size} examples"
        return None

    def _comparing(self, runner: Runner, batch: Batch) -> Batch:
        """The batch, with what is padding left out of the comparison of outputs that have it."""
        mask = self._made.mask if self._made is not None else None
        if mask is None:
            return batch
        self._restore(runner)
        outputs = runner.infer(batch)
        masks = {name: mask for name, a in outputs.items() if a.shape[: mask.ndim] == mask.shape}
        return replace(batch, compare={**masks, **(batch.compare or {})} or None)

    def taken(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """What differs on a made batch; None where nothing does, or nothing can be said.

        Args:
            step: of both sides.
            checks: of it.
        """
        assert self._made is not None
        if not finite(step):
            self._became = BY_ROUNDING
            return None
        known = {c.phase for c in self.live.findings.checks if c.verdict is Verdict.DIFFERENT and c.step != step.number}
        found = [c for c in checks if c.verdict is Verdict.DIFFERENT and c.phase not in known]
        if found and not step.reference.twins:
            return None
        wide = [c for c in checks if c.phase in BEFORE_THE_UPDATE and not c.of_use and (c.allowed or 0.0) > WIDE]
        if found and (wide or all((c.allowed or 0.0) > WIDE for c in found)):
            self._became = BY_ROUNDING
        elif found and found[0].phase != "forward" and self._padding_differs(step):
            self._became = "outputs that differ where a row is padded"
        elif not found:
            self._became = ""
        else:
            return [replace(c, detail="; ".join(filter(None, (ON_MADE + self._made.name, c.detail)))) for c in found]
        return None

    def _padding_differs(self, step: StepPair) -> bool:
        if self._made is None or self._made.mask is None:
            return False
        whole = replace(step, reference=replace(step.reference, batch=replace(step.reference.batch, compare=None)))
        found = forward_checks(self.live.plan, whole, "float64")
        return any(c.verdict is Verdict.DIFFERENT for c in found)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _flat(batch: Batch) -> Flat:
    return Flat(_by_name(batch.inputs), _by_name(batch.targets), dict(batch.compare or {}))


def _by_name(value: Any) -> dict[str, Array]:
    if isinstance(value, Mapping):
        return {str(key): array for key, array in value.items()}  # pyright: ignore
    if isinstance(value, tuple):
        return {str(at): array for at, array in enumerate(value)}  # pyright: ignore
    return {} if value is None else {"": value}


def _batch(flat: Flat, like: Batch) -> Batch:
    def of(arrays: Mapping[str, Array], value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: arrays[str(key)] for key in value}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(arrays[str(at)] for at in range(len(value)))  # pyright: ignore
        return None if value is None else arrays[""]

    return Batch(of(flat.inputs, like.inputs), of(flat.targets, like.targets), dict(flat.compare) or None)


def _arrays(part: Any) -> list[Any]:
    return list(tensors_in(part, lambda a: hasattr(a, "shape")).values()) if part is not None else []


def _ignored(pair: Any) -> int | None:
    """The label that a loss is set to leave out, where it says so and does not do so by itself."""
    settings = getattr(pair.torch, "loss", None), getattr(pair.keras, "loss", None)
    found = [getattr(loss, name, None) for loss, name in zip(settings, ("ignore_index", "ignore_class"), strict=True)]
    return next((int(label) for label in found if isinstance(label, int | np.integer) and label != -100), None)
