#!/usr/bin/env python
"""Measure how long matching without a map takes, and how it grows with the number of tensors.

    scripts/bench_matching.py                100 to 2,000 tensors
    scripts/bench_matching.py --most 500     up to 500

Both sides are chains of linear layers in NumPy, so that what is measured is matching and not a framework. The layers
have two widths by turns and names that say nothing. In `plain` the order of use is all it takes; in `difference` one
layer of the port computes something else, behind which the values must find the way again.

Exits with 1 if a parameter is matched wrongly.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from xcheck.matching import plan_by_value
from xcheck.pairs.pair import Batch
from xcheck.records.calls import Again, Call, Calls, Inside, Swap, nowhere
from xcheck.records.inventory import Entry, Inventory
from xcheck.records.islands import Islands
from xcheck.records.sides import SideName
from xcheck.records.trace import Array, Arrays, State

SIZES = (100, 200, 500, 1000, 2000)
WIDTHS = (8, 12)


class Chain:
    """Linear layers one after the other, as one side of a pair.

    Args:
        side: whose names and layouts it has.
        layers: how many; each has a weight and a bias.
        different: position of a layer that doubles what it makes; None for none.
    """

    def __init__(self, side: SideName, layers: int, different: int | None = None) -> None:
        self.side: SideName = side
        self.different = different
        self.islands = Islands(lambda _: None)
        numbers = np.random.default_rng(side == "keras").permutation(layers)
        self.names = [f"layer_{n}" if side == "torch" else f"m{n}" for n in numbers]
        rng = np.random.default_rng(1 + (side == "keras"))
        self.parameters: dict[str, Array] = {}
        for i, name in enumerate(self.names):
            shape = WIDTHS[i % 2], WIDTHS[(i + 1) % 2]
            kernel = rng.standard_normal(shape) / np.sqrt(shape[0])
            self.parameters[self.path(name, 0)] = kernel.T.copy() if side == "torch" else kernel
            self.parameters[self.path(name, 1)] = rng.standard_normal(shape[1])

    def path(self, name: str, which: int) -> str:
        """Of the weight (0) or the bias (1) of a layer."""
        return f"{name}.{('weight', 'bias')[which]}" if self.side == "torch" else f"{name}/{('kernel', 'bias')[which]}"

    def inventory(self) -> Inventory:
        kind, roles = ("Linear", ("weight", "bias")) if self.side == "torch" else ("Dense", ("kernel", "bias"))
        paths = [(name, roles[which], self.path(name, which)) for name in self.names for which in (0, 1)]
        return Inventory(
            tuple(
                Entry(path, self.parameters[path].shape, "float64", True, False, name, kind, role, path, path)
                for name, role, path in sorted(paths)
            )
        )

    def read(self) -> State:
        return State({path: array.copy() for path, array in self.parameters.items()})

    def write(self, state: State) -> None:
        self.parameters |= {path: np.array(array) for path, array in state.parameters.items()}

    def snapshot(self) -> Any:
        return dict(self.parameters)

    def restore(self, snapshot: Any) -> None:
        self.parameters = dict(snapshot)

    def calls(
        self, batch: Batch, *, swap: Swap | None = None, inside: Inside = nowhere, again: Again | None = None
    ) -> Calls:
        given = x = np.asarray(batch.inputs)
        made: list[Call] = []
        for i, name in enumerate(self.names):
            kernel, bias = (self.parameters[self.path(name, which)] for which in (0, 1))
            out = x @ (kernel.T if self.side == "torch" else kernel) + bias
            out = 2 * out if i == self.different else out
            kind = "Linear" if self.side == "torch" else "Dense"
            held = self.path(name, 0), self.path(name, 1)
            call = Call(i + 1, 0, name, kind, 1, {"0": x}, {"output": out}, held)
            made.append(call)
            others: Mapping[str, Array] | None = swap(call) if swap else None
            x = np.tanh(out if others is None else others["output"])
        return (*made, Call(0, None, "", "Model", 1, {"0": given}, {"output": x}))

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """Nothing is moved: both chains compute alike."""
        return nullcontext()

    def infer(self, batch: Batch) -> Arrays:
        """What the last layer makes."""
        return self.calls(batch)[-1].outputs


def measured(tensors: int, different: bool) -> tuple[float, int]:
    """Seconds that matching takes, and how many layers are matched wrongly."""
    layers = tensors // 2
    torch, keras = Chain("torch", layers), Chain("keras", layers, layers // 2 if different else None)
    batch = Batch(np.random.default_rng(0).standard_normal((2, WIDTHS[0])))
    started = time.perf_counter()
    plan = plan_by_value(torch, keras, batch)
    seconds = time.perf_counter() - started
    found = {(m.torch, m.keras) for m in plan.parameters}
    pairs = zip(torch.names, keras.names, strict=True)
    right = {(torch.path(a, which), keras.path(b, which)) for a, b in pairs for which in (0, 1)}
    return seconds, len(right - found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="tensors of the largest model")
    most = parser.parse_args().most
    table = Table(box=None, pad_edge=False)
    for column in ("tensors", "plain, s", "difference, s", "wrong"):
        table.add_column(column, justify="right")
    lost = 0
    for tensors in (n for n in SIZES if n <= most):
        (plain, a), (behind, b) = measured(tensors, False), measured(tensors, True)
        lost += a + b
        table.add_row(str(tensors), f"{plain:.2f}", f"{behind:.2f}", str(a + b))
    Console().print(table)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
