#!/usr/bin/env python
"""Let every pair of models/ run freely for 200 steps, and again with a learning rate that is slightly off.

    scripts/bench_free_run.py                 every pair that should be equal
    scripts/bench_free_run.py --variants      and the variants of each pair that should be equal
    scripts/bench_free_run.py --only siamese  those whose name has the word
    scripts/bench_free_run.py --steps 20      fewer steps
    scripts/bench_free_run.py --write         also write docs/free-run.md

Exits with 1 if an equal pair leaves its envelope, or if the learning rate that is off is not found.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import xcheck
from xcheck.pairs.loading import pairs_in

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "free-run.md"
OFF = 1e-4
"""Relative change of the learning rate that must be found."""
HEADER = ("pair", "steps", "verdict", "loss", "weights", "envelope", "rate off by 1e-4")


@dataclass(frozen=True)
class Row:
    """What one pair did.

    Attributes:
        name: of the pair.
        steps: that it ran freely.
        verdict: of the free run.
        loss, weights: largest error as a share of its allowance.
        envelope: the widest allowance.
        found: where a learning rate that is off was found; None where it was not, "" where there was none to
            change, or nothing that it trains.
    """

    name: str
    steps: int
    verdict: str
    loss: float
    weights: float
    envelope: float
    found: str | None

    @property
    def failed(self) -> bool:
        """The pair left its envelope, or the planted fault went unseen."""
        return self.verdict != "EQUIVALENT" or self.found is None

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        found = "NOT FOUND" if self.found is None else self.found or "nothing to change"
        measured = (f"{self.loss:.2g}", f"{self.weights:.2g}", f"{self.envelope:.1e}")
        return (self.name, str(self.steps), self.verdict, *measured, found)


def equal_pairs(only: Sequence[str] = (), *, variants: bool = False) -> dict[str, xcheck.Pair]:
    """Every pair under models/ that is not a negative control, by "folder" or, for a variant, "folder:ATTRIBUTE"."""
    found: dict[str, xcheck.Pair] = {}
    for path in sorted((ROOT / "models").glob("*/pair.py")):
        for attribute, pair in pairs_in(path).items():
            name = path.parent.name if attribute == "PAIR" else f"{path.parent.name}:{attribute}"
            wanted = (variants or attribute == "PAIR") and (not only or any(word in name for word in only))
            if pair.expect is None and wanted:
                found[name] = pair
    return found


class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose rates are slightly off."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def __call__(self, step: Any) -> Any:
        return self.schedule(step) * (1 + OFF)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule}


def with_rate_off(pair: xcheck.Pair) -> xcheck.Pair | None:
    """The pair with a Keras learning rate that is slightly off; None where it has no optimizer."""

    def off(optimizer: Any) -> Any:
        rate = optimizer._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            optimizer._learning_rate = Scaled(rate)
        else:
            optimizer.learning_rate = float(optimizer.get_config()["learning_rate"]) * (1 + OFF)
        return optimizer

    def build() -> Any:  # the model is compiled with its optimizer
        model = made()
        off(model.optimizer)
        return model

    made: Any = pair.keras.build
    optimizer: Any = pair.keras.optimizer
    if optimizer is not None:
        return replace(pair, keras=replace(pair.keras, optimizer=lambda: off(optimizer())))
    return replace(pair, keras=replace(pair.keras, build=build)) if pair.torch.optimizer is not None else None


def free_run(name: str, pair: xcheck.Pair, steps: int) -> Row:
    """One pair, left alone; then the same with the fault, first in the update and then left alone."""
    asked: dict[str, Any] = {"steps": 1, "precision": ("float64",), "device": "cpu"}
    result = xcheck.check(pair, free_steps=steps, phases=("trajectory",), **asked)
    ratios: dict[bool, float] = {True: 0.0, False: 0.0}
    for c in result.checks:
        loss = c.name == "total loss"
        ratios[loss] = max(ratios[loss], c.severity)
    ran = max((c.step or 0 for c in result.checks), default=0)
    envelope = max((c.allowed or 0.0 for c in result.checks), default=0.0)
    return Row(name, ran, str(result.verdict), ratios[True], ratios[False], envelope, _found(pair, steps, asked))


def _found(pair: xcheck.Pair, steps: int, asked: dict[str, Any]) -> str | None:
    wrong = with_rate_off(pair)
    if wrong is None:
        return ""
    places: list[str] = []
    for phases in (("gradient", "update"), ("trajectory",)):
        result = xcheck.check(wrong, free_steps=min(steps, 20), phases=phases, **asked)
        if any("nothing is trainable" in note for note in result.notes):
            return ""
        if result.first_divergence is not None:
            places.append(f"{result.first_divergence.phase} {result.first_divergence.step}")
    return ", ".join(places) or None


def rows_of(pairs: dict[str, xcheck.Pair], steps: int, console: Console) -> Iterator[Row]:
    """One row per pair, said as it is known."""
    for name, pair in pairs.items():
        started = time.perf_counter()
        row = free_run(name, pair, steps)
        console.print(f"{row.verdict} {name}, {time.perf_counter() - started:.0f} s", markup=False, highlight=False)
        yield row


def page(rows: Sequence[Row], steps: int) -> str:
    """The text of docs/free-run.md."""
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (HEADER, ("---",) * 7, *(r.cells() for r in rows)))
    return f"""# The free run

Every pair of `models/` that should be equal, {steps} steps in float64 from one state, never re-synced. Two runs that
are left alone part by rounding; the *envelope* is what rounding can explain, measured from perturbed twins of the
reference, and its largest width is in the table. *loss* and *weights* are the largest share of it that was used over
all steps. The last column says in which phase and step a Keras learning rate that is off by 1e-4 of itself is found:
with the updates compared, and by the free run alone.

```text
scripts/bench_free_run.py --write
```

{table}

Made with Keras {keras.__version__} on {keras.backend.backend()} and PyTorch {torch.__version__.split("+")[0]}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", action="append", default=[], help="a word; pairs that have it in their name")
    parser.add_argument("--variants", action="store_true", help="and the variants that should be equal")
    parser.add_argument("--write", action="store_true", help="write docs/free-run.md")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file of --write")
    given = parser.parse_args(arguments)
    console = Console()
    rows = list(rows_of(equal_pairs(given.only, variants=given.variants), given.steps, console))
    table = Table(title=f"{given.steps} free steps")
    for name in HEADER:
        table.add_column(name, no_wrap=name in ("pair", "verdict"))
    for row in rows:
        table.add_row(*map(escape, row.cells()))
    console.print(table)
    if given.write:
        given.page.write_text(page(rows, given.steps), encoding="utf-8")
    return 1 if not rows or any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
