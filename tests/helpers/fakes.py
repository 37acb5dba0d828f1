"""Pairs, plans and steps without a framework, and faults that change exactly one place of a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import xcheck
from xcheck.frameworks.fake.runner import NumpyRunner, NumpySide
from xcheck.layouts import LAYOUTS
from xcheck.matching import Match, MatchPlan, Piece, plan_from_map
from xcheck.pairs.batches import batches_of
from xcheck.records.inventory import Entry, Inventory
from xcheck.records.trace import StepRecord
from xcheck.stepping.lockstep import StepPair, reference_steps, resynced

WEIGHT_MAP = {"linear.weight": "dense/kernel", "linear.bias": "dense/bias"}
DROPPED = object()
"""What the `change` of a fault returns to remove an entry of a mapping."""


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """Gaussian inputs (8, 3) and targets (8, 2), without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, 3)), rng.standard_normal((8, 2)))


def linear_pair(
    torch: Mapping[str, Any] | None = None, keras: Mapping[str, Any] | None = None, **options: Any
) -> xcheck.Pair:
    """The linear model on both sides; `torch` and `keras` go to the sides, `options` to the pair."""
    return xcheck.Pair(
        **{
            "name": "linear",
            "torch": NumpySide("torch", **(torch or {})),
            "keras": NumpySide("keras", **(keras or {})),
            "batches": batches,
            "weight_map": WEIGHT_MAP,
            **options,
        }
    )


def runner_of(pair: xcheck.Pair, side: str, seed: int = 0) -> NumpyRunner:
    return NumpyRunner(getattr(pair, side), precision="float64", device="cpu", seed=seed)


def plan_of(pair: xcheck.Pair) -> MatchPlan:
    inventories = (runner_of(pair, side).inventory() for side in ("torch", "keras"))
    return plan_from_map(*inventories, pair.weight_map, pair.reference)


def steps_of(pair: xcheck.Pair, steps: int = 1, seed: int = 0) -> tuple[MatchPlan, list[StepPair]]:
    """The plan of a pair and its re-synced steps."""
    plan = plan_of(pair)
    reference = runner_of(pair, plan.reference, seed)
    made = reference_steps(reference, batches_of(pair, seed, steps), precision="float64", seed=seed)
    return plan, list(resynced(made, runner_of(pair, plan.follower, seed), plan))


def changed(*where: str, change: Callable[[Any], Any], step: int | None = None) -> Callable[[StepRecord], StepRecord]:
    """A fault.

    Args:
        where: fields and keys that lead to the place, such as "after", "slots", "dense/bias", "momentum".
        change: the old value, None where there is none -> the new one.
        step: the only step with the fault; None for all.
    """
    return lambda record: record if step not in (None, record.step) else _at(record, where, change)


def scaled(*where: str, by: float = 1 + 1e-6, step: int | None = None) -> Callable[[StepRecord], StepRecord]:
    """A fault: one array times a factor."""
    return changed(*where, change=lambda array: array * by, step=step)


def dropped(*where: str, step: int | None = None) -> Callable[[StepRecord], StepRecord]:
    """A fault: one entry is gone."""
    return changed(*where, change=lambda _: DROPPED, step=step)


def both(*faults: Callable[[StepRecord], StepRecord]) -> Callable[[StepRecord], StepRecord]:
    """Several faults, one after the other."""

    def fault(record: StepRecord) -> StepRecord:
        for each in faults:
            record = each(record)
        return record

    return fault


def _at(value: Any, where: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    head, *rest = where
    old = value.get(head) if isinstance(value, Mapping) else getattr(value, head)
    new = _at(old if old is not None else {}, tuple(rest), change) if rest else change(old)
    if not isinstance(value, Mapping):
        return replace(value, **{head: new})
    return {k: v for k, v in value.items() if k != head} if new is DROPPED else {**value, head: new}


def entry(
    path: str, shape: tuple[int, ...], kind: str, *, object_: Any = None, storage: Any = None, **more: Any
) -> Entry:
    """An entry whose owner and role are read off its path; `object_` makes aliases, `storage` views."""
    separator = "/" if "/" in path else "."
    owner, _, role = path.rpartition(separator)
    identity = path if object_ is None else object_
    parts = {"dtype": "float64", "trainable": True, "buffer": False, "owner": owner, "role": role, **more}
    return Entry(
        path=path, shape=shape, kind=kind, identity=identity, storage=identity if storage is None else storage, **parts
    )


def plain(torch: str, keras: str, shape: tuple[int, ...] = (2,), *, buffer: bool = False) -> Match:
    """A match of one whole parameter with one whole parameter of the same layout."""
    pieces = (Piece((path,), shape, () if buffer else (path,)) for path in (torch, keras))
    return Match(*pieces, LAYOUTS["identity"], buffer=buffer)


def inventory(*entries: Entry) -> Inventory:
    return Inventory(entries)


def bad(result: xcheck.Result) -> list[tuple[str, int | None, str, str]]:
    """(phase, step, name, verdict) of every check that is not EQUIVALENT, in order."""
    return [(c.phase, c.step, c.name, c.verdict.value) for c in result.checks if c.verdict != "EQUIVALENT"]
