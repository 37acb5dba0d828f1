"""Loss terms from the return value of a user-defined training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from ..records.trace import Array, Arrays
from .tree import named_tensors

TOTALS = ("loss", "total")
"""Names of the sum of a step's terms."""


def returned_terms(value: Any, to_array: Callable[[Any], Any]) -> dict[str, Array]:
    """Each number in the return value of a step by name, without images, predictions and strings.

    Args:
        value: a dict, tuple or dataclass, which may hold others.
        to_array: turns a tensor of the framework, or a number, into an array.
    """
    terms: dict[str, Array] = {}
    for name, leaf in named_tensors(value, _is_leaf, "term").items():
        array = np.asarray(to_array(leaf))
        if array.size == 1 and array.dtype.kind in "fiu":
            terms[name] = array.reshape(()).astype(np.float64 if array.dtype.kind != "f" else array.dtype)
    return terms


def _is_leaf(value: Any) -> bool:
    return not isinstance(value, Mapping | tuple | list) and (not is_dataclass(value) or isinstance(value, type))


def step_record(terms: Mapping[str, Array]) -> Arrays:
    """Terms of a user-defined step under the names of `StepRecord.losses`; "data" is not treated specially.

    Args:
        terms: name -> scalar. Without a term of a name in `TOTALS` there is no total.
    """
    record = {name if name in ("data", "penalty") else f"data/{name}": value for name, value in terms.items()}
    total = next((terms[name] for name in TOTALS if name in terms), None)
    for name in TOTALS:
        record.pop(f"data/{name}", None)
    return record if total is None else {**record, "total": np.asarray(total)}
