"""Formatting of numbers, paths and sentences, common to all renderers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from rich.cells import cell_len

from ..records.result import Check

NONE = "-"
ELLIPSIS = "..."


def number(value: float | None) -> str:
    """An error or an allowance: two significant digits, `-` for None."""
    if value is None:
        return NONE
    return f"{value:.2g}" if value == 0 or 0.01 <= abs(value) < 100 else f"{value:.1e}"


def severity(check: Check) -> float:
    """The severity of a check, with nan as infinity for sorting."""
    return math.inf if math.isnan(check.severity) else check.severity


def ratio(check: Check) -> str:
    """The error as a multiple of the allowance, such as `180x`; `-` where either has no number."""
    return times(severity(check)) if check.error is not None and check.allowed else NONE


def times(value: float) -> str:
    """A multiple with two significant digits, such as `0.4x`, `180x` or `1.8e+08x`; `-` for infinity."""
    if not math.isfinite(value):
        return NONE
    if 0 < value < 0.01:
        return "<0.01x"
    rounded = float(f"{value:.1e}")
    if rounded < 1:
        return f"{rounded:.2g}x"
    if rounded < 10:
        return f"{rounded:.1f}x"
    return f"{rounded:.0f}x" if rounded < 1e5 else f"{value:.1e}x"


def two_values(torch: float | None, keras: float | None) -> tuple[str, str]:
    """Two values with two digits more than needed to distinguish them."""
    if torch is None or keras is None:
        return _value(torch), _value(keras)
    digits = next((d for d in range(4, 18) if f"{torch:.{d}g}" != f"{keras:.{d}g}"), 4)
    digits = min(digits + 2, 17)
    return f"{torch:.{digits}g}", f"{keras:.{digits}g}"


def _value(value: float | None) -> str:
    return NONE if value is None else f"{value:.6g}"


def index(value: tuple[int, ...]) -> str:
    """An element's index, such as `[3, 0, 1]`."""
    return f"[{', '.join(map(str, value))}]"


def one_line(text: str) -> str:
    """Text on one line, with every control character escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def many_lines(text: str) -> str:
    """Like `one_line` for each line of a text, without trailing blanks."""
    return "\n".join(one_line(line.replace("\t", "    ")).rstrip() for line in text.strip("\n").split("\n"))


def _escaped(char: str) -> str:
    return " " if char.isspace() else char.encode("unicode_escape").decode()


def cut(text: str, width: int) -> str:
    """The text in at most `width` terminal columns; a longer text loses its middle, never its end."""
    if cell_len(text) <= width:
        return text
    if width <= len(ELLIPSIS):
        return ELLIPSIS[:width]
    room = width - len(ELLIPSIS)
    return _fit(text, room * 2 // 5) + ELLIPSIS + _fit(text[::-1], room - room * 2 // 5)[::-1]


def _fit(text: str, width: int) -> str:
    used, length = 0, 0
    for char in text:
        used += cell_len(char)
        if used > width:
            break
        length += 1
    return text[:length]


def count(number: int, thing: str) -> str:
    """`1 step`, `5 steps`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def plain(value: Any) -> str:
    """Any value of an evidence or environment table, on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return NONE
    return one_line(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def rows(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A table as lines of text; a table inside it becomes lines named `outer.inner`."""
    lines: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            inner = rows(cast(Mapping[str, Any], value))
            lines += [(f"{one_line(str(key))}.{name}", text) for name, text in inner]
        else:
            lines.append((one_line(str(key)), plain(cast(Any, value))))
    return lines
