"""The variables of a Keras model and the memory of its optimizer, by path."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ...records.inventory import Entry, Inventory
from ...records.slots import KERAS, Slot, find
from ...records.store import Store
from ...records.trace import Array


@dataclass(frozen=True, slots=True)
class Place:
    """One place that holds a variable. A variable is created by one layer and may be held by others.

    Attributes:
        path: unique; the variable's own path, or for an alias its holder's path and the variable's name.
        variable: the `keras.Variable`.
        owner, kind: path and class name of the layer that holds it.
        buffer: created as not trainable; a frozen kernel is still a parameter.
        alias: held elsewhere before.
        layer: that holds it; another one may have the same path.
    """

    path: str
    variable: Any
    owner: str
    kind: str
    buffer: bool
    alias: bool
    layer: Any


def places(model: keras.Model) -> list[Place]:
    """Every place in the model that holds a variable, layer by layer.

    The states of random generators are left out: they are no weights, and no two frameworks draw alike.
    """
    found: list[Place] = []
    first: dict[int, str] = {}
    used: dict[str, int] = {}
    layers = {id(layer): layer for layer in model._flatten_layers()}
    for layer in layers.values():
        held = [(v, False) for v in layer._trainable_variables] + [(v, True) for v in layer._non_trainable_variables]
        for variable, buffer in held:
            if "seed_generator" in variable.path:
                continue
            owner = layer.path or layer.name
            alias = id(variable) in first
            path = f"{owner}/{variable.name}" if alias else variable.path
            if alias and path == first[id(variable)]:
                continue
            used[path] = used.get(path, 0) + 1
            if used[path] > 1:  # two layers of one name: Keras gives both variables one path
                path = f"{path}#{used[path]}"
            first.setdefault(id(variable), path)
            found.append(Place(path, variable, owner, kind_of(layer), buffer, alias, layer))
    return found


def kind_of(layer: Any) -> str:
    """The nearest class of Keras's own that a layer is or derives from; its own class if that is none."""
    plain = (keras.layers.Layer, keras.Model)
    known = (c for c in type(layer).__mro__ if c.__module__.startswith("keras.") and c not in plain)
    found = next((c for c in known if issubclass(c, keras.layers.Layer)), type(layer))
    return found.__name__


def canonical(model: keras.Model) -> dict[int, Place]:
    """id of a variable -> the first place that holds it."""
    return {id(p.variable): p for p in places(model) if not p.alias}


def inventory(model: keras.Model) -> Inventory:
    """The inventory of a Keras model; variables that hold their values in one place are one storage."""
    return Inventory(
        tuple(
            Entry(
                path=p.path,
                shape=tuple(p.variable.shape),
                dtype=str(p.variable.dtype),
                trainable=bool(p.variable.trainable),
                buffer=p.buffer,
                owner=p.owner,
                kind=p.kind,
                role=p.variable.name,
                identity=id(p.variable),
                storage=_memory(p.variable),
            )
            for p in places(model)
        )
    )


def _memory(variable: Any) -> int:
    """Where a variable holds its value; on JAX, whose arrays never change, that is the variable itself."""
    on_jax = keras.config.backend() == "jax"
    return id(variable if on_jax or variable._value is None else variable._value)


@dataclass(frozen=True, slots=True)
class HeldSlot:
    """A slot of the optimizer: what it is, the variable that holds it, and the parameter it belongs to."""

    slot: Slot
    variable: Any
    parameter: Any


def unwrapped(optimizer: Any) -> Any:
    """The optimizer that updates the weights: the one inside of a wrapper that scales the loss, or itself."""
    wrapped = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if wrapped else optimizer


def slots(optimizer: Any) -> Iterator[HeldSlot]:
    """The slots of an optimizer that have a known role; none before it is built."""
    optimizer = unwrapped(optimizer)
    if optimizer is None or not optimizer.built:
        return
    trained = list(optimizer._trainable_variables)
    classes = tuple(c.__name__ for c in type(optimizer).__mro__)
    for attribute, held in vars(optimizer).items():
        slot = find(KERAS, classes, attribute)
        if slot is not None and isinstance(held, list) and len(held) == len(trained):
            for parameter, variable in zip(trained, held, strict=True):
                if variable is not None:
                    yield HeldSlot(slot, variable, parameter)
    product = getattr(optimizer, "_u_product", None)  # Nadam: one number for all parameters
    if product is not None:
        for parameter in trained:
            yield HeldSlot(Slot("momentum_product"), product, parameter)


def counters(optimizer: Any) -> list[Any]:
    """Counts of updates: the optimizer's own, and those per parameter that `xcheck.optim` keeps after PyTorch."""
    optimizer = unwrapped(optimizer)
    return [optimizer._iterations, *getattr(optimizer, "_steps", [])]


def unmapped_slots(optimizer: Any, averages: Collection[Any] = ()) -> list[str]:
    """Paths of what an optimizer keeps besides its slots of known roles, its counter and its learning rate.

    Args:
        optimizer: of the model.
        averages: ids of what holds the values of its variables that were found to be averages of weights.
    """
    if optimizer is None or not optimizer.built:
        return []
    known = {id(slot.variable) for slot in slots(optimizer)} | set(map(id, counters(optimizer)))
    if optimizer is not unwrapped(optimizer):  # the scale cancels out: a step by any of them is the same step
        known |= {id(optimizer._iterations), id(optimizer.step_counter), id(optimizer.dynamic_scale)}
    known |= {id(o._learning_rate) for o in (optimizer, unwrapped(optimizer))}
    name = type(unwrapped(optimizer)).__name__
    return [f"{name}: {v.path}" for v in optimizer.variables if id(v) not in known and id(v._value) not in averages]


def written_lr(optimizer: Any) -> float:
    """The learning rate of the last update, which scaled the momentum it left behind."""
    optimizer = unwrapped(optimizer)
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(to_numpy(rate(max(int(to_numpy(optimizer.iterations)) - 1, 0))))
    return float(to_numpy(rate() if callable(rate) else rate))


def to_numpy(value: Any, store: Store | None = None) -> Array:
    """What later steps cannot change: a copy, or what the store has of these values; sparse gradients become dense."""
    values: Any = keras.ops.convert_to_numpy(value)
    return np.array(values) if store is None else store.keep(values)
