"""Calls of a user's function with additional arguments for its named parameters."""

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
        usual: positional arguments for the parameters whose names are not in `more`.
        more: name of a parameter -> its argument, additional or in place of a usual one.
        usual_first: the first parameters get the usual arguments, whatever their names.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function of C has no signature
        return function(*usual)
    start = len(usual) if usual_first else 0
    named = [p for p in parameters[start:] if p.name in more and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not named:
        return function(*usual)
    remaining = list(usual[start:])
    positional, keywords = list(usual[:start]), dict[str, Any]()
    for p in parameters[start:]:
        if p in named:
            keywords[p.name] = more[p.name]
        elif remaining and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            if keywords and p.kind is p.POSITIONAL_OR_KEYWORD:
                keywords[p.name] = remaining.pop(0)
            else:
                positional.append(remaining.pop(0))
    return function(*positional, **keywords)
