"""Places where a side leaves the precision of the run: casts to float32 that the code names itself.

Both worlds upcast to float32 by name in norms, softmax and rotary tables. In a float64 run that is a cast down, and
its rounding hides everything smaller than 1e-7. While a side runs, such casts are intercepted and kept in float64;
each is listed here with the layer that made it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Islands:
    """The intercepted casts of one side.

    Attributes:
        owner: names the layer that a frame's `self` is; None if it is no layer.
        found: (layer, operation) -> how often.
    """

    owner: Callable[[Any], str | None]
    found: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def add(self, operation: str) -> None:
        """Note an intercepted cast, with the innermost layer on the call stack."""
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        layer = None
        while frame is not None and layer is None:
            self_ = frame.f_locals.get("self")
            layer = self.owner(self_) if self_ is not None else None
            frame = frame.f_back
        key = (layer or "outside of any layer", operation)
        self.found[key] = self.found.get(key, 0) + 1

    def listing(self) -> list[Mapping[str, Any]]:
        """Plain data for a result's environment."""
        return [{"layer": layer, "operation": op, "count": n} for (layer, op), n in sorted(self.found.items())]

    def notes(self, side: str) -> list[str]:
        """One line per layer and operation."""
        return [
            f"float32_island: {side} {layer} casts to float32 ({op}); kept in float64 here"
            for layer, op in sorted(self.found)
        ]
