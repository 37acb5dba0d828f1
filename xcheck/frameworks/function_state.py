"""State that the functions of a side keep in closures, defaults, globals and classes, separate for each run.

A check runs a side several times: in float64 and in float32, the free run and its twins. All of them call the same
functions, so their state would be that of the latest run. Each run starts from the state before any of them, and
continues with its own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from .reachable import Saved, Tensors, functions


class FunctionState:
    """State of a side's functions for one run.

    Args:
        run: the runner of a side; its model and its optimizer are not part of this state.
        tensors: of the framework.
    """

    _first: ClassVar[dict[int, tuple[Any, Saved]]] = {}
    _inside: ClassVar[dict[int, FunctionState]] = {}
    _open: ClassVar[Counter[int]] = Counter()

    def __init__(self, run: Any, tensors: Tensors) -> None:
        self._run, self._tensors = run, tensors
        self._declared = declared = run.declared
        self._roots = functions(declared)
        self._left: Saved | None = None
        if not self._roots:
            return
        before = self._inside.pop(id(declared), None)
        if before is not None:
            before._leave()
        known = self._first.get(id(declared))
        if known is None or known[0] is not declared:  # the id was that of a different side
            self._first[id(declared)] = declared, self._saved()
        else:
            known[1].restore()
        self._inside[id(declared)] = self
        self._open[id(declared)] += 1

    def enter(self) -> None:
        """Restore the state that this run left."""
        if not self._roots or self._inside.get(id(self._declared)) is self:
            return
        before = self._inside.get(id(self._declared))
        if before is not None:
            before._leave()
        if self._left is not None:
            self._left.restore()
        self._left = None
        self._inside[id(self._declared)] = self

    def close(self) -> None:
        """Forget this run; after the last run, restore the state before the first."""
        key = id(self._declared)
        if not self._open[key]:
            return
        if self._inside.get(key) is self:
            del self._inside[key]
            self._first[key][1].restore()
        self._left, self._open[key] = None, self._open[key] - 1
        if not self._open[key]:
            del self._first[key], self._open[key]

    def _leave(self) -> None:
        self._left = self._saved()

    def _saved(self) -> Saved:
        attributes = vars(self._run)
        model_state = Saved(
            {"": [attributes.get("model", self._declared.build), attributes.get("optimizer")]},
            self._tensors,
            attributes["store"],
        )
        return Saved(self._roots, self._tensors, attributes["store"], model_state.ids())
