"""Learning rates of a whole training, computed by both optimizers in advance."""

from __future__ import annotations

from collections.abc import Mapping

from ..numerics.tolerance import KAPPA, epsilon
from ..records.inventory import MOST_UPDATES
from ..records.result import Check, Verdict
from ..records.sides import SIDES
from .phase import Live


def schedule_checks(live: Live) -> list[Check]:
    """Compare future learning rates, if either side has a schedule and both can compute their rates.

    A schedule computed in float32, such as those of Keras, deviates by a few roundings of its largest rate, and by the
    change of the rate over a few roundings of the number of updates, as in the cosine of a large number.

    Args:
        live: both sides.

    Returns:
        One check, of the first rate that differs or of all compared rates; nothing where none was compared.
    """
    findings = live.findings
    known = any(c.verdict is Verdict.DIFFERENT and c.phase == "update" for c in findings.checks)
    by_hand = any(getattr(findings.pair.torch, name, None) for name in ("step", "after_step"))
    runners = [runner for runner in (live.reference.runner, live.follower) if runner is not None]
    now = {runner.side: runner.holdings() for runner in runners}  # a scheduler is known by what it did in the steps
    rates: list[Mapping[int, float]] = []
    for side in SIDES:
        holdings = now.get(side) or findings.holdings.get(side)
        rates.append({} if holdings is None else holdings.rates)
    torch, keras = rates
    if by_hand and 0 in torch:
        return []  # what the optimizer says does not hold
    counts = sorted(torch.keys() & keras.keys())
    if known or not counts or len({*torch.values()}) == len({*keras.values()}) == 1:
        return []
    largest = max(map(abs, (*torch.values(), *keras.values())))
    errors = {n: abs(torch[n] - keras[n]) / largest for n in counts}
    slopes = {n: max(_slope(torch, n), _slope(keras, n)) / largest for n in counts}
    allowed = {n: KAPPA * epsilon("float32") * (1 + n * slopes[n]) for n in counts}
    first = next((n for n in counts if errors[n] > allowed[n]), None)
    at = max(counts, key=lambda n: errors[n] / allowed[n]) if first is None else first
    return [
        Check(
            "update",
            "float64",
            None,
            f"learning rate, steps {counts[0] + 1} to {min(counts[-1], MOST_UPDATES)}"
            if first is None
            else f"learning rate at step {at + 1}",
            None,
            None,
            Verdict.EQUIVALENT if first is None else Verdict.DIFFERENT,
            errors[at],
            allowed[at],
            torch_value=torch[at],
            keras_value=keras[at],
            detail="" if first is None else _difference(torch[at], keras[at], at + 1),
        )
    ]


def _slope(rates: Mapping[int, float], n: int) -> float:
    """The largest change of a rate from one update to the next, before and after one of them."""
    neighbours = (abs(rates[n] - rates[m]) for m in (n - 1, n + 1) if m in rates)
    return max(neighbours, default=0.0)


def _difference(torch: float, keras: float, step: int) -> str:
    return (
        f"the learning rate of step {step}, which this run does not come to, is {torch:g} in PyTorch and {keras:g} in "
        "Keras; a scheduler that the pair leaves out belongs on the optimizer: optimizer.scheduler = ..."
    )
