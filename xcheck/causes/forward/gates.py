"""The order of the gates in the weights of a recurrent layer, told from the weights of both sides.

One weight map carries the weights over, so that the same gates have the same numbers, bit for bit; in which order they
stand is seen without computing anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...records.trace import Array, Arrays
from .forms import Problem, Setting

GATES = {"gru": ("update", "reset", "candidate"), "lstm": ("input", "forget", "candidate", "output")}
"""In the order of Keras."""

WEIGHTS = ("kernel", "recurrent", "bias")
"""What has an order of its own; that of the bias is also the second bias's."""

Orders = tuple[tuple[str, tuple[str, ...]], ...]
"""(name of a weight, its gates in the order in which they stand)."""


def in_order(array: Array, places: Sequence[int]) -> Array:
    """The blocks of the last axis in another order.

    Args:
        array: (..., gates * units).
        places: of each block that comes out.
    """
    parts = np.split(array, len(places), axis=-1)
    return np.concatenate([parts[i] for i in places], axis=-1)


def as_stored(torch: Problem, keras: Problem) -> tuple[Problem, Problem]:
    """Both problems, PyTorch's with its weights in the order in which Keras's stand, and an order that says so.

    Args:
        torch, keras: of one layer, or of several with numbered weights.
    """
    if torch.settings["kind"] != keras.settings["kind"]:
        return torch, keras
    names = GATES[torch.settings["kind"]]
    arrays, orders = dict(torch.arrays), dict[str, tuple[str, ...]]()
    for number in sorted({name.rpartition(" ")[2] for name in torch.arrays if name.startswith("kernel ")}):
        known: tuple[int, ...] | None = None
        for weight in WEIGHTS:
            places = _places(_whole(torch.arrays, weight, number), _whole(keras.arrays, weight, number), names, known)
            known = places if known is None else known
            orders[f"{weight} {number}"] = tuple(names[i] for i in places)
            for name in (weight, "second") if weight == "bias" else (weight,):
                if f"{name} {number}" in arrays:
                    arrays[f"{name} {number}"] = in_order(arrays[f"{name} {number}"], places)
    usual = dict.fromkeys(orders, names)
    return replace(torch.having({"order": tuple(orders.items())}), arrays=arrays), keras.having(
        {"order": tuple(usual.items())}
    )


def _whole(arrays: Arrays, weight: str, number: str) -> Array | None:
    """A weight; of biases their sum, where one side has two and the other their sum."""
    parts = [arrays.get(f"{name} {number}") for name in ((weight, "second") if weight == "bias" else (weight,))]
    kept = [part for part in parts if part is not None]
    return sum(kept[1:], kept[0]) if kept else None


def _places(
    array: Array | None, other: Array | None, names: Sequence[str], known: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Which block of the one each block of the other is; `known` where several would do, as for zeros."""
    usual = tuple(range(len(names)))
    if array is None or other is None or array.shape != other.shape:
        return known or usual
    every = itertools.permutations(usual)
    fitting = [places for places in every if np.array_equal(in_order(array, places), other)]
    return known if known in fitting else next(iter(fitting), usual)


def as_computed(arrays: Arrays, settings: Mapping[str, Any]) -> Arrays:
    """The weights with their gates in the order of Keras.

    Args:
        arrays: of a problem.
        settings: of it; without an order the weights are so already.
    """
    names = GATES[settings["kind"]]
    found = dict(arrays)
    for stored, order in settings.get("order", ()):
        weight, _, number = stored.rpartition(" ")
        for name in (weight, "second") if weight == "bias" else (weight,):
            if f"{name} {number}" in found:
                places = [order.index(gate) for gate in names]
                found[f"{name} {number}"] = in_order(found[f"{name} {number}"], places)
    return found


def _listed(orders: Orders) -> str:
    """One order if all have the same, else that of each weight."""
    told = {name: ", ".join(order) for name, order in orders}
    return told[orders[0][0]] if len({*told.values()}) == 1 else "; ".join(f"{n}: {words}" for n, words in told.items())


ORDER = Setting(
    "order",
    "gate_order",
    "the order of the gates in the weights",
    "convert the weights with their gates in the order {}",
    "convert the weights with their gates in the order {}, by a layout of the weight map",
    shown=_listed,
)
