"""The Keras optimizers that follow PyTorch: state, configs, slices. The formulas are in test_trajectories.py."""

import inspect
import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from table_optimizers import torch_float64

import xcheck.optim
from xcheck.errors import BadInput
from xcheck.frameworks.keras.patches.precision import float64_throughout
from xcheck.optim.names import translated

SLOTS = {
    "TorchSGD": ({"momentum": 0.9, "dampening": 0.1}, ["_momentum_buffers"]),
    "TorchRMSprop": (
        {"momentum": 0.9, "centered": True},
        ["_velocities", "_average_gradients", "_momentum_buffers"],
    ),
    "TorchAdam": ({"amsgrad": True}, ["_momentums", "_velocities", "_velocity_hats"]),
    "TorchAdamW": ({}, ["_momentums", "_velocities"]),
    "TorchAdagrad": ({"lr_decay": 0.1}, ["_accumulators"]),
    "TorchAdamax": ({}, ["_m", "_u"]),
    "TorchNadam": ({}, ["_momentums", "_velocities", "_mu_products"]),
}
EPS = float(np.finfo(np.float64).eps)
# A few steps of at most 0.3, each good to some tens of roundings; what these tests look for moves 1e-3 and more.
ROUNDING = {"rtol": 0, "atol": 1000 * EPS}
each = pytest.mark.parametrize("name", SLOTS)


def original(name):
    return getattr(torch.optim, {"TorchNadam": "NAdam"}.get(name, name.removeprefix("Torch")))


def start(n=2):
    return np.random.default_rng(1).normal(size=(n, 3))


def steps(n, missing=(), count=2):
    """Gradients of `n` steps; `missing` names (step, variable) without one."""
    drawn = np.random.default_rng(2).normal(size=(n, count, 3))
    return [[None if (t, i) in missing else g for i, g in enumerate(step)] for t, step in enumerate(drawn)]


def variables(weights):
    return [keras.Variable(w, dtype="float64", name=f"v{i}") for i, w in enumerate(weights)]


def train(optimizer, variables, gradients):
    for step in gradients:
        optimizer.apply([None if g is None else tf.constant(g) for g in step], variables)
    return np.stack([v.numpy() for v in variables])


def train_torch(make, weights, gradients, max_norm=None):
    ps = [torch.tensor(w, requires_grad=True) for w in weights]
    optimizer = make(ps)
    for step in gradients:
        for p, g in zip(ps, step, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(ps, max_norm)
        optimizer.step()
    return torch.stack([p.detach() for p in ps]).numpy()


@each
def test_slots_have_keras_names(name):
    arguments, expected = SLOTS[name]
    optimizer = getattr(xcheck.optim, name)(**arguments)
    vs = variables(start())
    train(optimizer, vs, steps(2))
    for slot in expected:
        assert len(getattr(optimizer, slot)) == 2
    assert [int(step.numpy()) for step in optimizer._steps] == [2, 2]
    # iteration, learning rate, step and slots of two variables
    assert len(optimizer.variables) == 2 + 2 * (1 + len(expected))


@each
def test_saved_variables_and_config_carry_on(name):
    arguments, _ = SLOTS[name]
    optimizer = getattr(xcheck.optim, name)(lr=0.25, weight_decay=0.01, max_norm=9.0, **arguments)
    vs, gradients = variables(start()), steps(6)
    train(optimizer, vs, gradients[:3])
    store = {}
    optimizer.save_own_variables(store)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    others = variables([v.numpy() for v in vs])
    again.build(others)
    again.load_own_variables(store)
    np.testing.assert_array_equal(train(again, others, gradients[3:]), train(optimizer, vs, gradients[3:]))


def test_a_schedule_survives_the_config():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    optimizer = xcheck.optim.TorchAdam(schedule)
    again = xcheck.optim.TorchAdam.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert float(again.learning_rate) == float(optimizer.learning_rate)


def test_a_saved_model_keeps_its_optimizer(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile(xcheck.optim.TorchNadam(0.1), "mse")
    x, y = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for either in (model, again):
        either.train_on_batch(x, y)
    assert [int(step.numpy()) for step in again.optimizer._steps] == [2, 2]
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@each
def test_defaults_are_torchs_defaults(name):
    mine = inspect.signature(getattr(xcheck.optim, name)).parameters
    own = {n: p.default for n, p in mine.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    wanted = translated({n: p.default for n, p in inspect.signature(original(name)).parameters.items()}, own, name)
    left_out = {"params", "maximize", "foreach", "fused", "capturable", "differentiable"}
    assert wanted.keys() - own.keys() <= left_out | ({"decoupled_weight_decay"} if name == "TorchAdamW" else set())
    assert own == {n: wanted[n] for n in own}
    kerass = inspect.signature(getattr(keras.optimizers, name.removeprefix("Torch"))).parameters
    alone = {"dampening", "lr_decay", "momentum_decay", "decoupled_weight_decay"}  # Keras has none of these
    assert own.keys() - kerass.keys() <= alone  # the names are Keras's, whose class it is


@pytest.mark.parametrize("name", ["TorchAdam", "TorchNadam"])
def test_a_variable_without_gradient_stays_as_young_as_in_torch(name):
    gradients = steps(7, {(0, 1), (2, 1), (3, 1), (4, 0)})
    with torch_float64():  # NAdam keeps a slot in the default dtype
        theirs = train_torch(lambda ps: original(name)(ps, lr=0.1), start(), gradients)
    with float64_throughout(), pytest.warns(UserWarning, match="Gradients do not exist"):
        mine = train(getattr(xcheck.optim, name)(0.1), variables(start()), gradients)
    np.testing.assert_allclose(mine, theirs, **ROUNDING)


@pytest.mark.parametrize("name", ["TorchAdam", "TorchAdamW"])
def test_an_exclusion_is_a_group_without_decay(name):
    def grouped(ps):
        groups = [{"params": ps[:1]}, {"params": ps[1:], "weight_decay": 0.0}]
        return original(name)(groups, lr=0.1, weight_decay=0.3)

    theirs = train_torch(grouped, start(), steps(5))
    with float64_throughout():
        optimizer = getattr(xcheck.optim, name)(0.1, weight_decay=0.3)
        optimizer.exclude_from_weight_decay(var_names=["v1"])
        mine = train(optimizer, variables(start()), steps(5))
    np.testing.assert_allclose(mine, theirs, **ROUNDING)


def test_accumulated_gradients_are_one_step():
    gradients = steps(6)
    means = [
        [(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in zip(gradients[::2], gradients[1::2], strict=True)
    ]
    theirs = train_torch(lambda ps: torch.optim.Adam(ps, lr=0.1), start(), means)
    with float64_throughout():
        optimizer = xcheck.optim.TorchAdam(0.1, gradient_accumulation_steps=2)
        mine = train(optimizer, variables(start()), gradients)
    assert [int(step.numpy()) for step in optimizer._steps] == [3, 3]
    np.testing.assert_allclose(mine, theirs, **ROUNDING)


def test_a_row_used_twice_counts_with_its_whole_gradient():
    """Keras on TensorFlow squares an embedding's slices one by one; PyTorch squares their sum."""
    gradient = tf.IndexedSlices(tf.constant([[1.0], [1.0]], tf.float64), tf.constant([0, 0]), tf.constant([2, 1]))

    def row(optimizer):
        variable = keras.Variable(np.zeros((2, 1)), dtype="float64")
        optimizer.apply([gradient], [variable])
        return variable.numpy()[:, 0]

    with float64_throughout():
        mine, kerass = row(xcheck.optim.TorchAdam(0.1, eps=0.0)), row(keras.optimizers.Adam(0.1, epsilon=1e-30))
    np.testing.assert_allclose(mine[0], -0.1, **ROUNDING)
    np.testing.assert_allclose(kerass[0], -0.1 * np.sqrt(2), **ROUNDING)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("TorchSGD", {"lr": -1.0}),
        ("TorchSGD", {"weight_decay": -1.0}),
        ("TorchSGD", {"momentum": -1.0}),
        ("TorchSGD", {"nesterov": True}),
        ("TorchSGD", {"max_norm": -1.0}),
        ("TorchRMSprop", {"alpha": -1.0}),
        ("TorchAdagrad", {"lr_decay": -1.0}),
        ("TorchAdam", {"betas": (1.0, 0.9)}),
        ("TorchAdamax", {"eps": float("nan")}),
        ("TorchNadam", {"momentum_decay": -1.0}),
    ],
)
def test_bad_arguments(name, arguments):
    with pytest.raises(BadInput, match=name):
        getattr(xcheck.optim, name)(**arguments)


def test_a_misspelt_argument_is_refused():
    with pytest.raises(ValueError, match="epsilonn"):
        xcheck.optim.TorchAdam(epsilonn=1e-7)


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_other_backends(backend, tmp_path):
    pytest.importorskip(backend)
    code = """
        import json
        import sys
        import keras
        import numpy as np
        import xcheck.optim
        assert xcheck.optim.keras and sys.argv[1] in sys.modules and "tensorflow" not in sys.modules
        assert sys.argv[1] == "torch" or "torch" not in sys.modules
        given = np.load(sys.argv[2])
        found = {}
        for name, arguments in json.loads(sys.argv[4]).items():
            variables = [keras.Variable(w, dtype="float64") for w in given["weights"]]
            optimizer = getattr(xcheck.optim, name)(0.125, weight_decay=0.1, max_norm=1.0, **arguments)
            for step in given["gradients"]:
                optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], variables)
            found[name] = np.stack([keras.ops.convert_to_numpy(v) for v in variables])
        np.savez(sys.argv[3], **found)
    """
    gradients = steps(4)
    files = [tmp_path / "in.npz", tmp_path / "out.npz"]
    np.savez(files[0], weights=start(), gradients=np.array(gradients))
    arguments = {name: arguments for name, (arguments, _) in SLOTS.items()}
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), backend, *files, json.dumps(arguments)],
        env=os.environ | {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    found = np.load(files[1])
    assert {*found} == {*SLOTS}
    for name in SLOTS:

        def make(ps, name=name):
            return original(name)(ps, lr=0.125, weight_decay=0.1, **arguments[name])

        with torch_float64():
            theirs = train_torch(make, start(), gradients, max_norm=1.0)
        np.testing.assert_allclose(found[name], theirs, **ROUNDING)
