"""The batches that a pair gives, counted and checked as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import BatchError
from .pair import Batch, Pair
from .user_code import calling


def batches_of(pair: Pair, seed: int, steps: int, *, option: str = "--steps", fewer: bool = False) -> Iterator[Batch]:
    """The pair's first `steps` batches.

    Args:
        pair: whose batches.
        seed: given to it.
        steps: how many are wanted.
        option: of the command line that asked for as many.
        fewer: be content with as many as there are.

    Raises:
        UserCodeError: `batches` raised.
        BatchError: there are too few, one is no `Batch`, or its arrays change their names.
    """
    keys: Any = None
    with calling("batches"):
        made: Any = pair.batches(seed)
        if made is None:
            raise BatchError(
                "The pair's batches are none.",
                where=f"Pair({pair.name!r}).batches",
                cause="it returns nothing: a `return` or a `yield` is missing",
                todo="yield xcheck.Batch(inputs, targets), or return a list of them",
            )
        iterator = iter(made)
    for number in range(1, steps + 1):
        with calling("batches"):
            batch: Any = next(iterator, None)
        if batch is None and fewer:
            return
        if batch is None:
            raise BatchError(
                "The pair's batches ended before the steps did.",
                where=f"Pair({pair.name!r}).batches",
                numbers=f"{number - 1} batches for {steps} steps",
                todo=f"yield at least {steps} batches, or run with {option} {number - 1}",
            )
        if not isinstance(batch, Batch):
            raise BatchError(
                "The pair's batches yielded something that is no xcheck.Batch.",
                where=f"batch {number}",
                numbers=f"got {type(batch).__name__}",
                todo="yield xcheck.Batch(inputs, targets)",
            )
        if keys is not None and _keys(batch) != keys:
            raise BatchError(
                "A batch has other arrays than the first one.",
                where=f"batch {number}",
                numbers=f"{_keys(batch)} against {keys}",
            )
        keys = _keys(batch)
        yield batch


def _keys(batch: Batch) -> tuple[Any, ...]:
    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return sorted(str(key) for key in value)  # pyright: ignore
        if isinstance(value, tuple):
            return len(value)  # pyright: ignore[reportUnknownArgumentType]
        return None if value is None else "array"

    return of(batch.inputs), of(batch.targets)
