"""What a Keras training step starts from and leaves behind, read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ...records.inventory import Holdings
from ...records.slots import AVERAGE
from ...records.store import Store
from ...records.trace import Array, State
from ..averages import Averages
from ..reachable import Saved
from .reachable import KerasTensors
from .variables import canonical, counters, inventory, slots, to_numpy, unwrapped, written_lr


def read(model: keras.Model, store: Store) -> State:
    """The variables of a model and the slots of its optimizer, as the store keeps them."""
    parameters: dict[str, Array] = {}
    buffers: dict[str, Array] = {}
    held = canonical(model)
    for place in held.values():
        (buffers if place.buffer else parameters)[place.path] = to_numpy(place.variable, store)
    optimizer = model.optimizer
    slots_of: dict[str, dict[str, Array]] = {}
    found = list(slots(optimizer))
    rate = written_lr(optimizer) if found else 0.0  # a schedule takes its time to compute one
    for held_slot in found:
        if id(held_slot.parameter) not in held:  # of an optimizer that was built before the model was changed
            continue
        stored: Any = keras.ops.convert_to_numpy(held_slot.variable)
        array = held_slot.slot.canonical(stored, rate)
        slots_of.setdefault(held[id(held_slot.parameter)].path, {})[held_slot.slot.role] = store.keep(array)
    updates = int(to_numpy(optimizer.iterations)) if optimizer is not None else 0
    return State(parameters, buffers, slots_of, updates, inventory(model).ties())


def write(model: keras.Model, state: State) -> None:
    """Set what the given state holds and leave the rest."""
    held = canonical(model)
    variables = {place.path: place.variable for place in held.values()}
    optimizer = model.optimizer
    for path, array in state.values().items():
        variables[path].assign(np.asarray(array))
    if not state.slots or optimizer is None:
        return
    for count in counters(optimizer):
        count.assign(state.updates)
    rate = written_lr(optimizer)
    for held_slot in slots(optimizer):
        place = held.get(id(held_slot.parameter))
        canonical_value = state.slots.get(place.path, {}).get(held_slot.slot.role) if place else None
        if canonical_value is not None:
            stored = held_slot.slot.stored(canonical_value, rate)
            if stored is not None:
                held_slot.variable.assign(stored)


def snapshot(model: keras.Model, store: Store, functions: Mapping[str, Any]) -> Saved:
    """Whatever a training step may change: of the model, its optimizer, and what the user's functions keep."""
    optimizer = model.optimizer
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else [])]
    return Saved({"model": model, "variables": variables, **functions}, KerasTensors(), store)


def averages_of(model: keras.Model, store: Store, functions: Mapping[str, Any]) -> Averages:
    """What finds the averages of the weights that a run keeps; the arguments are those of `snapshot`."""

    def known() -> tuple[list[Any], list[Any]]:
        found = list(slots(model.optimizer))
        others = [slot.variable for slot in found if slot.slot.role != AVERAGE]
        return [*model.variables, *others], [slot.variable for slot in found if slot.slot.role == AVERAGE]

    return Averages(lambda: {"model": model, **functions}, KerasTensors(), store, known)


def holdings(model: keras.Model) -> Holdings | None:
    """What the optimizer was built for; None where there is none, or before it is built."""
    optimizer = unwrapped(model.optimizer)
    if optimizer is None or not optimizer.built:
        return None
    paths = {key: place.path for key, place in canonical(model).items()}
    given = optimizer._trainable_variables
    orphans = tuple(tuple(v.shape) for v in given if id(v) not in paths)
    return Holdings(dict(Counter(paths[id(v)] for v in given if id(v) in paths)), orphans)
