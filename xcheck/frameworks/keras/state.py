"""What a Keras training step starts from and leaves behind, read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from ...records.inventory import Holdings
from ...records.store import Store
from ...records.trace import Array, State
from .optimizer import rates
from .variables import canonical, counters, inventory, slots, states_of, to_numpy, unwrapped, written_lr


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


def snapshot(model: keras.Model, store: Store) -> list[tuple[Any, Array]]:
    """Each variable of a model and its optimizer with its value; setting them goes back to it."""
    optimizer = model.optimizer
    states = [v for layer in model._flatten_layers() for v in states_of(layer)]
    held = [*model.variables, *states, *(optimizer.variables if optimizer is not None else [])]
    return [(v, to_numpy(v, store)) for v in held]


def holdings(model: keras.Model) -> Holdings | None:
    """What the optimizer was built for; None where there is none, or before it is built."""
    optimizer = unwrapped(model.optimizer)
    if optimizer is None or not optimizer.built:
        return None
    paths = {key: place.path for key, place in canonical(model).items()}
    given = optimizer._trainable_variables
    orphans = tuple(tuple(v.shape) for v in given if id(v) not in paths)
    return Holdings(dict(Counter(paths[id(v)] for v in given if id(v) in paths)), orphans, rates=rates(model))


@contextmanager
def unchanged(model: keras.Model) -> Generator[None]:
    """The buffers of a model have the values of before when the block ends: looking at it leaves it as it was."""
    held = [place.variable for place in canonical(model).values() if place.buffer]
    before = [to_numpy(variable) for variable in held]
    try:
        yield
    finally:
        for variable, value in zip(held, before, strict=True):
            if not np.array_equal(to_numpy(variable), value, equal_nan=value.dtype.kind == "f"):
                variable.assign(value)
