"""Schedules are compared for steps that no run comes to."""

from typing import Any

import numpy as np
import pytest

import xcheck


def torch_net() -> Any:
    from torch import nn

    return nn.Linear(3, 2)


def keras_net() -> Any:
    import keras

    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs))


def loss(y: Any, p: Any) -> Any:
    import keras

    return keras.ops.mean((y - p) ** 2)


def batches(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((5, 3)), rng.standard_normal((5, 2)))


def check(torch_optimizer: Any, rate: Any, keras_class: str = "SGD", **torch: Any) -> xcheck.Result:
    def keras_optimizer() -> Any:
        import keras

        return getattr(keras.optimizers, keras_class)(learning_rate=rate(keras.optimizers.schedules))

    pair = xcheck.Pair(
        "schedules",
        xcheck.TorchSide(torch_net, lambda o, t: ((o - t) ** 2).mean(), torch_optimizer, **torch),
        xcheck.KerasSide(keras_net, loss, keras_optimizer),
        batches,
        weight_map={"weight": "dense/kernel", "bias": "dense/bias"},
    )
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0)


def sgd(parameters: Any) -> Any:
    import torch

    return torch.optim.SGD(parameters, lr=0.1)


def scheduled(rate: Any) -> Any:
    def make(parameters: Any) -> Any:
        from xcheck.optim.torch import KerasSGD

        return KerasSGD(parameters, learning_rate=rate)

    return make


def piecewise(at: int) -> Any:
    return lambda s: s.PiecewiseConstantDecay([at], [0.1, 0.01])


def rates(result: xcheck.Result) -> list[tuple[str, str]]:
    return [(c.name, c.verdict.value) for c in result.checks if c.name.startswith("learning rate")]


@pytest.mark.parametrize(
    ("torch", "keras", "step"),
    [
        (sgd, piecewise(1000), 1002),
        (scheduled(lambda taken: 0.1 if taken <= 1000 else 0.01), piecewise(2000), 1002),
        (scheduled(lambda taken: 0.1 if taken < 1000 else 0.01), piecewise(1000), 1001),  # off by one
        (sgd, lambda s: s.CosineDecay(0.1, 10_000_000), 501),
    ],
)
def test_the_first_rate_that_differs_is_named(torch, keras, step):
    result = check(torch, keras)
    assert result.verdict == "DIFFERENT"
    ((name, verdict),) = rates(result)
    assert verdict == "DIFFERENT"
    assert name.startswith("learning rate at step ")
    assert int(name.rpartition(" ")[2]) >= step if step == 501 else int(name.rpartition(" ")[2]) == step
    assert [c.name for c in result.checks if c.verdict != "EQUIVALENT"] == [name]


@pytest.mark.parametrize(
    ("torch", "keras"),
    [
        (scheduled(lambda taken: 0.1 if taken <= 1000 else 0.01), piecewise(1000)),
        (scheduled(lambda taken: 0.1 * 0.96 ** (taken / 700)), lambda s: s.ExponentialDecay(0.1, 700, 0.96)),
        (
            scheduled(lambda taken: 0.05 * (1 + np.cos(np.pi * min(taken, 5000) / 5000))),
            lambda s: s.CosineDecay(0.1, 5000),
        ),
    ],
)
def test_equal_schedules_pass_however_they_are_computed(torch, keras):
    result = check(torch, keras)
    assert result.verdict == "EQUIVALENT"
    assert rates(result) == [("learning rate, steps 1 to 100000", "EQUIVALENT")]


def test_nothing_is_said_where_a_rate_may_be_set_elsewhere():
    def with_scheduler(parameters: Any) -> Any:
        import torch

        optimizer = torch.optim.SGD(parameters, lr=0.1)
        optimizer.scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1001])
        return optimizer

    def hooked(parameters: Any) -> Any:
        optimizer = sgd(parameters)
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer

    def adagrad(parameters: Any) -> Any:
        import torch

        return torch.optim.Adagrad(parameters, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1, eps=1e-7)

    assert rates(check(with_scheduler, piecewise(1000))) == []
    assert rates(check(sgd, piecewise(1000), after_step=lambda model: None)) == []
    assert rates(check(hooked, piecewise(1000))) == []
    assert rates(check(adagrad, lambda s: s.InverseTimeDecay(0.1, 1, 0.1), "Adagrad")) == []
    assert rates(check(sgd, lambda s: 0.1)) == []


def stepped(make: Any, rate: Any) -> xcheck.Result:
    """A scheduler of PyTorch that the loop steps after each update, against a schedule of Keras."""
    held: list[Any] = []

    def optimizer(parameters: Any) -> Any:
        made = sgd(parameters)
        held[:] = [make(made)]
        return made

    return check(optimizer, rate, after_step=lambda model: held[0].step())


def milestone(at: int) -> Any:
    def make(optimizer: Any) -> Any:
        import torch

        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [at])

    return make


def warm_up_then_cosine(optimizer: Any) -> Any:
    from torch.optim import lr_scheduler

    up = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 100)
    return lr_scheduler.SequentialLR(optimizer, [up, lr_scheduler.CosineAnnealingLR(optimizer, 5000)], [100])


def test_a_scheduler_that_is_stepped_after_each_update_is_run_ahead():
    healthy = stepped(milestone(1001), piecewise(1000))
    assert (healthy.verdict, rates(healthy)) == ("EQUIVALENT", [("learning rate, steps 2 to 20000", "EQUIVALENT")])
    result = stepped(milestone(1002), piecewise(1000))
    assert (result.verdict, rates(result)) == ("DIFFERENT", [("learning rate at step 1002", "DIFFERENT")])


def test_the_cosine_of_a_large_number_may_round_as_float32_does():
    def rate(s: Any) -> Any:
        from keras import ops

        class Waves(s.LearningRateSchedule):
            def __call__(self, step: Any) -> Any:
                return 0.05 * (1 + ops.cos(ops.cast(step, "float32") * (np.pi / 90)))

            def get_config(self) -> dict[str, Any]:
                return {}

        return Waves()

    def waves(late: float) -> Any:
        return lambda o: torch_lambda(o, lambda n: 0.5 * (1 + np.cos(np.pi * (n + late * (n > 999)) / 90)))

    assert [verdict for _, verdict in rates(stepped(waves(0.0), rate))] == ["EQUIVALENT"]
    assert rates(stepped(waves(0.1), rate)) == [("learning rate at step 1001", "DIFFERENT")]


def torch_lambda(optimizer: Any, rate: Any) -> Any:
    from torch.optim import lr_scheduler

    return lr_scheduler.LambdaLR(optimizer, rate)


def test_a_schedule_of_two_parts_is_run_ahead_whole_and_where_it_comes_back_up_it_differs():
    result = stepped(warm_up_then_cosine, lambda s: s.CosineDecay(0.01, 5000, warmup_target=0.1, warmup_steps=100))
    ((name, verdict),) = rates(result)
    assert verdict == "DIFFERENT"  # PyTorch's cosine rises again after its last step, and Keras's stays at its end
    assert name == "learning rate at step 6000"
