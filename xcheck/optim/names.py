"""Argument names of both frameworks: a class has those of its own framework, and also accepts the others."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadInput

SAME = {"lr": "learning_rate", "eps": "epsilon", "alpha": "rho"}
"""PyTorch's name of an argument -> Keras's."""

OTHER = SAME | {keras: torch for torch, keras in SAME.items()}
SPLIT = ("beta_1", "beta_2")
"""Keras's names of the two numbers of PyTorch's `betas`."""


def translated(arguments: Mapping[str, Any], names: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments under the requested names; arguments without a translation are unchanged.

    Args:
        arguments: by the names of either framework.
        names: requested name -> default.
        where: the class, for the message.

    Raises:
        BadInput: an argument is given under both of its names.
    """
    found = dict(arguments)

    def put(given: str, asked: str, value: Any) -> None:
        if asked in found:
            both = f"{given} and {asked}"
            raise BadInput(
                "One argument is given twice, under two names.", where=where, numbers=both, todo="leave one of them out"
            )
        found[asked] = value

    for name in arguments:
        if name not in names and OTHER.get(name) in names:
            put(name, OTHER[name], found.pop(name))
    if "betas" in found and "betas" not in names and SPLIT[0] in names:
        for name, value in zip(SPLIT, found.pop("betas"), strict=True):
            put("betas", name, value)
    split = [name for name in SPLIT if name in found and name not in names]
    if split and "betas" in names:
        put(split[0], "betas", tuple(found.pop(n, usual) for n, usual in zip(SPLIT, names["betas"], strict=True)))
    return found


def either_name(setup: Callable[..., None]) -> Callable[..., None]:
    """An `__init__` that accepts keyword arguments by the names of either framework.

    Args:
        setup: the `__init__`.
    """
    taken = list(inspect.signature(setup).parameters.values())[1:]
    names = {p.name: p.default for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD}

    @functools.wraps(setup)
    def wrapped(self: Any, *values: Any, **arguments: Any) -> None:
        setup(self, *values, **translated(arguments, names, type(self).__name__))

    return wrapped
