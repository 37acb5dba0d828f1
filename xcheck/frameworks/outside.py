"""What the functions of a side keep, in closures, defaults, globals and classes: each run of the side has its own.

A check runs a side several times over: in float64 and in float32, the free run and its twins. All of them call the
same functions, so what these keep would be what the run that came last has left. Each run finds it as it was before
any of them, and from then on as it left it itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from ..records.store import Store
from .reachable import Saved, Tensors, functions


class Outside:
    """What is kept outside of what one run was built with.

    Args:
        declared: the side.
        tensors: of the framework.
        store: keeps the values.
        own: () -> what the run was built with, which no other run changes; None before it is built.
    """

    _first: ClassVar[dict[int, tuple[Any, Saved]]] = {}
    _inside: ClassVar[dict[int, Outside]] = {}
    _open: ClassVar[Counter[int]] = Counter()

    def __init__(self, declared: Any, tensors: Tensors, store: Store, own: Callable[[], Any]) -> None:
        self._declared, self._tensors, self._store, self._own = declared, tensors, store, own
        self._roots = functions(declared)
        self._left: Saved | None = None
        if not self._roots:
            return
        before = self._inside.pop(id(declared), None)
        if before is not None:
            before._leave()
        known = self._first.get(id(declared))
        if known is None or known[0] is not declared:  # an id that was another side's
            self._first[id(declared)] = declared, self._saved()
        else:
            known[1].restore()
        self._inside[id(declared)] = self
        self._open[id(declared)] += 1

    def enter(self) -> None:
        """Find what is kept as this run left it."""
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
        """Hold nothing of this run; after the last one, what is kept is as it was before the first."""
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
        own = Saved({"": self._own()}, self._tensors, self._store)
        return Saved(self._roots, self._tensors, self._store, own.ids())
