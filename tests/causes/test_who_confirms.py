"""Only `prove.py` confirms a cause; the families that still do so themselves are listed, and the list shrinks."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

CAUSES = Path(__file__).parents[2] / "xcheck" / "causes"

PROVE = "prove.py"

LEFT: dict[str, int] = {}
"""File -> how many causes it still confirms by itself."""


def confirming(source: str) -> int:
    """How many causes a file confirms by itself: by keyword, whatever the value but False, or by position."""
    found = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "confirmed":
            found += not (isinstance(node.value, ast.Constant) and node.value.value is False)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Cause":
            found += len(node.args) > 6
    return found


def test_nothing_else_confirms() -> None:
    found = Counter({str(f.relative_to(CAUSES)): confirming(f.read_text()) for f in CAUSES.rglob("*.py")})
    assert {name: n for name, n in found.items() if n and name != PROVE} == LEFT


def test_a_literal_is_seen() -> None:
    assert confirming("Cause('a', 'b', None, None, 's', confirmed=True)") == 1
    assert confirming("Cause('a', 'b', None, None, 's', {}, True, 'fix')") == 1
    assert confirming("Cause('a', 'b', None, None, 's', {}, confirmed=False)") == 0
