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


def test_a_cause_that_is_in_no_code_is_seen() -> None:
    assert ids_of("| what | `no_such_cause`, `epsilon` | said |\n| a row of | two |\n") == ["no_such_cause", "epsilon"]
    assert "no_such_cause" not in words_of("causes")
