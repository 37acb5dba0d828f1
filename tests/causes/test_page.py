"""The page of the causes names nothing that the code does not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from xcheck.records.cause_ids import CAUSES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "causes.md"


def ids_of(page: str) -> list[str]:
    """What the middle column of the tables with three columns has between backticks."""
    rows = (line.strip("|").split("|") for line in page.splitlines() if line.startswith("| "))
    return [name for row in rows if len(row) == 3 for name in re.findall(r"`(\w+)`", row[1])]


def words_of(*folders: str) -> set[str]:
    """Every string of the code there."""
    files = [path for folder in folders for path in (ROOT / "xcheck" / folder).rglob("*.py")]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_cause_of_the_page_is_in_the_code() -> None:
    found = ids_of(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 90
    assert len(set(found)) == len(found)
    assert set(found) - words_of("causes", "onnx", "phases") == set()


def test_every_cause_that_may_be_accepted_is_in_the_code_and_every_one_of_the_page_may() -> None:
    assert set(ids_of(PAGE.read_text(encoding="utf-8"))) - set(CAUSES) == set()
    assert set(CAUSES) - words_of("causes", "onnx", "phases") == set()
    assert len(set(CAUSES)) == len(CAUSES)


def ids_in(source: str) -> set[str]:
    """The ids that a file writes out where it makes a cause, a setting of a form or a difference of recipes."""
    places = {"Cause": (0, "id"), "Setting": (1, "cause"), "Difference": (0, "id")}
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in places):
            continue
        at, name = places[node.func.id]
        named = next((word.value for word in node.keywords if word.arg == name), None)
        value = node.args[at] if named is None and len(node.args) > at else named
        either = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
        found |= {v.value for v in either if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    return found


def test_every_cause_that_the_code_makes_may_be_accepted() -> None:
    made = {i for f in (ROOT / "xcheck").rglob("*.py") for i in ids_in(f.read_text(encoding="utf-8"))}
    assert len(made) > 60
    assert made - set(CAUSES) == set()


def test_every_cause_that_may_be_accepted_is_on_the_page() -> None:
    assert set(CAUSES) - set(ids_of(PAGE.read_text(encoding="utf-8"))) == set()


def test_an_id_that_the_code_alone_has_is_seen() -> None:
    assert ids_in("Setting('n', 'one')\nCause(id='two' if x else 'three')\nDifference(cause)") == {
        "one",
        "two",
        "three",
    }


def test_a_cause_that_is_in_no_code_is_seen() -> None:
    assert ids_of("| what | `no_such_cause`, `epsilon` | said |\n| a row of | two |\n") == ["no_such_cause", "epsilon"]
    assert "no_such_cause" not in words_of("causes")
