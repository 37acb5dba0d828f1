"""Losses that count their positions otherwise, in NumPy; that the gradients come from the models is in one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from ports import CLASSES, mlp
from setups import run
from torch.nn import functional as F

import xcheck
from xcheck.causes.locate.loss.probe import Look
from xcheck.causes.loss.positions import counted_causes
from xcheck.causes.prove import state

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((6, 4, CLASSES))
LABELS = RNG.integers(0, CLASSES, (6, 4))
LABELS[0, :3] = 0, 1, 2
OUTPUTS = Z, RNG.standard_normal((6, 4, CLASSES))  # at the weights of the step, and at others
ALL = np.full((6, 4), 1 / 24)
WEIGHTS = np.array([1.0, 3.0, 0.5])[LABELS]
LATER = np.arange(4) < 3 + 0 * LABELS  # all but the last position


def look(z: Any, factors: dict[str, Any], bent: float = 0.0) -> Look:
    """Both sides' cross-entropies of one output, each position by its factor."""
    logs = z - np.log(np.exp(z).sum(-1, keepdims=True))
    each = -np.take_along_axis(logs, LABELS[..., None], -1)[..., 0]
    slopes = np.exp(logs) - np.eye(CLASSES)[LABELS]
    gradients: Any = {side: factor[..., None] * slopes for side, factor in factors.items()}
    gradients["keras"][0, 0] += bent
    values: Any = {side: float((factor * each).sum()) for side, factor in factors.items()}
    return Look({}, values, z, gradients)


def causes(
    torch: Any, keras: Any, labels: Any = LABELS, bent: float = 0.0, later: Any = None
) -> list[tuple[str, bool]]:
    """What is told of two losses that count each position by these factors; `later` are Keras's at other weights."""
    here = look(Z, {"torch": torch, "keras": keras}, bent)
    there = look(OUTPUTS[1], {"torch": torch, "keras": keras if later is None else later}, bent)
    found = counted_causes("data", labels, [here, there])
    assert all(c.evidence["after"] < 1e-9 < c.evidence["before"] and c.evidence["inputs"] == 2 for c in found)
    return [(c.id, c.confirmed) for c in found]


CASES: dict[str, tuple[Any, Any, str]] = {
    "a label left out": (np.where(LABELS == 1, 0.0, 1 / (LABELS != 1).sum()), ALL, "ignored_label"),
    "a mask": (ALL, np.where(LATER, 1 / 18, 0.0), "loss_mask"),
    "one count of those that are kept": (np.where(LATER, 1 / 18, 0.0), np.where(LATER, 1 / 24, 0.0), "reduction"),
    "weights of classes": (WEIGHTS / WEIGHTS.sum(), ALL, "class_weights"),
    "weights that are not summed": (WEIGHTS / WEIGHTS.sum(), WEIGHTS / 24, "weighted_reduction"),
    "weights of examples": (ALL, ALL * np.linspace(0.5, 1.5, 24).reshape(6, 4), "example_weights"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_counts_otherwise(name: str) -> None:
    torch, keras_, expected = CASES[name]
    assert causes(torch, keras_) == [(expected, True)]


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_named_where_the_gradient_is_bent_besides(name: str) -> None:
    assert causes(*CASES[name][:2], bent=1e-6) == []


def test_a_plain_factor_is_left_to_others() -> None:
    assert causes(ALL, ALL / 3) == []


def test_positions_that_the_outputs_leave_out_are_no_mask() -> None:
    """A hinge has no slope where the margin is kept, which other weights move to other positions."""
    there = np.where(LATER[:, ::-1], 1 / 18, 0.0)
    assert causes(ALL, np.where(LATER, 1 / 18, 0.0), later=there) == []


def test_one_input_confirms_nothing() -> None:
    here = look(Z, {"torch": ALL, "keras": np.where(LATER, 1 / 18, 0.0)})
    (cause,) = counted_causes("data", LABELS, [here])
    assert not cause.confirmed
    assert state(cause) == "likely"


def test_a_label_that_does_not_exist_is_left_out() -> None:
    torch = np.where(LABELS == 0, 0.0, 1 / (LABELS != 0).sum())
    assert causes(torch, ALL, np.where(LABELS == 0, -100, LABELS)) == [("ignored_label", True)]


def test_a_mask_of_keras_that_reaches_the_loss() -> None:
    def words(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            x = rng.standard_normal((4, 3, 6))
            x[0, 1:] = 0.0
            yield xcheck.Batch(x, rng.integers(0, CLASSES, (4, 3)))

    def build() -> Any:
        x = keras.Input((3, 6))
        h = keras.layers.Dense(8, activation="tanh", name="hidden")(keras.layers.Masking()(x))
        return keras.Model(x, keras.layers.Dense(CLASSES, name="head")(h))

    names = {"0": "hidden", "2": "head"}
    weight_map = {f"{t}.{a}": f"{k}/{b}" for t, k in names.items() for a, b in (("weight", "kernel"), ("bias", "bias"))}
    pair = mlp(
        torch={"loss": lambda outputs, targets: F.cross_entropy(outputs.flatten(0, 1), targets.flatten())},
        keras={"build": build, "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        batches=words,
        weight_map=weight_map,
    )
    (cause,) = run(pair).causes
    assert (cause.id, cause.confirmed) == ("loss_mask", True)
    assert "the keras side leaves out 2 of the 12 positions" in cause.summary
