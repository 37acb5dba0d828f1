"""Losses of single examples, in NumPy: how they are joined, and what divides each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.causes.loss.examples import Examples, example_causes
from xcheck.pairs.pair import Batch

RNG = np.random.default_rng(0)
LABELS = np.array([[1, 2, 3, 0], [2, 0, 0, 0], [3, 1, 0, 0], [1, 1, 2, 3], [4, 4, 4, 0]])
LENGTHS = (LABELS != 0).sum(1)
BATCH = Batch(RNG.standard_normal((5, 3)), LABELS)


def inputs(of_torch: Any, of_keras: Any) -> list[Examples]:
    """Losses of the examples of two inputs, and of each batch: functions of the losses of one side."""
    made: list[Examples] = []
    for _ in range(2):
        each = RNG.random(5) + 1
        (torch, whole), (keras, other) = of_torch(each), of_keras(each)
        made.append(Examples({"torch": torch, "keras": keras}, {"torch": float(whole), "keras": float(other)}))
    return made


def mean(each: Any) -> Any:
    """The usual loss of a batch."""
    return each, each.mean()


def total(each: Any) -> Any:
    """The sum of what the examples have."""
    return each, each.sum()


def of_the_batch(each: Any) -> Any:
    """One quotient of all, such as an overlap: of one example it is that of the example."""
    return each, (each**2).sum() / each.sum()


def by_length(each: Any) -> Any:
    """Divided by the number of labels."""
    return each / LENGTHS, (each / LENGTHS).mean()


def more(each: Any) -> Any:
    """A constant more for each example."""
    return each + 0.5, (each + 0.5).mean()


CASES: dict[str, tuple[Any, Any, str, str]] = {
    "mean and sum": (mean, total, "reduction", "by mean in torch and by sum in keras"),
    "per example or per batch": (mean, of_the_batch, "reduction", "keras computes one loss of the whole batch"),
    "the other way round": (of_the_batch, mean, "reduction", "torch computes one loss of the whole batch"),
    "by the length": (by_length, mean, "reduction", "the torch side divides the loss of each example by the number"),
    "by the length in keras": (mean, by_length, "reduction", "the keras side divides the loss of each example"),
    "a constant": (mean, more, "constant_offset", "0.5 more in keras than in torch"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_losses_of_examples_tell(name: str) -> None:
    torch, keras, expected, words = CASES[name]
    (cause,) = example_causes("data", BATCH, inputs(torch, keras))
    assert (cause.id, cause.confirmed, cause.evidence["inputs"]) == (expected, True, 2)
    assert words in cause.summary


def test_nothing_is_told_of_the_same_loss() -> None:
    assert example_causes("data", BATCH, inputs(mean, mean)) == []


def test_a_factor_of_one_input_alone_is_no_cause() -> None:
    here, there = inputs(by_length, mean)[0], inputs(lambda each: mean(each / each[::-1]), mean)[1]
    assert example_causes("data", BATCH, [here, there]) == []


def test_nothing_is_told_where_something_else_differs_too() -> None:
    found = inputs(by_length, lambda each: mean(each + np.array([0.0, 0.0, 1e-3, 0.0, 0.0])))
    assert example_causes("data", BATCH, found) == []
