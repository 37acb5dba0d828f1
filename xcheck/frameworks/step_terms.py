"""What a training step of the user's own returned, as loss terms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..records.trace import Array, Arrays

TOTALS = ("loss", "total")
"""What a step may call the sum of its terms."""


def step_record(terms: Mapping[str, Array], *, summed: bool) -> Arrays:
    """What a step of the user's own returned, under the names of `StepRecord.losses`; "data" is a name like others.

    Args:
        terms: name -> scalar.
        summed: where none is called a total, that is their sum; else there is none.
    """
    record = {name if name in ("data", "penalty") else f"data/{name}": value for name, value in terms.items()}
    total = next((terms[name] for name in TOTALS if name in terms), None)
    for name in TOTALS:
        record.pop(f"data/{name}", None)
    if total is None and summed:
        total = np.sum([np.asarray(value, np.float64) for value in terms.values()], axis=0)
    return record if total is None else {**record, "total": np.asarray(total)}
