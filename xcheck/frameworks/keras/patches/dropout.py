"""Keras without dropout: no two frameworks draw alike, so it is switched off, and its rates are what is compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src import backend

from ...drawing import STAND_IN, drawn_by, noise_of
from ...passes import Drops
from .precision import layer_of
from .tapes import recording


@contextmanager
def dropout_off(
    drops: Drops | None = None,
    draws: list[str] | None = None,
    *,
    nothing_at: int | None = None,
    seed: int | None = None,
) -> Generator[None]:
    """`STAND_IN` takes the place of dropout until the block ends; what else draws is noted.

    Every layer of Keras that drops something, and `keras.random.dropout`, goes through one function of the backend;
    but for `AlphaDropout`, which makes a mask of its own.

    Args:
        drops: the calls that would have dropped something; filled in.
        draws: what drew all the same, in order: "layer: function"; filled in.
        nothing_at: the call, from 0, that hands on zeros, to see whether it is of use.
        seed: of all that draws; None for what the model says.
    """
    random: Any = backend.random
    noted, dropped = [] if draws is None else draws, Drops() if drops is None else drops

    def kept(inputs: Any, rate: float, noise: Any = None, shifts: bool = False) -> Any:
        if rate > 0:
            dropped.add(rate, noise_of(inputs.shape, noise), recording())
        if rate > 0 and nothing_at == len(dropped.rates) - 1:
            return keras.ops.zeros_like(inputs)
        return STAND_IN.of(inputs, rate, shifts) if rate > 0 else inputs

    def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        return kept(inputs, rate, noise_shape)

    def alpha_dropout(layer: Any, inputs: Any, training: Any = False) -> Any:
        return kept(inputs, layer.rate, layer.noise_shape, shifts=True) if training else inputs

    def drawing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*args: Any, **kwargs: Any) -> Any:
            noted.append(drawn_by(keras.layers.Layer, name, layer_of))
            return function(*args, **(kwargs if seed is None else {**kwargs, "seed": seed + len(noted)}))

        return drawn

    replaced: list[tuple[Any, str, Any]] = [
        (random, name, drawing(name, function))
        for name, function in vars(random).items()
        if inspect.isfunction(function) and "seed" in inspect.signature(function).parameters and name[0] != "_"
        if function.__module__ == random.__name__ and name != "dropout"
    ]
    replaced += [(random, "dropout", dropout), (keras.layers.AlphaDropout, "call", alpha_dropout)]
    originals = [(holder, name, getattr(holder, name)) for holder, name, _ in replaced]
    try:
        for holder, name, made in replaced:
            setattr(holder, name, made)
        yield
    finally:
        for holder, name, original in originals:
            setattr(holder, name, original)
