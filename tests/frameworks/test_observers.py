"""The observer changes nothing: losses, states and gradients with it are bit for bit those without it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from ports import dilated_conv, mlp, submodel_regularizer

from xcheck.frameworks.protocol import Runner
from xcheck.frameworks.sides import _runner
from xcheck.records.trace import StepRecord

PAIRS = {"mlp": mlp, "dilated_conv": dilated_conv, "submodel_regularizer": submodel_regularizer}


def train(pair: Any, side: str, observe: bool) -> list[StepRecord]:
    runner: Runner = _runner(pair, side, "float64", "cpu", 0)  # type: ignore[arg-type]
    chosen = list(islice(pair.batches(0), 5))
    getattr(runner, "prime", lambda _: None)(chosen[0])
    return [runner.step(number, batch, observe=observe) for number, batch in enumerate(chosen, 1)]


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize("name", PAIRS)
def test_losses_and_weights_are_bit_identical(name: str, side: str) -> None:
    watched, alone = train(PAIRS[name](), side, True), train(PAIRS[name](), side, False)
    for one, other in zip(watched, alone, strict=True):
        assert one.losses["total"].tobytes() == other.losses["total"].tobytes()
        for path, value in one.after.parameters.items():
            assert value.tobytes() == other.after.parameters[path].tobytes()
    assert watched[0].outputs  # the observer did see something
    assert watched[0].gradients
    assert not alone[0].outputs


def test_gradients_of_a_shared_weight_accumulate_in_the_users_order() -> None:
    """A hook that made autograd add the uses up in another order would show in the last bits."""
    import torch

    def gradient(observe: bool) -> np.ndarray:
        pair = dilated_conv()
        runner: Any = _runner(pair, "torch", "float64", "cpu", 0)
        runner.memory.let_gradients_go = lambda: None  # so that they can be looked at after the step
        batch = next(iter(pair.batches(3)))
        runner.step(1, batch, observe=observe)
        first: torch.Tensor = runner.model.branches[0].weight
        assert first.grad is not None
        return first.grad.numpy().copy()

    assert gradient(True).tobytes() == gradient(False).tobytes()


@pytest.mark.parametrize("side", ["torch", "keras"])
@pytest.mark.parametrize("name", PAIRS)
def test_telling_uses_apart_changes_no_bit_of_what_comes_next(name: str, side: str) -> None:
    def total_and_weights(split: bool) -> list[bytes]:
        pair = PAIRS[name]()
        runner: Runner = _runner(pair, side, "float64", "cpu", 0)  # type: ignore[arg-type]
        chosen = list(islice(pair.batches(0), 3))
        getattr(runner, "prime", lambda _: None)(chosen[0])
        runner.step(1, chosen[0])
        if split:
            assert runner.uses(2, chosen[1]) or name == "mlp"
        record = runner.step(2, chosen[1])
        if split:
            runner.uses(3, chosen[2])
        last = runner.step(3, chosen[2])
        return [a.tobytes() for made in (record, last) for _, a in made.items()]

    assert total_and_weights(True) == total_and_weights(False)
