"""Calling a function of the user's with what it asks for by the names of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def asked(
    function: Callable[..., Any], usual: Sequence[Any], more: Mapping[str, Any], *, usual_first: bool = False
) -> Any:
    """Call a function.

    Args:
        function: of the pair.
        usual: what it gets by position, in the places of the parameters that ask for nothing by name.
        more: name of a parameter -> what it gets in addition, or instead of what is usual.
        usual_first: the first parameters get what is usual, whatever they are called.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function of C has no signature
        return function(*usual)
    start = len(usual) if usual_first else 0
    named = [p for p in parameters[start:] if p.name in more and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not named:
        return function(*usual)
    left = list(usual[start:])
    positional, keywords = list(usual[:start]), dict[str, Any]()
    for p in parameters[start:]:
        if p in named:
            keywords[p.name] = more[p.name]
        elif left and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            if keywords and p.kind is p.POSITIONAL_OR_KEYWORD:
                keywords[p.name] = left.pop(0)
            else:
                positional.append(left.pop(0))
    return function(*positional, **keywords)
