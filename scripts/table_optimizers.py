#!/usr/bin/env python
"""Write docs/optimizers.md: how far the two frameworks' optimizers part, and that xcheck.optim closes the gap.

    scripts/table_optimizers.py            write the file
    scripts/table_optimizers.py --check    exit 1 if the file says something else, to an order of magnitude

The same cases and runs serve tests/optim.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import torch

import xcheck.optim
from xcheck.frameworks.keras.patches.precision import float64_throughout

PAGE = Path(__file__).resolve().parents[1] / "docs" / "optimizers.md"
STEPS = 200
SHAPES = ((3, 4), (2, 1, 4), ())
START_RATE, RATE_DECAY = 0.02, 0.99
ROUNDING = 1e-11
"""Two differences of the table that are both below this are the same: rounding, which depends on the machine."""

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """One optimizer with equal hyperparameters in both frameworks.

    `keras` and `torch` name the class; the arguments are each framework's own. Epsilon, decay and start values
    are chosen large enough to show in 200 steps; a decay that goes into the gradient stays well below the
    smallest gradient, see tests/optim/test_trajectories.py.
    """

    name: str
    keras: str
    torch: str
    keras_arguments: dict[str, Any] = field(default_factory=dict)
    torch_arguments: dict[str, Any] = field(default_factory=dict)
    same: bool = False
    """The two frameworks compute the same here."""


ADAM = ({"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}, {"betas": (0.9, 0.999), "eps": 1e-7})
SMALL_DECAY = {"weight_decay": 1e-7}

CASES = (
    Case("SGD", "SGD", "SGD", {"weight_decay": 1e-2}, {"weight_decay": 1e-2}, same=True),
    Case("SGD, momentum", "SGD", "SGD", {"momentum": 0.9}, {"momentum": 0.9}),
    Case(
        "SGD, Nesterov, decay",
        "SGD",
        "SGD",
        {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
    ),
    Case("RMSprop", "RMSprop", "RMSprop", {"rho": 0.9, "epsilon": 1e-7}, {"alpha": 0.9, "eps": 1e-7}),
    Case(
        "RMSprop, centered, momentum, decay",
        "RMSprop",
        "RMSprop",
        {"rho": 0.9, "epsilon": 1e-7, "momentum": 0.9, "centered": True, **SMALL_DECAY},
        {"alpha": 0.9, "eps": 1e-7, "momentum": 0.9, "centered": True, **SMALL_DECAY},
    ),
    Case("Adam", "Adam", "Adam", *ADAM),
    Case(
        "Adam, AMSGrad, decay",
        "Adam",
        "Adam",
        ADAM[0] | SMALL_DECAY | {"amsgrad": True},
        ADAM[1] | SMALL_DECAY | {"amsgrad": True},
    ),
    Case("AdamW", "AdamW", "AdamW", ADAM[0] | {"weight_decay": 1e-2}, ADAM[1] | {"weight_decay": 1e-2}),
    Case(
        "Adagrad, decay",
        "Adagrad",
        "Adagrad",
        {"initial_accumulator_value": 1e-6, "epsilon": 1e-6, **SMALL_DECAY},
        {"initial_accumulator_value": 1e-6, "eps": 1e-6, **SMALL_DECAY},
    ),
    Case("Adamax, decay", "Adamax", "Adamax", ADAM[0] | SMALL_DECAY, ADAM[1] | SMALL_DECAY),
    Case("Nadam, decay", "Nadam", "NAdam", ADAM[0] | SMALL_DECAY, ADAM[1] | SMALL_DECAY),
)


def draw(seed: int = 0) -> tuple[Arrays, list[Arrays]]:
    """Start weights, and gradients over six decades with random signs for every step."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=shape) for shape in SHAPES]
    gradients = [
        [10 ** rng.uniform(-5, 1, shape) * rng.choice([-1.0, 1.0], shape) for shape in SHAPES] for _ in range(STEPS)
    ]
    return weights, gradients


def rate(step: int) -> float:
    """Learning rate after `step` steps."""
    return START_RATE * RATE_DECAY**step


def keras_rate() -> Any:
    """The same as Keras's schedule."""
    return keras.optimizers.schedules.ExponentialDecay(START_RATE, decay_steps=1, decay_rate=RATE_DECAY)


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in arrays])


@contextmanager
def torch_float64() -> Iterator[None]:
    """PyTorch's default float, which its optimizers keep scalar slots in, is float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def run_torch(
    make: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    weights: Arrays,
    gradients: list[Arrays],
    schedule: bool = True,
) -> np.ndarray:
    """All weights in a row, before the first and after each step: shape (steps + 1, weights).

    Args:
        make: optimizer of parameters; its learning rate must be `START_RATE` if `schedule`.
        weights: where to start.
        gradients: of each step.
        schedule: lower the rate through PyTorch's own scheduler.
    """
    with torch_float64():
        parameters = [torch.tensor(w, requires_grad=True) for w in weights]
        optimizer = make(parameters)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, RATE_DECAY) if schedule else None
        path = [flat(weights)]
        for step in gradients:
            for parameter, g in zip(parameters, step, strict=True):
                parameter.grad = torch.tensor(g)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            path.append(flat([p.detach().numpy() for p in parameters]))
    return np.array(path)


def run_keras(make: Callable[[], Any], weights: Arrays, gradients: list[Arrays], exactly: bool = True) -> np.ndarray:
    """The same for a Keras optimizer, compiled as `fit` would.

    Args:
        make: the optimizer.
        weights: where to start.
        gradients: of each step.
        exactly: in float64 throughout; otherwise as Keras does it when only the variables are float64.
    """
    with float64_throughout() if exactly else nullcontext():
        optimizer = make()
        variables = [keras.Variable(w, dtype="float64") for w in weights]
        optimizer.build(variables)

        @tf.function
        def take_steps(*given: Any) -> Any:
            path = tf.TensorArray(tf.float64, size=len(gradients))
            for t in tf.range(len(gradients)):
                optimizer.apply([g[t] for g in given], variables)
                path = path.write(t, tf.concat([tf.reshape(v.value, [-1]) for v in variables], 0))
            return path.stack()

        path = take_steps(*[tf.stack(of_one) for of_one in zip(*gradients, strict=True)])
    return np.concatenate([flat(weights)[None], path.numpy()])


def plain_keras(case: Case) -> Any:
    return getattr(keras.optimizers, case.keras)(keras_rate(), **case.keras_arguments)


def plain_torch(case: Case, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    return getattr(torch.optim, case.torch)(parameters, lr=START_RATE, **case.torch_arguments)


def like_keras(case: Case, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    make = getattr(xcheck.optim, f"Keras{case.keras}")
    return make(parameters, START_RATE, **case.keras_arguments)


def like_torch(case: Case) -> Any:
    return getattr(xcheck.optim, f"Torch{case.keras}")(keras_rate(), **case.torch_arguments)


Row = tuple[str, float, float, float, float]


def measure() -> list[Row]:
    """One row per case: name, then the largest differences of a weight that the page explains."""
    weights, gradients = draw()
    rows = []
    for case in CASES:
        in_keras = run_keras(lambda case=case: plain_keras(case), weights, gradients)
        in_torch = run_torch(lambda ps, case=case: plain_torch(case, ps), weights, gradients)
        as_keras = run_torch(lambda ps, case=case: like_keras(case, ps), weights, gradients)
        as_torch = run_keras(lambda case=case: like_torch(case), weights, gradients)
        plain = np.abs(in_keras - in_torch).max(axis=1)
        closed = np.abs(as_keras - in_keras).max(), np.abs(as_torch - in_torch).max()
        rows.append((case.name, plain[1], plain[STEPS], *closed))
    return rows


HEADER = ("optimizer", "plain, 1 step", f"plain, {STEPS} steps", "Keras's in PyTorch", "PyTorch's in Keras")


def page(rows: Sequence[Row]) -> str:
    """The file's text."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    lines += ["| " + " | ".join([name, *(f"{x:.0e}" for x in numbers)]) + " |" for name, *numbers in rows]
    table = "\n".join(lines)
    return f"""# The same optimizer in both frameworks

PyTorch and Keras call different formulas by the same name: epsilon stands in another place, the decay goes
another way, a momentum has another unit. `xcheck.optim` has each framework's formulas for the other one:
`xcheck.optim.KerasAdam` is a PyTorch optimizer that steps as Keras's Adam does, `xcheck.optim.TorchAdam` a Keras
optimizer that steps as PyTorch's. What differs, and both formulas, stand in the classes' docstrings.
Arguments have the names of the framework whose class it is: `lr`, `betas` and `eps` in a PyTorch optimizer,
`learning_rate`, `beta_1`, `beta_2` and `epsilon` in a Keras one. By keyword the other framework's names do as well.

The table gives the largest difference of any weight after both have taken the same gradients, from the same
weights, in float64. Gradients are drawn over six decades, 1e-5 to 10, with random signs; the learning rate starts
at {START_RATE:g} and falls by a hundredth in each step. The weights are about 1.

- *plain*: `torch.optim` against `keras.optimizers`, hyperparameters equal.
- *Keras's in PyTorch*: `xcheck.optim.Keras...` against `keras.optimizers`, at the worst of {STEPS} steps.
- *PyTorch's in Keras*: `xcheck.optim.Torch...` against `torch.optim`, likewise.

{table}

SGD is the one optimizer that both frameworks compute alike. With momentum it parts once the learning rate
changes; 1e-14 and less is rounding.

Three things that this table leaves out, each measured by a test:

- Keras runs in float64 throughout here. On its own it rounds constants through float32, which moves Adam's weights
  by 1e-6 in 20 steps (`tests/optim/test_float32_constants.py`). So does PyTorch with one slot of NAdam, unless
  its default dtype is float64.
- On TensorFlow the gradient of an embedding comes in slices, one for each use of a row, and Keras's adaptive
  optimizers square them one by one. A row that a batch uses n times has a step of up to sqrt(n) times PyTorch's.
  The optimizers here sum the slices first (`tests/optim/test_like_torch.py`).
- A parameter without a gradient in some step: PyTorch's step count for it stands still, Keras's goes on. Each
  optimizer here does as the one it follows.

Made by `scripts/table_optimizers.py` with Keras {keras.__version__} and PyTorch {torch.__version__.split("+")[0]};
`--check` compares this file with a fresh run, to an order of magnitude.
"""


def read(text: str) -> list[Row]:
    """The rows of a page."""
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [(cells[0].strip(), *map(float, cells[1:])) for cells in table[1:]]  # pyright: ignore


def changed(old: Sequence[Row], new: Sequence[Row]) -> list[str]:
    """What differs by more than an order of magnitude, in words; empty if nothing."""
    if [row[0] for row in old] != [row[0] for row in new]:
        return [f"rows: {[row[0] for row in old]} on disk, {[row[0] for row in new]} now"]
    found = []
    for before, now in zip(old, new, strict=True):
        for column, a, b in zip(HEADER[1:], before[1:], now[1:], strict=True):
            if max(a, b) >= ROUNDING and (min(a, b) == 0 or abs(math.log10(a / b)) > 1):
                found.append(f"{now[0]}, {column}: {a:.0e} on disk, {b:.0e} now")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of date")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file (default: docs/optimizers.md)")
    given = parser.parse_args(arguments)
    rows = measure()
    if not given.check:
        given.page.parent.mkdir(exist_ok=True)
        given.page.write_text(page(rows), encoding="utf-8")
        return 0
    old = read(given.page.read_text(encoding="utf-8")) if given.page.exists() else []
    found = changed(old, rows)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
