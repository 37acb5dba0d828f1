"""Which optimizers round constants through float32 in a float64 run, and by how much; ours do not.

Weights are of size 1, gradients too, and the learning rate is 2^-6, which float32 holds exactly: what is measured
is what the other constants do. A constant rounded to float32 is wrong by up to 6e-8 of itself. What that does to
the weights in 20 steps depends on the formula: in 1 - beta_2^t it becomes 1e-5 of Adam's step; a decay or the
start of Adagrad's sum is a small part of the step, and so is its rounding.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from table_optimizers import torch_float64

import xcheck.optim
from xcheck.frameworks.keras.patches.precision import float64_throughout

RATE = 2.0**-6
# Keras's class, its arguments, and what was measured with Keras 3.15.1 on TensorFlow 2.21, to an order of magnitude.
ROUNDS = {
    "SGD, momentum": ("SGD", {"momentum": 0.9}, 2e-7),
    "SGD, Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, 2e-7),
    "SGD, decay": ("SGD", {"weight_decay": 0.1}, 1e-9),
    "Adam": ("Adam", {}, 1e-6),
    "AMSGrad": ("Adam", {"amsgrad": True}, 1e-6),
    "AdamW": ("AdamW", {}, 1e-6),
    "Adagrad": ("Adagrad", {}, 8e-11),
    "Adamax": ("Adamax", {}, 2e-8),
    "Nadam": ("Nadam", {}, 8e-9),
}
EXACT = {
    "SGD": ("SGD", {}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop, centered, momentum": ("RMSprop", {"centered": True, "momentum": 0.9}),
}
OURS = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.1},
    "RMSprop": {"momentum": 0.9, "weight_decay": 0.1},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "AdamW": {},
    "Adagrad": {"initial_accumulator_value": 0.1, "lr_decay": 0.1},
    "Adamax": {"weight_decay": 0.1},
    "Nadam": {"weight_decay": 0.1},
}


def gradients():
    return np.random.default_rng(0).normal(size=(20, 30))


def run(make):
    optimizer = make()
    variable = keras.Variable(np.random.default_rng(1).normal(size=30), dtype="float64")
    for g in gradients():
        optimizer.apply([tf.constant(g)], [variable])
    return variable.numpy()


def rounding(make):
    """Largest difference of a weight between Keras as it is and Keras in float64 throughout."""
    with float64_throughout():
        exactly = run(make)
    return float(np.abs(run(make) - exactly).max())


@pytest.mark.parametrize("case", ROUNDS)
def test_keras_rounds_constants_through_float32(case):
    name, arguments, measured = ROUNDS[case]
    found = rounding(lambda: getattr(keras.optimizers, name)(RATE, **arguments))
    assert measured / 10 < found < measured * 10


@pytest.mark.parametrize("case", EXACT)
def test_keras_keeps_the_digits_of_some(case):
    name, arguments = EXACT[case]
    assert rounding(lambda: getattr(keras.optimizers, name)(RATE, **arguments)) == 0


@pytest.mark.parametrize("name", OURS)
def test_ours_keep_the_digits_of_all(name):
    assert rounding(lambda: getattr(xcheck.optim, f"Torch{name}")(RATE, **OURS[name])) == 0


def test_torch_rounds_nadams_momentum_product():
    """`mu_product` is of PyTorch's default dtype whatever the parameter's is."""

    def run_torch():
        p = torch.tensor(np.random.default_rng(1).normal(size=30), requires_grad=True)
        optimizer = torch.optim.NAdam([p], lr=RATE)
        for g in gradients():
            p.grad = torch.tensor(g)
            optimizer.step()
        return p.detach().numpy(), optimizer.state[p]["mu_product"].dtype

    rounded, dtype = run_torch()
    with torch_float64():
        exactly, _ = run_torch()
    assert dtype == torch.float32
    assert 3e-11 < np.abs(rounded - exactly).max() < 3e-9  # 3e-10 measured with PyTorch 2.13.0
