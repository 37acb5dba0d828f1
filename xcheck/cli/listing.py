"""The command that lists the pairs under models/ and the phases of a check."""

from __future__ import annotations

import ast
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import shown
from ..pairs.loading import DEFAULT, load_pair, models_folder, named_pairs, pairs_in
from ..pairs.pair import Expectation
from ..pairs.scaffold import examples
from ..phases import PHASES


def show_pairs() -> None:
    """Print the pairs with their expected verdicts and variants."""
    if not named_pairs():
        print(f"No pairs under {models_folder().resolve()}. Write one with: xcheck new NAME")
        _show_examples()
        return
    table = _table("pair", "expected", "what it is")
    for name in named_pairs():
        loaded = load_pair(name)
        expected = loaded.expect.verdict.value if isinstance(loaded.expect, Expectation) else "EQUIVALENT"
        path = models_folder() / name / "pair.py"
        variants = [f":{variant}" for variant in pairs_in(path) if variant != DEFAULT]
        summary = _first_line(path) + (f" Also {', '.join(variants)}." if variants else "")
        table.add_row(*map(Text, map(shown, (name, expected, summary))))
    Console().print(table)
    _show_examples()


def _show_examples() -> None:
    table = _table("example", "what it is")
    for name, summary in examples().items():
        table.add_row(Text(name), Text(summary))
    print()
    Console().print(table)
    print("\nRun one with: xcheck example NAME")


def show_phases() -> None:
    """Print the phases in order, each with its question, its condition and its cost."""
    table = _table("phase", "question", "runs", "costs")
    for phase in PHASES:
        when = "on request" if phase.on_request else "if all before is equal" if phase.only_if_equal else "always"
        table.add_row(phase.name, phase.question, when, phase.cost)
    Console().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
