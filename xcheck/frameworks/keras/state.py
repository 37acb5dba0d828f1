"""What a Keras training step starts from and leaves behind, read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from ...records.inventory import Holdings
from ...records.slots import AVERAGE
from ...records.store import Store
from ...records.trace import Array, State
from ..averages import Averages
from ..optimizers import is_known
from ..reachable import Saved
from .optimizer import rates
from .optimizers import doubled, optimizers_of, slots_of
from .patches.training_step import in_graph
from .reachable import KerasTensors
from .variables import canonical, counters, inventory, states_of, to_numpy, unwrapped


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


def snapshot(model: keras.Model, store: Store, functions: Mapping[str, Any]) -> Saved:
    """Whatever a training step may change: of the model, its optimizers, and what the user's functions keep."""
    states = [v for layer in model._flatten_layers() for v in states_of(layer)]
    of_optimizers = [v for optimizer in optimizers_of(model) for v in optimizer.variables]
    variables = [*model.variables, *states, *of_optimizers]
    return Saved({"model": model, "variables": variables, **functions}, KerasTensors(), store)


def averages_of(model: keras.Model, store: Store, functions: Mapping[str, Any]) -> Averages:
    """What finds the averages of the weights that a run keeps; the arguments are those of `snapshot`."""

    def known() -> tuple[list[Any], list[Any]]:
        found = [slot for _, slot, _ in slots_of(model)]
        others = [slot.variable for slot in found if slot.slot.role != AVERAGE]
        return [*model.variables, *others], [slot.variable for slot in found if slot.slot.role == AVERAGE]

    return Averages(lambda: {"model": model, **functions}, KerasTensors(), store, known)


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
    alone = rates(model) if len(every) == 1 else {}
    return Holdings(dict(listed), tuple(orphans.values()), rates=alone)


@contextmanager
def unchanged(model: keras.Model) -> Generator[None]:
    """The buffers of a model have the values of before when the block ends: looking at it leaves it as it was.

    What a layer makes in the block, when it is built by its first call, has the values of before that call.
    """
    held = [place.variable for place in canonical(model).values() if place.buffer]
    before = {id(variable): (variable, to_numpy(variable)) for variable in held}
    lock = keras.layers.Layer._lock_state

    def locked(self: Any) -> None:
        lock(self)
        symbolic = in_symbolic_scope() or in_graph()  # where nothing has values
        for variable in () if symbolic else self.non_trainable_variables:
            if id(variable) not in before:
                before[id(variable)] = variable, to_numpy(variable)

    keras.layers.Layer._lock_state = locked
    try:
        yield
    finally:
        keras.layers.Layer._lock_state = lock
        for variable, value in before.values():
            if not np.array_equal(to_numpy(variable), value, equal_nan=value.dtype.kind == "f"):
                variable.assign(value)
