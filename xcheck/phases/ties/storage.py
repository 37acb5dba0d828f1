"""Which parameters share one storage, by effect: those that change when a different parameter is written.

Identity shows only what a framework declares as shared. Equal values show nothing: new zeros are always equal, and so
may be two layers with one initializer. So every parameter is set to its own random values, and those that read back
different values are then changed one at a time.
"""

from __future__ import annotations

import numpy as np

from ...frameworks.protocol import Runner
from ...records.inventory import Inventory
from ...records.trace import Array, State


def probed(runner: Runner) -> Inventory:
    """The inventory of a side, where parameters that change together are one storage; the state is restored.

    Args:
        runner: of the side.
    """
    start = runner.snapshot()
    rng = np.random.default_rng(0)

    def drawn(value: Array) -> Array:
        return np.asarray(rng.standard_normal(value.shape), value.dtype)

    try:
        written = {path: drawn(value) for path, value in runner.read().values().items() if value.dtype.kind == "f"}
        runner.write(State(written))
        read = runner.read().values()
        groups: list[list[str]] = []
        for path in [path for path, value in written.items() if not np.array_equal(read[path], value)]:
            before = runner.read().values()
            runner.write(State({path: drawn(written[path])}))
            after = runner.read().values()
            groups.append([path, *(other for other in written if not np.array_equal(before[other], after[other]))])
    finally:
        runner.restore(start)
    return runner.inventory().joined(groups)
