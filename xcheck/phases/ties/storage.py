"""Which parameters are one storage, by effect: who moves when another one is changed.

Identity tells what a framework says is shared. Values tell nothing: freshly built zeros are always equal, and two
layers that were given one initializer may be. So every parameter gets random values of its own, and those that read
back what another one was given are changed one at a time.
"""

from __future__ import annotations

import numpy as np

from ...frameworks.protocol import Runner
from ...records.inventory import Inventory
from ...records.trace import Array, State


def probed(runner: Runner) -> Inventory:
    """The inventory of a side, where what moves together is one storage; the state stays as it is.

    Args:
        runner: of the side.
    """
    start = runner.snapshot()
    rng = np.random.default_rng(0)

    def drawn(value: Array) -> Array:
        return np.asarray(rng.standard_normal(value.shape), value.dtype)

    try:
        given = {path: drawn(value) for path, value in runner.read().values().items() if value.dtype.kind == "f"}
        runner.write(State(given))
        read = runner.read().values()
        groups: list[list[str]] = []
        for path in [path for path, value in given.items() if not np.array_equal(read[path], value)]:
            before = runner.read().values()
            runner.write(State({path: drawn(given[path])}))
            after = runner.read().values()
            groups.append([path, *(other for other in given if not np.array_equal(before[other], after[other]))])
    finally:
        runner.restore(start)
    return runner.inventory().joined(groups)
