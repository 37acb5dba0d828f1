"""The call in the user's code that constructs an object: found while the object's `__init__` runs."""

from __future__ import annotations

import inspect
import sys
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

from ..pairs.user_code import PACKAGE, is_library
from ..records.sites import Site


def site_of(thing: object) -> Site | None:
    """The innermost call of a user's file that is not a method of `thing`; None if xcheck itself constructs it.

    Args:
        thing: under construction.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and (is_library(frame.f_code.co_filename) or _constructs(frame, thing)):
        if _of_xcheck(frame) and not _constructs(frame, thing):
            return None
        frame = frame.f_back
    if frame is None:
        return None
    place = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None, None, None, None))
    line, end_line, column, end_column = place
    if line is None or end_line is None or column is None or end_column is None:  # python -X no_debug_ranges
        return None
    kind: Any = type(thing)
    return Site(frame.f_code.co_filename, line, column, end_line, end_column, kind.__name__, _parameters(kind))


def _constructs(frame: FrameType, thing: object) -> bool:
    """Whether a frame is a method of the object, such as the `__init__` of a class of the user's own."""
    first = frame.f_code.co_varnames[:1]
    return bool(first) and frame.f_code.co_argcount > 0 and frame.f_locals.get(first[0]) is thing


def _of_xcheck(frame: FrameType) -> bool:
    """Whether a frame is one of xcheck, except of the patches that call `site_of`."""
    path = Path(frame.f_code.co_filename)
    return path.name != "construction.py" and path.is_relative_to(PACKAGE)


def _parameters(kind: type) -> dict[str, Any]:
    try:
        parameters = list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):
        return {}
    plain = (bool, int, float, str, type(None))
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p.default if isinstance(p.default, plain) else ... for p in named}
