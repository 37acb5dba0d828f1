"""What a Keras training step starts from and leaves behind, read and written."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

from ...records.inventory import Holdings
from ...records.store import Store
from ...records.trace import Array, State
from ..optimizers import is_known
from .optimizers import doubled, optimizers_of, slots_of
from .variables import canonical, counters, inventory, to_numpy, unwrapped


def read(model: keras.Model, store: Store) -> State:
    """The variables of a model and the slots of its optimizer, as the store keeps them."""
    parameters: dict[str, Array] = {}
    buffers: dict[str, Array] = {}
    held = canonical(model)
    for place in held.values():
        (buffers if place.buffer else parameters)[place.path] = to_numpy(place.variable, store)
    optimizer = model.optimizer
    kept: dict[str, dict[str, Array]] = {}
    for path, held_slot, rate in slots_of(model):
        stored: Any = keras.ops.convert_to_numpy(held_slot.variable)
        array = held_slot.slot.canonical(stored, rate)
        kept.setdefault(path, {})[held_slot.slot.role] = store.keep(array)
    updates = int(to_numpy(optimizer.iterations)) if optimizer is not None else 0
    guessed = bool(doubled(model)) or any(not is_known(unwrapped(o), "keras.") for o in optimizers_of(model))
    return State(parameters, buffers, kept, updates, inventory(model).ties(), guessed)


def write(model: keras.Model, state: State) -> None:
    """Set what the given state holds and leave the rest."""
    held = canonical(model)
    variables = {place.path: place.variable for place in held.values()}
    optimizer = model.optimizer
    for path, array in state.values().items():
        variables[path].assign(np.asarray(array))
    if not state.slots or optimizer is None:
        return
    if len(optimizers_of(model)) == 1:  # several count for themselves: the other side may have one for them all
        for count in counters(optimizer):
            count.assign(state.updates)
    for path, held_slot, rate in slots_of(model):
        canonical_value = state.slots.get(path, {}).get(held_slot.slot.role)
        if canonical_value is not None:
            stored = held_slot.slot.stored(canonical_value, rate)
            if stored is not None:
                held_slot.variable.assign(stored)


def snapshot(model: keras.Model, store: Store) -> list[tuple[Any, Array]]:
    """Each variable of a model and its optimizer with its value; setting them goes back to it."""
    held = [*model.variables, *(v for optimizer in optimizers_of(model) for v in optimizer.variables)]
    return [(v, to_numpy(v, store)) for v in held]


def holdings(model: keras.Model) -> Holdings | None:
    """What the optimizer was built for; None where there is none, or before it is built."""
    every = [o for o in map(unwrapped, optimizers_of(model)) if o.built]
    if not every:
        return None
    paths = {key: place.path for key, place in canonical(model).items()}
    listed, orphans = Counter[str](), dict[int, tuple[int, ...]]()
    for optimizer in every:  # one parameter may be trained by several optimizers
        given = optimizer._trainable_variables
        listed |= Counter(paths[id(v)] for v in given if id(v) in paths)
        orphans |= {id(v): tuple(v.shape) for v in given if id(v) not in paths}
    return Holdings(dict(listed), tuple(orphans.values()))
