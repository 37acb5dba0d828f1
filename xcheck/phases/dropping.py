"""One more re-synced step, in which every dropout scales its input: whether both sides drop the same tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import UserCodeError
from ..frameworks.drawing import STAND_IN
from ..frameworks.protocol import Runner
from ..pairs.pair import Batch
from ..records.result import SCALED, Check, Verdict
from ..records.trace import DROPOUT_NOISE, DROPOUT_RATES
from ..stepping.lockstep import StepPair, reference_steps, resynced
from .ordinary import finite
from .phase import Live
from .repeats import REPEATABILITY


@dataclass
class Dropping:
    """The further step of a run whose sides drop something.

    Args:
        live: both sides, in any state; the step leaves them where it ends.
        number: of the step.
        batch: to train on.
    """

    live: Live
    number: int
    batch: Batch
    once: bool = True

    def steps(self) -> Iterator[StepPair]:
        """The step; nothing, with a note, where it cannot be made."""
        live = self.live
        checks, runner = live.findings.checks, live.reference.runner
        if not any(c.name == DROPOUT_RATES for c in checks) or any(c.verdict is Verdict.DIFFERENT for c in checks):
            return
        if any(c.name.startswith(REPEATABILITY) for c in checks) or any(live.findings.draws.values()):
            self.leave_out("a step does not repeat")
        elif runner is None:
            self.leave_out("the reference is a recording")
        elif live.plan.doubts:
            self.leave_out("the parameter match is not proven")
        elif not any(c.name == DROPOUT_NOISE for c in checks):
            self.leave_out("some of them are inside a function whose operations cannot be observed")
        elif live.findings.allows_further("a step in which dropouts scale"):
            live.progress("a step in which dropouts scale")
            yield from self._made(runner)

    def _made(self, runner: Runner) -> Iterator[StepPair]:
        live = self.live
        try:
            # Both sides are compared by what the step left, so that nothing else runs with this dropout.
            with STAND_IN.scaling():
                seed, effect = live.findings.seed, live.findings.by_effect
                made = reference_steps(runner, [self.batch], precision="float64", seed=seed, first=self.number)
                steps = list(resynced(made, live.follower, live.plan, seed=seed, by_effect=effect))
        except UserCodeError as error:
            self.leave_out(str(error).splitlines()[0])
        else:
            yield from steps

    def counted_checks(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """What the step says; None, with a note, where it overflows.

        Args:
            step: of both sides.
            checks: of it.
        """
        if not finite(step):
            self.leave_out("the reference overflows when its dropouts are scaled")
            return None
        judged = [c for c in checks if c.verdict in (Verdict.EQUIVALENT, Verdict.DIFFERENT)]
        return [replace(c, detail="; ".join(filter(None, (SCALED, c.detail)))) for c in judged]

    def leave_out(self, reason: str) -> None:
        """Say that there is no such step."""
        self.live.findings.notes.append(
            f"not covered: which tensors dropout is applied to; only its rates are compared ({reason})"
        )
