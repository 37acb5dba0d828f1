"""Steps far later in a training are reached by moving what the steps count, and are compared like any other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xcheck


def torch_model(scale: Callable[[Any], float]) -> Any:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.calls, self.factor = nn.Linear(4, 3), 0, 1.0

        def forward(self, x: Any) -> Any:
            self.calls += self.training
            return self.a(x) * scale(self)

    return Net()


def keras_model(scale: Callable[[Any], float]) -> Any:
    import keras

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.calls, self.factor = keras.layers.Dense(3, name="a"), 0, 1.0

        def call(self, x: Any, training: bool = False) -> Any:
            self.calls += bool(training)
            return self.a(x) * scale(self)

    return Net()


def batches(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((6, 4)), rng.standard_normal((6, 3)))


def check(torch: Callable[[Any], float], keras: Callable[[Any], float], **sides: Any) -> xcheck.Result:
    from torch.nn import functional as F
    from torch.optim import SGD

    pair = xcheck.Pair(
        "later",
        xcheck.TorchSide(
            sides.get("build", lambda: torch_model(torch)),
            loss=F.mse_loss,
            optimizer=lambda p: SGD(p, lr=0.1),
            after_step=sides.get("after"),
        ),
        xcheck.KerasSide(
            sides.get("build_keras", lambda: keras_model(keras)),
            loss="mean_squared_error",
            optimizer=lambda: __import__("keras").optimizers.SGD(0.1),
        ),
        batches,
    )
    steps = sides.get("steps", 2)
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0, reach="default")


def late(result: xcheck.Result) -> list[str]:
    """Where later steps differ, and what is said not to be covered of them."""
    notes = [n for n in result.notes if n.startswith("not covered: steps much later")]
    return [*dict.fromkeys(c.further for c in result.checks if c.further.startswith("at a later")), *notes]


def one(_: Any) -> float:
    return 1.0


def until(number: int) -> Callable[[Any], float]:
    return lambda model: 1.0 if model.calls < number else 0.5


def test_a_threshold_on_one_side():
    result = check(until(5000), one)
    assert result.first_divergence is not None
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward")
    assert late(result) == ["at a later step, where torch model.calls is 5000"]
    assert "at a later step, where torch model.calls is 5000" in " ".join(result.report().split())


def test_the_same_threshold_on_both_sides_is_the_same_and_one_that_is_off_by_one_is_not():
    healthy = check(until(5000), until(5000))
    assert (healthy.verdict, late(healthy)) == ("EQUIVALENT", [])
    assert healthy.coverage["later steps"]["compared"] >= 5
    assert late(check(until(5000), until(5001))) == ["at a later step, where torch model.calls is 5000"]


@pytest.mark.parametrize(
    ("scale", "other"),
    [
        (lambda m: min(1.0, (m.calls + 1) / 1000), lambda m: min(1.0, (m.calls + 1) / 2000)),
        (lambda m: 1.0 if m.calls in (300, 70_000) else 0.5, lambda m: 0.5),
        (lambda m: 0.5 if m.calls % 500 == 0 else 1.0, lambda m: 1.0),
        (lambda m: 1.0 + 1e-9 * m.calls, lambda m: 1.0 + 1e-9 * min(m.calls, 10)),
    ],
    ids=["ramp", "one of several", "period", "at no threshold"],
)
def test_what_else_a_count_decides(scale: Any, other: Any):
    assert check(scale, scale).verdict == "EQUIVALENT"
    result = check(scale, other)
    assert result.verdict == "DIFFERENT"


def frozen() -> Any:
    from torch import nn

    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].requires_grad_(False)
    return model


def frozen_keras() -> Any:
    from keras import Input, Sequential, layers

    first = layers.Dense(5, activation="tanh", trainable=False, name="first")
    return Sequential([Input((4,)), first, layers.Dense(3, name="last")])


def test_a_parameter_that_one_side_unfreezes_later():
    counts = [0]

    def after(model: Any) -> None:
        counts[0] += 1
        if counts[0] > 800:
            model[0].requires_grad_(True)

    result = check(one, one, build=frozen, build_keras=frozen_keras, after=after)
    assert result.verdict == "DIFFERENT"
    assert late(result)[0].startswith("at a later step, where torch after_step (")
    (cause,) = result.causes
    assert (cause.id, cause.confirmed) == ("frozen_parameters", True)
    assert cause.summary.startswith("the keras side does not train sequential/first/kernel")


def test_what_accumulates_between_boundaries_is_not_jumped_over_and_no_difference():
    def halved(model: Any) -> float:
        if model.training and model.calls % 100 == 0:
            model.factor *= 0.5
        return model.factor

    def formula(model: Any) -> float:
        return 0.5 ** (model.calls // 100)

    result = check(halved, formula)
    assert result.verdict == "EQUIVALENT"
    assert "every 100 steps, more state changes than counters" in late(result)[0]


def test_what_accumulates_at_short_periods_is_not_jumped_over_either():
    def halved(model: Any) -> float:
        if model.training and model.calls % 5 == 0:
            model.factor *= 0.5
        return model.factor

    result = check(halved, lambda model: 0.5 ** (model.calls // 5), steps=6)
    assert result.verdict == "EQUIVALENT"
    assert "every 5 steps, more state changes than counters" in late(result)[0]


def test_what_accumulates_from_a_boundary_on_is_not_jumped_over():
    def decays(model: Any) -> float:
        model.factor *= 0.99 if model.training and model.calls > 1000 else 1.0
        return model.factor

    result = check(decays, lambda model: 0.99 ** max(model.calls - 1000, 0))
    assert result.verdict == "EQUIVALENT"
    assert "from there on, each step changes more state than counters" in late(result)[0]


def test_a_number_that_changes_with_every_step_forbids_to_move_the_counts():
    def decayed(model: Any) -> float:
        model.factor *= 0.999 if model.training else 1.0
        return model.factor

    result = check(decayed, lambda model: 0.999**model.calls)
    assert result.verdict == "EQUIVALENT"
    assert "each step also changes torch model.factor" in late(result)[0]


def test_a_lookup_hides_what_the_count_is_compared_with():
    result = check(lambda m: {1000: 0.5}.get(m.calls, 1.0), one)
    assert "looked up in a set or a dict" in late(result)[0]


def test_a_scheduler_of_the_users_own_loop_is_left_alone():
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)

    def after(model: Any) -> None:
        optimizer.step()
        scheduler.step()

    result = check(one, one, after=after)
    assert result.verdict == "EQUIVALENT"
    assert "the torch side has a scheduler" in late(result)[0]
