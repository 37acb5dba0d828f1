"""The methods of a running side that matching uses."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from ..pairs.pair import Batch
from ..records.calls import Again, Calls, Inside, Swap, nowhere
from ..records.inventory import Inventory
from ..records.islands import Islands
from ..records.sides import SideName
from ..records.trace import Arrays, State


class Matchable(Protocol):
    """The methods of a running side that matching uses; see `frameworks.protocol.Runner`."""

    side: SideName
    islands: Islands

    def inventory(self) -> Inventory:
        """The parameters and buffers."""
        ...

    def read(self) -> State:
        """The current state, copied."""
        ...

    def write(self, state: State) -> None:
        """Set the values of the given state."""
        ...

    def snapshot(self) -> Any:
        """Everything `restore` needs."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        ...

    def calls(
        self, batch: Batch, *, swap: Swap | None = None, inside: Inside = nowhere, again: Again | None = None
    ) -> Calls:
        """Every call of one forward pass."""
        ...

    def infer(self, batch: Batch) -> Arrays:
        """The outputs that are compared."""
        ...

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """While the block runs, each rounded result has one more rounding error."""
        ...
