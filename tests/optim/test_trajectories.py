"""Every optimizer of xcheck.optim is, to rounding, the one it follows; the bound on rounding is derived here.

Both computations take the same gradients from the same weights, in float64: 200 steps, six decades, a learning
rate that falls in each step, decay. Let u = 2^-53 be the unit roundoff and EPS = 2u.

1. Weights. Both frameworks subtract at most twice from a weight in a step (decay, update), each time rounding it:
   2 frameworks * 2 * u|w|, and less than half of that for the decay's own roundings. Together 3 EPS |w| a step.
2. Updates. Let U_t be the update of step t with all terms of its numerator taken absolutely. Numerators (velocity,
   mean gradient) are sums of non-negative shares of the gradients, so U_t is what the original optimizer does when
   it is given |g| for g: `moves`. Up to step t an accumulator has been rounded at most 4 times a step (square,
   difference, product, sum), each time by at most u of its absolute sum; the numerator counts once, the
   denominator, under a root, half: 6t u. Putting the update together, the schedule's power included, takes at most
   16 more. Two frameworks: (6t + 16) EPS U_t.
3. Bias corrections. A power is good to 3u, so 1 - beta^t to 3u beta^t/(1 - beta^t). Two frameworks, two betas:
   3 EPS beta^t/(1 - beta^t) U_t for each beta.
4. Clipping to a norm. A sum of n squares is good to n*u, its root to half of that: n EPS U_t with a margin.
5. Centred RMSprop divides by sqrt(v - a^2), where roundings grow by (v + a^2)/(v - a^2): `centring` measures it.
6. Decay that goes into the gradient. h = g + wd*w is good to 2u a with a = |g| + wd|w|, so numerators are run on
   a, and denominators may be off by a/|h| at most, once. A difference dw of the weights comes back as wd*dw in h,
   which moves the update by at most 2 U_t wd*dw/|h|: over all steps a factor exp(sum of 2 U_t wd/|h|). For SGD,
   which is linear, it is exp(sum of 2 lr wd/(1 - momentum)) = exp(0.35) here. `feedback` computes both.

Errors of steps add up, since gradients are given and do not depend on the weights. Nothing here is fitted.
"""

import numpy as np
import pytest
import torch
from table_optimizers import (
    CASES,
    STEPS,
    Case,
    draw,
    flat,
    keras_rate,
    like_keras,
    like_torch,
    plain_keras,
    plain_torch,
    rate,
    run_keras,
    run_torch,
)

import xcheck.optim

EPS = float(np.finfo(np.float64).eps)
WEIGHTS, GRADIENTS = draw()
SIZES = np.array([flat(step) for step in GRADIENTS])

KERAS_ONLY = (
    Case("SGD, clipnorm", "SGD", "SGD", {"momentum": 0.9, "clipnorm": 1.0}, {"momentum": 0.9}),
    Case("Adam, clipvalue", "Adam", "Adam", {"epsilon": 1e-7, "clipvalue": 0.5}, {"eps": 1e-7}),
    Case("RMSprop, global_clipnorm", "RMSprop", "RMSprop", {"global_clipnorm": 1.0}, {"alpha": 0.9, "eps": 1e-7}),
)
TORCH_ONLY = (
    Case("SGD, dampening", "SGD", "SGD", {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}),
    Case("Adagrad, lr_decay", "Adagrad", "Adagrad", {}, {"lr_decay": 0.1, "eps": 1e-6}),
    Case("Adam, decoupled", "Adam", "Adam", {}, {"weight_decay": 1e-2, "decoupled_weight_decay": True}),
    Case("Nadam, decoupled", "Nadam", "NAdam", {}, {"weight_decay": 1e-2, "decoupled_weight_decay": True}),
)
EPSILON_LIKE = ("epsilon", "eps", "initial_accumulator_value", "clipnorm", "clipvalue", "global_clipnorm")
SHARES = ("momentum", "rho", "alpha", "beta_1", "beta_2", "dampening", "lr_decay")


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


class Once:
    """Runs that several tests ask for."""

    def __init__(self):
        self.paths = {}

    def __call__(self, kind, case, run):
        if (kind, case.name) not in self.paths:
            self.paths[kind, case.name] = run()
        return self.paths[kind, case.name]


once = Once()


def keras_path(case):
    return once("keras", case, lambda: run_keras(lambda: plain_keras(case), WEIGHTS, GRADIENTS))


def torch_path(case):
    return once("torch", case, lambda: run_torch(lambda ps: plain_torch(case, ps), WEIGHTS, GRADIENTS))


def without_decay(case):
    def rest(arguments):
        return {name: value for name, value in arguments.items() if name != "weight_decay"}

    decay = {"weight_decay": 0.0} if case.keras == "AdamW" else {}
    return Case(
        case.name, case.keras, case.torch, rest(case.keras_arguments) | decay, rest(case.torch_arguments) | decay
    )


def shaped(rows):
    """Rows of all gradients, back in their shapes."""
    splits = np.cumsum([w.size for w in WEIGHTS])[:-1]
    return [[part.reshape(w.shape) for part, w in zip(np.split(row, splits), WEIGHTS, strict=True)] for row in rows]


def absolute_moves(path):
    return np.abs(np.diff(path, axis=0))


def centring(gradients, share):
    """Largest (v + a^2)/(v - a^2) of the running means."""
    v, a, worst = 0.0, 0.0, 1.0
    for g in gradients:
        v, a = share * v + (1 - share) * g**2, share * a + (1 - share) * g
        worst = max(worst, float(((v + a**2) / (v - a**2)).max()))
    return worst


def decay_in_gradient(case):
    decoupled = case.torch == "AdamW" or case.torch_arguments.get("decoupled_weight_decay", False)
    return 0.0 if decoupled else case.torch_arguments.get("weight_decay", 0.0)


def feedback(case, path, moves, gradients):
    """The factor of point 6."""
    decay = decay_in_gradient(case)
    if case.torch == "SGD":
        rates = sum(rate(t) for t in range(STEPS))
        return np.exp(2 * rates * decay / (1 - case.torch_arguments.get("momentum", 0.0)))
    added = decay * np.abs(path[:-1])
    smallest = np.abs(gradients) - added
    assert (smallest > 0).all(), "the decay is too large for this bound"
    return ((np.abs(gradients) + added) / smallest).max() * np.exp((2 * moves * decay / smallest.min()).sum(axis=0))


def bound(case, path, moves, factor=1.0, clipped=False):
    """Largest rounding difference of each weight after each step: shape (STEPS, weights)."""
    arguments = case.keras_arguments
    t = np.arange(1, STEPS + 1)[:, None]
    roundings = 6.0 * t + 16 + (moves.shape[1] if clipped else 0)
    if case.keras in ("Adam", "AdamW", "Adamax", "Nadam"):
        for name, default in (("beta_1", 0.9), ("beta_2", 0.999)):
            power = arguments.get(name, default) ** t
            roundings = roundings + 3 * power / (1 - power)
    return np.cumsum(3 * EPS * np.abs(path).max() + EPS * roundings * moves, axis=0) * factor


def keras_bound(case):
    path, bare = keras_path(case), without_decay(case)
    moves = absolute_moves(
        once("keras, absolute", case, lambda: run_keras(lambda: plain_keras(bare), WEIGHTS, shaped(np.abs(SIZES))))
    )
    factor = centring(SIZES, case.keras_arguments["rho"]) if case.keras_arguments.get("centered") else 1.0
    return bound(case, path, moves, factor, clipped="norm" in case.name)


def torch_bound(case):
    path, bare = torch_path(case), without_decay(case)
    decay = decay_in_gradient(case)
    gradients = SIZES + decay * path[:-1]
    rows = np.abs(SIZES) + decay * np.abs(path[:-1])
    moves = absolute_moves(run_torch(lambda ps: plain_torch(bare, ps), WEIGHTS, shaped(rows)))
    factor = feedback(case, path, moves, SIZES)
    if case.torch_arguments.get("centered"):
        factor = factor * centring(gradients, case.torch_arguments["alpha"])
    return bound(case, path, moves, factor)


def excess(path, other, allowed):
    """Largest difference in units of the bound; above 1 it is not rounding."""
    assert np.isfinite(path).all()
    assert np.isfinite(allowed).all()
    return float((np.abs(path - other)[1:] / allowed).max())


def planted(arguments):
    """The arguments with one constant changed by about the least that a port could get wrong."""
    for name, value in arguments.items():
        if name in EPSILON_LIKE:
            yield name, arguments | {name: value * (1 + 1e-6)}
        elif name in SHARES:
            yield name, arguments | {name: value + 1e-7}
        elif name == "betas":
            yield "beta1", arguments | {name: (value[0] + 1e-7, value[1])}
            yield "beta2", arguments | {name: (value[0], value[1] + 1e-7)}
        elif name == "weight_decay":
            yield name, arguments | {name: value * (1 + 1e-3)}


@by_name(CASES + KERAS_ONLY)
def test_keras_in_torch_is_keras(case):
    mine = run_torch(lambda ps: like_keras(case, ps), WEIGHTS, GRADIENTS)
    assert excess(mine, keras_path(case), keras_bound(case)) <= 1


@by_name(CASES + TORCH_ONLY)
def test_torch_in_keras_is_torch(case):
    mine = once("like torch", case, lambda: run_keras(lambda: like_torch(case), WEIGHTS, GRADIENTS))
    assert excess(mine, torch_path(case), torch_bound(case)) <= 1


@by_name(CASES + KERAS_ONLY)
def test_plain_torch_is_not_keras(case):
    assert (excess(torch_path(case), keras_path(case), keras_bound(case)) > 1) is not case.same


@by_name(CASES)
def test_plain_keras_is_not_torch(case):
    assert (excess(keras_path(case), torch_path(case), torch_bound(case)) > 1) is not case.same


@by_name(CASES + KERAS_ONLY)
def test_a_planted_change_of_keras_in_torch_shows(case):
    for name, arguments in planted(case.keras_arguments):
        wrong = Case(case.name, case.keras, case.torch, arguments, {})
        other = run_torch(lambda ps, wrong=wrong: like_keras(wrong, ps), WEIGHTS, GRADIENTS)
        assert excess(other, keras_path(case), keras_bound(case)) > 1, name


@by_name(CASES + TORCH_ONLY)
def test_a_planted_change_of_torch_in_keras_shows(case):
    mine = once("like torch", case, lambda: run_keras(lambda: like_torch(case), WEIGHTS, GRADIENTS))
    allowed = torch_bound(case)
    for name, arguments in planted(case.torch_arguments):
        wrong = Case(case.name, case.keras, case.torch, {}, arguments)
        other = run_torch(lambda ps, wrong=wrong: plain_torch(wrong, ps), WEIGHTS, GRADIENTS)
        assert excess(mine, other, allowed) > 1, name


def test_max_norm_is_clip_grad_norm():
    case = Case("SGD, max_norm", "SGD", "SGD", {}, {"momentum": 0.9})

    def clipped(step):
        parameters = [torch.zeros(g.shape, dtype=torch.float64) for g in step]
        for parameter, g in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
        return [parameter.grad.numpy() for parameter in parameters]

    steps = [clipped(step) for step in GRADIENTS]
    path = run_torch(lambda ps: plain_torch(case, ps), WEIGHTS, steps)
    moves = absolute_moves(run_torch(lambda ps: plain_torch(case, ps), WEIGHTS, [[abs(g) for g in s] for s in steps]))
    allowed = bound(case, path, moves, clipped=True)

    def mine(**clip):
        make = xcheck.optim.TorchSGD
        return run_keras(lambda: make(keras_rate(), momentum=0.9, **clip), WEIGHTS, GRADIENTS)

    assert excess(mine(max_norm=1.0), path, allowed) <= 1
    assert excess(mine(global_clipnorm=1.0), path, allowed) > 1  # Keras's has no 1e-6


def test_a_torch_scheduler_and_a_function_give_the_same_steps():
    by_function = run_torch(
        lambda ps: xcheck.optim.KerasSGD(ps, rate, momentum=0.9), WEIGHTS, GRADIENTS, schedule=False
    )
    by_scheduler = run_torch(lambda ps: xcheck.optim.KerasSGD(ps, rate(0), momentum=0.9), WEIGHTS, GRADIENTS)
    np.testing.assert_allclose(by_function, by_scheduler, rtol=0, atol=STEPS * 100 * EPS * np.abs(by_function).max())
