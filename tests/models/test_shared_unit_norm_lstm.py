"""A shared constraint acts on each kernel by itself, after the step, on the columns that Keras means."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

import xcheck
from xcheck.frameworks.keras.runner import KerasRunner
from xcheck.frameworks.torch.runner import TorchRunner
from xcheck.matching import plan_from_map
from xcheck.pairs.loading import load_pair

NAME = "shared_unit_norm_lstm"
EPSILON = 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["PAIR", "ONE_EACH"])
def test_one_constraint_object_and_four_are_the_same_computation(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 8, "waived": 0, "unmatched": 0}


def test_the_batches_are_of_different_lengths():
    lengths = [batch.inputs.shape[1] for batch in islice(load_pair(NAME).batches(0), 5)]
    assert len(set(lengths)) >= 3


@pytest.fixture
def running():
    """Both sides, built in float64, from the weights of PyTorch."""
    pair = load_pair(NAME)
    torch = TorchRunner(pair.torch, precision="float64", device="cpu", seed=0)
    keras = KerasRunner(pair.keras, precision="float64", device="cpu", seed=0)
    keras.prime(next(pair.batches(0)))
    plan = plan_from_map(torch.inventory(), keras.inventory(), pair.weight_map)
    keras.write(plan.for_follower(torch.read(), slots=False))
    yield torch, keras
    torch.close()


def test_the_norms_are_one_and_equal_after_every_step(running):
    paths = [f"{layer}.weight_{kind}_l0" for layer in ("first", "second") for kind in ("ih", "hh")]
    targets = load_pair(NAME).weight_map
    for number, batch in enumerate(islice(load_pair(NAME).batches(0), 4), 1):
        mine, theirs = (side.step(number, batch).after.parameters for side in running)
        for path in paths:
            rows = np.linalg.norm(mine[path], axis=1)
            columns = np.linalg.norm(theirs[targets[path]], axis=0)
            assert columns.shape in ((4 * 8,), (4 * 4,))  # gates * units
            assert np.abs(rows - columns).max() < 1e-12
            # n / (n + epsilon) of a norm n before; the first step projects weights of any size, the others near 1
            assert np.abs(columns - 1).max() < (1e-3 if number == 1 else 2 * EPSILON)


def gate_by_gate(model):
    """Norms of whole gate matrices, which is another constraint."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "weight_ih" in name or "weight_hh" in name:
                gates = weight.view(4, -1)
                gates /= EPSILON + gates.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("fault", [None, gate_by_gate], ids=["no constraint", "gate by gate"])
def test_another_constraint_is_found_in_the_first_update(fault):
    pair = load_pair(NAME)
    result = xcheck.check(
        replace(pair, torch=replace(pair.torch, after_step=fault), also=()), steps=1, precision=["float64"]
    )
    assert result.verdict == "DIFFERENT"
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 1)


@pytest.mark.parametrize("variant", ["OTHER_AXIS", "TWO_BIASES"])
def test_the_usual_mistakes_are_found_in_the_update(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()
