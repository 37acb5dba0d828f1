"""The optimizers of a Keras model: the one it was compiled with, and those that its own training step uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras

from .variables import HeldSlot, canonical, slots, unmapped_slots, written_lr

LEVELS = 3
"""How deep containers are looked into."""


def optimizers_of(model: Any) -> list[Any]:
    """Every optimizer, once, the one that the model was compiled with first.

    A step of the model's own may have more, as attributes of the model and its layers, in a closure, or global.
    """
    found: dict[int, Any] = {}
    places: list[Any] = [model.optimizer]
    own = type(model).train_step
    if own is not keras.Model.train_step:
        places += [vars(layer) for layer in model._flatten_layers()]
        names = own.__code__.co_names if hasattr(own, "__code__") else ()
        places += [own.__globals__.get(name) for name in names]
        places += [cell.cell_contents for cell in own.__closure__ or () if _filled(cell)]
    for place in places:
        for optimizer in _within(place, LEVELS):
            found.setdefault(id(optimizer), optimizer)
    inner = {id(o.inner_optimizer) for o in found.values() if isinstance(o, keras.optimizers.LossScaleOptimizer)}
    return [o for key, o in found.items() if key not in inner]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is not bound yet
        return False


def _within(thing: Any, levels: int) -> Iterator[Any]:
    if isinstance(thing, keras.optimizers.Optimizer):
        yield thing
    elif levels and isinstance(thing, Mapping | tuple | list):
        for item in thing.values() if isinstance(thing, Mapping) else thing:  # pyright: ignore
            yield from _within(item, levels - 1)


def slots_of(model: Any) -> Iterator[tuple[str, HeldSlot, float]]:
    """Path of a parameter, a slot of it and the learning rate of the last update; none of `doubled`."""
    every, twice = _every_slot(model), doubled(model)
    return (of for of in every if (of[0], of[1].slot.role) not in twice)


def doubled(model: Any) -> list[tuple[str, str]]:
    """Path and role of each slot that two optimizers keep of one parameter.

    Nothing says which is the counterpart of which on the other side, so each side goes on with its own.
    """
    often = Counter((path, held.slot.role) for path, held, _ in _every_slot(model))
    return [of for of, times in often.items() if times > 1]


def unmapped_of(model: Any) -> list[str]:
    """What the optimizers keep that has no known role, or one that nothing tells apart."""
    twice = [f"{role} of {path}, kept by two optimizers" for path, role in doubled(model)]
    return [name for optimizer in optimizers_of(model) for name in unmapped_slots(optimizer)] + twice


def _every_slot(model: Any) -> list[tuple[str, HeldSlot, float]]:
    held = canonical(model)
    every: list[tuple[str, HeldSlot, float]] = []
    for optimizer in optimizers_of(model):
        # A parameter of an optimizer that was built before the model was changed has no place.
        found = [slot for slot in slots(optimizer) if id(slot.parameter) in held]
        rate = written_lr(optimizer) if found else 0.0  # a schedule takes its time to compute one
        every += [(held[id(slot.parameter)].path, slot, rate) for slot in found]
    return every


@contextmanager
def applying(model: Any, instead: Callable[[Any, Callable[..., Any]], Callable[..., Any]]) -> Generator[None]:
    """While the block runs, each optimizer's `apply` is another function.

    Args:
        model: whose optimizers.
        instead: (optimizer, its `apply`) -> the function in its place.
    """
    every = optimizers_of(model)
    before = [vars(optimizer).get("apply") for optimizer in every]
    # object.__setattr__ keeps Keras from tracking the wrappers as state of the optimizer.
    for optimizer in every:
        object.__setattr__(optimizer, "apply", instead(optimizer, optimizer.apply))
    try:
        yield
    finally:
        for optimizer, own in zip(every, before, strict=True):
            if own is None:
                object.__delattr__(optimizer, "apply")
            else:
                object.__setattr__(optimizer, "apply", own)


def built_by_a_step(model: Any) -> AbstractContextManager[None]:
    """While the block makes a training step, each optimizer is built for what the step has it train; none updates."""

    def building(optimizer: Any, _: Any) -> Callable[..., Any]:
        def build(_grads: Any, trainable_variables: Any = None) -> None:
            if not optimizer.built and trainable_variables is not None:
                optimizer.build(list(trainable_variables))

        return build

    return applying(model, building)
