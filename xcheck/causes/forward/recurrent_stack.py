"""Several recurrent layers on top of each other, which PyTorch makes one of: the settings of each by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...numerics.align.families import family_of
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.trace import Array, Arrays
from .forms import Form, Problem, Setting, search
from .gates import ORDER, as_computed, as_stored
from .one_computation import Local, Seen
from .recurrent import GATES, HARD, OLD_HARD, Direction, directions_of, examples_first, run_direction, torch_batch_first

MOST = 4
"""Layers of a stack that is looked at."""


@isolated(list[Cause])
def stacked_causes(local: Local) -> list[Cause]:
    """What differs in one layer of a stack; of Keras's side the layer itself is named.

    Args:
        local: what both sides did.
    """
    causes = search(STACK, local)
    layers = _keras_layers(local.keras)
    named: list[Cause] = []
    for cause in causes:
        number = next((i for i in range(len(layers)) if f"of layer {i + 1} " in cause.summary), None)
        if number is not None:
            fix = cause.fix.replace(f"keras: {local.keras.call.name}:", f"keras: {layers[number]}:")
            cause = replace(cause, keras=layers[number], fix=fix)
        named.append(cause)
    return named


def _keras_layers(seen: Seen) -> list[str]:
    """Paths of the recurrent layers of the Keras side in the order in which they are called."""
    cells = {path.rpartition("/")[0] for path in seen.every if path.endswith("_cell/kernel")}
    every = sorted((*seen.calls, *seen.around, seen.call), key=lambda c: c.index)
    found: dict[str, None] = {}
    for call in every:
        for cell in cells:
            layer = cell.rpartition("/")[0]
            if f"{call.path}/".startswith(f"{layer}/"):
                found.setdefault(layer)
    return list(found)


def _kind(direction: Direction) -> str:
    gates = direction.kernel.shape[1] // direction.recurrent.shape[0]
    return next((kind for kind, n in GATES.items() if n == gates), "")


def _read(seen: Seen) -> Problem | None:
    floats = [a for a in seen.given.values() if a.dtype.kind == "f" and a.ndim == 3]
    own: list[str] = []
    if seen.side == "torch":
        kind = next((k for k in GATES if seen.is_a(k) is not None or _held_by(seen, k)), "")
        stacks = [directions_of(seen.every, "torch", kind, number) for number in range(MOST + 1)] if kind else []
        stacks = [directions for directions in stacks if directions]
        own = [""] * len(stacks)
    else:
        own = _keras_layers(seen)
        stacks = [
            directions_of({p: a for p, a in seen.every.items() if p.startswith(f"{layer}/")}, "keras", "")
            for layer in own
        ]
    if not floats or not 1 < len(stacks) <= MOST or any(len(d) != 1 for d in stacks):
        return None
    kind = _kind(stacks[0][0])
    layer = seen.is_a("gru", "lstm") or next((c for c in seen.around if family_of(c.kind) in GATES), None)
    x = np.swapaxes(floats[0], 0, 1) if seen.side == "torch" and not torch_batch_first(seen, layer) else floats[0]
    turned = x is not floats[0]
    units = stacks[-1][0].recurrent.shape[0]
    steps = seen.value.size == x.shape[0] * x.shape[1] * units
    if stacks[0][0].kernel.shape[0] != x.shape[-1] or not (steps or seen.value.size == x.shape[0] * units):
        return None

    neutral = examples_first((*x.shape[: 1 + steps], units), turned and steps)
    arrays: dict[str, Array] = {"x": x}
    settings: dict[str, Any] = {"kind": kind, "layers": len(stacks), "steps": steps}
    for i, ((direction,), path) in enumerate(zip(stacks, own, strict=True)):
        arrays |= _held(direction, i)
        settings |= {
            f"reset {i}": "after" if seen.side == "torch" or direction.second is not None else "before",
            f"gates {i}": _function(seen, path, "recurrent_activation", "sigmoid"),
            f"state {i}": _function(seen, path, "activation", "tanh"),
            f"forget {i}": 0.0,
            f"second {i}": True,
        }
    return Problem(seen.side, arrays, settings, neutral(seen.value), neutral)


def _held_by(seen: Seen, kind: str) -> bool:
    """Whether PyTorch's parameters have the number of gates of a kind of layer."""
    held = seen.ending("weight_hh_l0")
    return held is not None and held.shape[0] == GATES[kind] * held.shape[1]


def _held(direction: Direction, number: int) -> Arrays:
    held = {"kernel": direction.kernel, "recurrent": direction.recurrent}
    held |= {} if direction.bias is None else {"bias": direction.bias}
    held |= {} if direction.second is None else {"second": direction.second}
    return {f"{name} {number}": array for name, array in held.items()}


def _function(seen: Seen, path: str, name: str, usual: str) -> str:
    every = (*seen.calls, *seen.around, seen.call)
    said = next((c.settings.get(name) for c in every if path and c.path == path and not c.function), None)
    said = HARD if said == "hard_sigmoid" else said
    return said if isinstance(said, str) else usual


def _compute(problem: Problem) -> Array | None:
    s, arrays = problem.settings, as_computed(problem.arrays, problem.settings)
    out = arrays["x"]
    for i in range(s["layers"]):
        held = {name.rpartition(" ")[0]: a for name, a in arrays.items() if name.endswith(f" {i}")}
        own = {name.rpartition(" ")[0]: value for name, value in s.items() if name.endswith(f" {i}")}
        if held["kernel"].shape[0] != out.shape[-1]:
            return None
        out = run_direction(out, held, {"kind": s["kind"], **own})
    return out if s["steps"] else out[:, -1]


Others = Callable[[Problem], Sequence[Any]]


def _where(number: int, kind: str, *values: Any) -> Others:
    def others(problem: Problem) -> Sequence[Any]:
        return values if number < problem.settings["layers"] and kind in ("", problem.settings["kind"]) else ()

    return others


def _of_layer(number: int) -> tuple[Setting, ...]:
    of = f"of layer {number + 1} of the stack"
    return (
        Setting(
            f"reset {number}",
            "reset_after",
            f"the reset gate {of} acts on the state",
            "{} the product",
            "reset_after={}",
            _where(number, "gru", "after", "before"),
            shown=lambda said: f"{said} it is multiplied by the kernel",
        ),
        Setting(
            f"gates {number}",
            "recurrent_activation",
            f"the function of the gates {of}",
            "{}",
            "recurrent_activation={}",
            _where(number, "", "sigmoid", HARD, OLD_HARD),
        ),
        Setting(
            f"state {number}",
            "activation",
            f"the function of the state {of}",
            "{}",
            "activation={}",
            _where(number, "", "tanh", "relu", "sigmoid"),
        ),
        Setting(
            f"forget {number}",
            "forget_bias",
            f"the number added to the forget gate {of}",
            "add {}",
            "add {}",
            _where(number, "lstm", 0.0, 1.0),
        ),
        Setting(
            f"second {number}",
            "second_bias",
            f"whether the second bias {of} is used",
            "{}",
            "{}",
            _where(number, "", False, True),
        ),
    )


STACK = Form(
    "recurrent layers",
    _read,
    _compute,
    (ORDER, *(s for i in range(MOST) for s in _of_layer(i))),
    paired=as_stored,
)
"""GRUs or LSTMs in one direction, one on the other."""
