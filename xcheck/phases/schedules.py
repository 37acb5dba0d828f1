"""Learning rates of a whole training, computed by both optimizers in advance."""

from __future__ import annotations

from ..numerics.tolerance import KAPPA, epsilon
from ..records.inventory import MOST_UPDATES, UPDATE_COUNTS
from ..records.result import Check, Verdict
from ..records.sides import SIDES
from .phase import Live


def schedule_checks(live: Live) -> list[Check]:
    """Compare future learning rates, if either side has a schedule and both can compute their rates.

    A schedule computed in float32, such as those of Keras, deviates by a few roundings of its largest rate.

    Args:
        live: both sides.

    Returns:
        One check, of the first rate that differs or of all compared rates; nothing where none was compared.
    """
    findings = live.findings
    known = any(c.verdict is Verdict.DIFFERENT and c.phase == "update" for c in findings.checks)
    by_hand = any(getattr(findings.pair.torch, name, None) for name in ("step", "after_step"))
    torch, keras = (holdings.rates if (holdings := findings.holdings.get(side)) else () for side in SIDES)
    if known or by_hand or not torch or not keras or len({*torch}) == len({*keras}) == 1:
        return []
    largest, allowed = max(map(abs, (*torch, *keras))), KAPPA * epsilon("float32")
    errors = [abs(t - k) / largest for t, k in zip(torch, keras, strict=True)]
    first = next((at for at, error in enumerate(errors) if error > allowed), None)
    at = errors.index(max(errors)) if first is None else first
    return [
        Check(
            "update",
            "float64",
            None,
            f"learning rate, steps 1 to {MOST_UPDATES}"
            if first is None
            else f"learning rate at step {UPDATE_COUNTS[at] + 1}",
            None,
            None,
            Verdict.EQUIVALENT if first is None else Verdict.DIFFERENT,
            errors[at],
            allowed,
            torch_value=torch[at],
            keras_value=keras[at],
            detail="" if first is None else _difference(torch[at], keras[at], UPDATE_COUNTS[at] + 1),
        )
    ]


def _difference(torch: float, keras: float, step: int) -> str:
    return (
        f"the learning rate of step {step}, which this run does not come to, is {torch:g} in PyTorch and {keras:g} in "
        "Keras; a scheduler that the pair leaves out belongs on the optimizer: optimizer.scheduler = ..."
    )
