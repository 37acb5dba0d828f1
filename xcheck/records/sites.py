"""Where the user's code constructs a layer, a loss or an optimizer, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPTIMIZER, LOSS = "(optimizer)", "(loss)"
"""Keys of `Sites` for the loss and the optimizer."""


@dataclass(frozen=True, slots=True)
class Site:
    """A call in a user's file that constructs an object.

    Attributes:
        file: absolute path.
        line, column, end_line, end_column: of the call; lines from 1, columns in bytes of UTF-8.
        kind: the class of the object.
        parameters: of its constructor, in order -> default; `...` if it is not a plain value.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    kind: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


Sites = Mapping[str, tuple[Site, ...]]
"""Path or name of a layer, `OPTIMIZER` or `LOSS` -> the calls that construct objects of this name."""
