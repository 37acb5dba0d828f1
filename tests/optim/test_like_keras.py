"""The PyTorch optimizers that follow Keras: state, groups, arguments. The formulas are in test_trajectories.py."""

import copy
import inspect
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import xcheck.optim
from xcheck.errors import BadInput
from xcheck.frameworks.keras.patches.precision import float64_throughout
from xcheck.optim.names import translated

SLOTS = {
    "KerasSGD": ({"momentum": 0.9, "nesterov": True}, {"velocity"}),
    "KerasRMSprop": ({"momentum": 0.9, "centered": True}, {"square_avg", "grad_avg", "velocity"}),
    "KerasAdam": ({"amsgrad": True}, {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
    "KerasAdamW": ({}, {"exp_avg", "exp_avg_sq"}),
    "KerasAdagrad": ({}, {"sum"}),
    "KerasAdamax": ({}, {"exp_avg", "exp_inf"}),
    "KerasNadam": ({}, {"exp_avg", "exp_avg_sq", "mu_product"}),
}
EPS = float(np.finfo(np.float64).eps)
each = pytest.mark.parametrize("name", SLOTS)


def parameters(n=2):
    rng = np.random.default_rng(1)
    return [torch.tensor(rng.normal(size=(3,)), requires_grad=True) for _ in range(n)]


def steps(n, missing=(), count=2):
    """Gradients of `n` steps; `missing` names (step, parameter) without one."""
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=(n, count, 3))
    return [[None if (t, i) in missing else g for i, g in enumerate(step)] for t, step in enumerate(drawn)]


def train(optimizer, ps, gradients):
    for step in gradients:
        for p, g in zip(ps, step, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
    return torch.stack([p.detach() for p in ps]).numpy()


def train_keras(optimizer, ps, gradients):
    variables = [keras.Variable(p.detach().numpy(), dtype="float64", name=f"v{i}") for i, p in enumerate(ps)]
    for step in gradients:
        optimizer.apply([None if g is None else tf.constant(g) for g in step], variables)
    return np.stack([v.numpy() for v in variables])


@each
def test_slots_have_torchs_names(name):
    arguments, expected = SLOTS[name]
    ps = parameters()
    optimizer = getattr(xcheck.optim, name)(ps, **arguments)
    train(optimizer, ps, steps(2))
    for p in ps:
        assert set(optimizer.state[p]) == expected | {"step"}
        assert int(optimizer.state[p]["step"]) == optimizer.iterations == 2


@each
def test_state_dict_carries_on(name):
    arguments, _ = SLOTS[name]
    make = getattr(xcheck.optim, name)
    ps, gradients = parameters(), steps(6)
    optimizer = make(ps, **arguments)
    train(optimizer, ps, gradients[:3])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = [p.detach().clone().requires_grad_() for p in ps]
    loaded = make(again, learning_rate=123.0, **arguments)
    loaded.load_state_dict(torch.load(file))
    np.testing.assert_array_equal(train(loaded, again, gradients[3:]), train(optimizer, ps, gradients[3:]))


def test_a_copy_keeps_clipping_and_schedule():
    ps = parameters()
    optimizer = xcheck.optim.KerasAdam(ps, lambda t: 0.1 / (t + 1), clipnorm=0.5)
    train(optimizer, ps, steps(2))
    twins, twin = copy.deepcopy((ps, optimizer))
    np.testing.assert_array_equal(train(twin, twins, steps(3)), train(optimizer, ps, steps(3)))


@each
def test_defaults_are_keras_defaults(name):
    theirs = inspect.signature(getattr(keras.optimizers, name.removeprefix("Keras"))).parameters
    torchs = inspect.signature(getattr(torch.optim, name.removeprefix("Keras").replace("Nadam", "NAdam"))).parameters
    mine = inspect.signature(getattr(xcheck.optim, name)).parameters
    own = {n: p.default for n, p in mine.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert own.keys() <= torchs.keys()  # the names are PyTorch's, whose class it is
    wanted = translated({n: p.default for n, p in theirs.items()}, {n: p.default for n, p in torchs.items()}, name)
    assert own.keys() - wanted.keys() == {"params"}
    assert own == {n: wanted.get(n, own["params"]) for n in own}


@pytest.mark.parametrize("name", ["Adam", "Nadam"])
def test_a_parameter_without_gradient_grows_older_as_in_keras(name):
    missing = {(0, 1), (2, 1), (3, 1), (4, 0)}
    gradients = steps(7, missing)
    ps = parameters()
    with float64_throughout(), pytest.warns(UserWarning, match="Gradients do not exist"):
        theirs = train_keras(getattr(keras.optimizers, name)(0.1), ps, gradients)
    mine = train(getattr(xcheck.optim, f"Keras{name}")(ps, 0.1), ps, gradients)
    # 7 steps of at most 0.3, each good to some tens of roundings; one step's age more or less moves 1e-3.
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1000 * EPS)


def test_a_group_without_decay_is_an_exclusion():
    ps, gradients = parameters(), steps(5)
    with float64_throughout():
        original = keras.optimizers.AdamW(0.1, weight_decay=0.3)
        original.exclude_from_weight_decay(var_names=["v1"])
        theirs = train_keras(original, ps, gradients)
    groups = [{"params": ps[:1]}, {"params": ps[1:], "weight_decay": None}]
    mine = train(xcheck.optim.KerasAdamW(groups, 0.1, weight_decay=0.3), ps, gradients)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1000 * EPS)


def test_a_function_sees_the_steps_already_taken():
    seen = []
    ps = parameters()
    optimizer = xcheck.optim.KerasSGD(ps, lambda t: seen.append(t) or 0.1)
    seen.clear()
    train(optimizer, ps, steps(3))
    assert seen == [0, 1, 2]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_closure():
    (p,) = parameters(1)
    optimizer = xcheck.optim.KerasSGD([p], 0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    assert optimizer.step(closure).item() == (before**2).sum().item()
    torch.testing.assert_close(p.detach(), torch.zeros_like(before), rtol=0, atol=0)


def test_no_gradient_at_all_changes_nothing():
    ps = parameters()
    before = [p.detach().clone() for p in ps]
    optimizer = xcheck.optim.KerasAdam(ps, clipnorm=1.0)
    optimizer.step()
    assert optimizer.iterations == 0
    torch.testing.assert_close([p.detach() for p in ps], before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("KerasSGD", {"clipnorm": 1.0, "clipvalue": 1.0}),
        ("KerasSGD", {"learning_rate": -1.0}),
        ("KerasSGD", {"momentum": 1.5}),
        ("KerasAdamW", {"weight_decay": None}),
    ],
)
def test_bad_arguments(name, arguments):
    with pytest.raises(BadInput, match=name):
        getattr(xcheck.optim, name)(parameters(), **arguments)


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="beta1"):
        xcheck.optim.KerasAdam(parameters(), beta1=0.9)


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(BadInput, match="dense"):
        xcheck.optim.KerasSGD(table.parameters()).step()
