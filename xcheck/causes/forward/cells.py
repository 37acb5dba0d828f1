"""One step of a GRU or LSTM cell: the order of the gates in the weights, and where the reset gate applies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records.calls import Call
from ...records.trace import Array, Arrays
from .activation import sigmoid
from .forms import Form, Problem, Setting
from .gates import GATES, in_order
from .one_computation import Seen, role_of

TORCH = {"gru": (1, 0, 2), "lstm": (0, 1, 2, 3)}
"""For each gate in the order of Keras its place in PyTorch."""

ROLES = {
    "torch": {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "second": "bias_hh"},
    "keras": {"kernel": "kernel", "recurrent": "recurrent_kernel", "bias": "bias"},
}


def _read(seen: Seen) -> Problem | None:
    call = next((c for c in (seen.call, seen.owner) if _cell(c)), None)
    if call is None or seen.value.ndim != 2 or seen.value.dtype.kind != "f":
        return None
    kind = _cell(call)
    given = _inputs(seen, call)
    weights = _weights(seen, kind)
    if given is None or "kernel" not in weights or "recurrent" not in weights:
        return None
    arrays = {**given, **weights}
    units = len(weights["recurrent"])
    fits = given["x"].shape[-1] == len(weights["kernel"]) and given["h"].shape[-1] == units
    if not fits or any(a.shape[-1] != units * len(GATES[kind]) for a in weights.values()):
        return None
    after = seen.side == "torch" or "second" in weights
    settings = {"cell": kind, "order": GATES[kind], "reset": "after" if after else "before", "output": 0}
    problem = Problem(seen.side, arrays, settings, seen.value, lambda array: array)
    made = [_compute(problem.having({"output": n})) for n in range(2 if kind == "lstm" else 1)]
    apart = [float(np.abs(m - seen.value).max()) if m is not None else np.inf for m in made]
    return problem.having({"output": int(np.argmin(apart))})


def _cell(call: Call) -> str:
    """ "gru" or "lstm", of a module that is one of their cells; "" of anything else."""
    kind = call.kind.lower()
    return next((name for name in GATES if not call.function and kind == f"{name}cell"), "")


def _inputs(seen: Seen, call: Call) -> Arrays | None:
    """What goes in, and the state; a state that PyTorch is not given is zero. None where the other side differs."""
    floats = [a for a in call.inputs.values() if a.dtype.kind == "f" and a.ndim == 2]
    known = list(seen.given.values())
    if not floats or not all(not a.any() or any(np.array_equal(a, k) for k in known) for a in floats):
        return None
    zero = np.zeros_like(seen.value)
    x, h, c = (*floats, zero, zero)[:3]
    return {"x": x, "h": h, "c": c}


def _weights(seen: Seen, kind: str) -> Arrays:
    """By neutral names: (inputs, gates * units), with the gates in the order of Keras."""
    held = {role_of(path): array for path, array in seen.parameters.items()}
    found = {name: held[role] for name, role in ROLES[seen.side].items() if role in held}
    if seen.side == "torch":
        return {name: in_order(array.T, TORCH[kind]) for name, array in found.items()}
    if "bias" in found and found["bias"].ndim == 2:
        found |= {"bias": found["bias"][0], "second": found["bias"][1]}
    return found


def _compute(problem: Problem) -> Array | None:
    arrays, settings = problem.arrays, problem.settings
    names = GATES[settings["cell"]]
    places = [settings["order"].index(name) for name in names]
    weights = {n: in_order(a, places) for n, a in arrays.items() if n in ("kernel", "recurrent", "bias", "second")}
    x, h, c = arrays["x"], arrays["h"], arrays["c"]
    n = len(names)
    of_x = np.split(x @ weights["kernel"] + weights.get("bias", 0.0), n, axis=-1)
    second = weights.get("second", np.zeros(weights["kernel"].shape[-1]))
    of_h = np.split(h @ weights["recurrent"] + second, n, axis=-1)
    if settings["cell"] == "lstm":
        i, f, g, o = (a + b for a, b in zip(of_x, of_h, strict=True))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return c if settings["output"] else sigmoid(o) * np.tanh(c)
    z, r = (sigmoid(of_x[i] + of_h[i]) for i in (0, 1))
    if settings["reset"] == "after":
        candidate = np.tanh(of_x[2] + r * of_h[2])
    else:
        candidate = np.tanh(of_x[2] + (r * h) @ np.split(weights["recurrent"], n, axis=-1)[2] + np.split(second, n)[2])
    return z * h + (1 - z) * candidate


def _orders(problem: Problem) -> Sequence[Any]:
    return list(itertools.permutations(GATES[problem.settings["cell"]]))


def _resets(problem: Problem) -> Sequence[Any]:
    return ("after", "before") if problem.settings["cell"] == "gru" else ()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


CELL = Form(
    "recurrent cell",
    _read,
    _compute,
    (
        Setting(
            "reset",
            "reset_after",
            "the reset gate acts on the state",
            "write a cell that resets the state {}",
            "set reset_after, so that the state is reset {}",
            _resets,
            shown=lambda said: f"{said} it is multiplied by the kernel",
        ),
        Setting(
            "order",
            "gate_order",
            "the order of the gates in the weights",
            "carry the weights over with their gates in the order {}",
            "convert the weights with their gates in the order {}, by a layout of the weight map",
            _orders,
            shown=_listed,
        ),
    ),
)
"""GRUCell and LSTMCell; whole layers of them are no cells."""
