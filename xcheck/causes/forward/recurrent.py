"""Whole GRU and LSTM layers: the reset gate's place, the forget gate's offset, biases, which step is taken, direction.

A layer is read as one or two directions, each with the kernels and biases of one; gates stand in Keras's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...numerics.align.families import family_of
from ...records.calls import Call
from ...records.trace import Array, Arrays
from .activation import PLAIN
from .forms import EXCHANGED, MASKED, Form, Problem, Setting, either, one_of
from .gates import ORDER, as_computed, as_stored
from .masks import ALL, fitting, mask_of
from .one_computation import Seen

GATES = {"gru": 3, "lstm": 4}
PICKS = ("every step", "the last step", "the end of each direction")
HARD = "hard_sigmoid (x / 6 + 0.5)"
OLD_HARD = "hard_sigmoid (0.2 x + 0.5)"


@dataclass(frozen=True, slots=True)
class Direction:
    """What one direction computes with.

    Attributes:
        kernel, recurrent: (inputs, gates * units) and (units, gates * units).
        bias, second: of the inputs and of the state; None where there is none.
    """

    kernel: Array
    recurrent: Array
    bias: Array | None
    second: Array | None


def _read(seen: Seen) -> Problem | None:
    call = seen.is_a("gru", "lstm")
    layer = next((c for c in (seen.call, seen.owner, *seen.around) if not c.function and _family(c)), None)
    kind = family_of(call.kind) if call is not None else _family(layer) if layer is not None else ""
    floats = [a for a in seen.given.values() if a.dtype.kind == "f" and a.ndim == 3]
    if kind not in GATES or not floats:
        return None
    directions = _torch_directions(seen, kind) if seen.side == "torch" else _keras_directions(seen)
    if not directions or any(d.kernel.shape[1] % GATES[kind] for d in directions):
        return None
    x = floats[0]
    turned = seen.side == "torch" and not torch_batch_first(seen, call or layer)
    x = np.swapaxes(x, 0, 1) if turned else x
    units = directions[0].recurrent.shape[0] * len(directions)
    if x.shape[-1] != directions[0].kernel.shape[0]:
        return None
    steps = seen.value.size == x.shape[0] * x.shape[1] * units
    if not steps and seen.value.size != x.shape[0] * units:
        return None

    neutral = examples_first((*x.shape[: 1 + steps], units), turned and steps)
    arrays: dict[str, Array] = {"x": x}
    for i, d in enumerate(directions):
        arrays |= {f"kernel {i}": d.kernel, f"recurrent {i}": d.recurrent}
        arrays |= {f"bias {i}": d.bias} if d.bias is not None else {}
        arrays |= {f"second {i}": d.second} if d.second is not None else {}
    ends = PICKS[2] if seen.side == "keras" else PICKS[1]
    settings = {
        "kind": kind,
        "reset": "after" if seen.side == "torch" or directions[0].second is not None else "before",
        "forget": 0.0,
        "second": True,
        "pick": PICKS[0] if steps else ends,
        "gates": _activation(seen, "recurrent_activation", "sigmoid"),
        "state": _activation(seen, "activation", "tanh"),
        "backwards": seen.side == "keras" and len(directions) == 1 and seen.setting("go_backwards") is True,
        "back": True,
        "mask": ALL,
        "past": "zero" if seen.side == "torch" or len(directions) == 2 else "held",
        "exchanged": False,
    }
    arrays |= fitting(seen.masks, x.shape)
    return Problem(seen.side, arrays, settings, neutral(seen.value), neutral)


def examples_first(shape: tuple[int, ...], turned: bool) -> Callable[[Array], Array]:
    """What brings a value of a recurrent layer into the shape (examples, [steps,] units).

    Args:
        shape: that.
        turned: its steps come first.
    """
    return lambda array: np.swapaxes(array, 0, 1) if turned else array.reshape(shape)


def torch_batch_first(seen: Seen, call: Call | None) -> bool:
    """Whether a PyTorch layer has the batch before the steps; its function is told at the last but last place."""
    packed = next((c for c in seen.calls if c.kind == "_pack_padded_sequence"), None)
    if packed is not None:
        return packed.settings.get("2", packed.settings.get("batch_first")) is True
    return seen.setting("batch_first") is True or (call is not None and call.settings.get("8") is True)


def _family(call: Call) -> str:
    found = family_of(call.kind)
    return found if found in GATES else ""


def _activation(seen: Seen, name: str, usual: str) -> str:
    said = seen.setting(name) if seen.side == "keras" else None
    said = HARD if said == "hard_sigmoid" else said
    return said if isinstance(said, str) and said in PLAIN else usual


_TORCH_ORDER = {"gru": (1, 0, 2), "lstm": (0, 1, 2, 3)}
"""The gates of PyTorch in Keras's order: z, r, n and i, f, g, o."""


def _torch_directions(seen: Seen, kind: str) -> list[Direction]:
    """None where there are several layers: they are a stack."""
    if any(path.endswith("weight_ih_l1") for path in seen.every):
        return []
    return directions_of(seen.every, "torch", kind)


def directions_of(every: Arrays, side: str, kind: str, layer: int = 0) -> list[Direction]:
    """What one layer computes with, in one direction or both; empty where it is not seen.

    Args:
        every: parameters by path.
        side: whose they are.
        kind: "gru" or "lstm".
        layer: number of the layer within one of PyTorch's.
    """
    if side == "keras":
        return _of_cells(every, ())
    held = {path.rpartition(".")[2]: a for path, a in every.items()}

    def ordered(array: Array | None) -> Array | None:
        if array is None or array.shape[0] % GATES[kind]:
            return None
        parts = np.split(array, GATES[kind])
        return np.concatenate([parts[i] for i in _TORCH_ORDER[kind]])

    found: list[Direction] = []
    for end in (f"_l{layer}", f"_l{layer}_reverse"):
        kernel, recurrent = (ordered(held.get(f"weight_{w}{end}")) for w in ("ih", "hh"))
        if kernel is not None and recurrent is not None:
            biases = (ordered(held.get(f"bias_{w}{end}")) for w in ("ih", "hh"))
            found.append(Direction(kernel.T, recurrent.T, *biases))
    return found


def _keras_directions(seen: Seen) -> list[Direction]:
    turned = [c.path for c in (*seen.calls, *seen.around, seen.call) if c.settings.get("go_backwards") is True]
    return _of_cells(seen.every, turned)


def _of_cells(every: Arrays, turned: Sequence[str]) -> list[Direction]:
    """The layers at the paths `turned` go backwards."""
    cells: dict[str, dict[str, Array]] = {}
    for path, array in every.items():
        cell, _, role = path.rpartition("/")
        cells.setdefault(cell, {})[role] = array
    found: list[Direction] = []

    def comes_second(cell: str) -> bool:
        return "backward" in cell or any(cell == path or cell.startswith(f"{path}/") for path in turned)

    for _, held in sorted(cells.items(), key=lambda item: comes_second(item[0])):
        if "kernel" not in held or "recurrent_kernel" not in held:
            continue
        bias = held.get("bias")
        first, second = (bias[0], bias[1]) if bias is not None and bias.ndim == 2 else (bias, None)
        found.append(Direction(held["kernel"], held["recurrent_kernel"], first, second))
    return found if len(found) <= 2 else []


def _compute(problem: Problem) -> Array | None:
    s, x, arrays = problem.settings, problem.arrays["x"], as_computed(problem.arrays, problem.settings)
    many = 2 if "kernel 1" in problem.arrays else 1
    x = np.swapaxes(x, 0, 1) if s.get("exchanged") else x
    kept = mask_of(problem.arrays, s)
    if kept is not None and kept.shape != x.shape[:2]:
        return None
    made: list[Array] = []
    for i in range(many):
        held = {name.rpartition(" ")[0]: a for name, a in arrays.items() if name.endswith(f" {i}")}
        backwards = (i == 1) != s["backwards"]
        turn = slice(None, None, -1 if backwards else 1)
        out = run_direction(x[:, turn], held, s, None if kept is None else kept[:, turn])
        out = out[:, ::-1] if i == 1 and s["back"] else out
        made.append(np.swapaxes(out, 0, 1) if s.get("exchanged") else out)
    if s["pick"] == PICKS[0] or (s.get("past") == "zero" and s["pick"] == PICKS[1]):
        shown = kept[..., None] if kept is not None and s.get("past") == "zero" else np.ones(())
        made = [np.where(shown, out, 0.0) for out in made]
    if s["pick"] == PICKS[0]:
        return np.concatenate(made, axis=-1)
    if s["pick"] == PICKS[1]:
        return np.concatenate([out[:, -1] for out in made], axis=-1)
    return np.concatenate([out[:, 0] if i else out[:, -1] for i, out in enumerate(made)], axis=-1)


def run_direction(x: Array, held: Arrays, s: Mapping[str, Any], kept: Array | None = None) -> Array:
    """(B, T, units) in the order in which it was gone through.

    Args:
        x: (B, T, inputs).
        held: the arrays of a direction by name.
        s: its settings.
        kept: (B, T), the positions that count; the state stays as it is at the others.
    """
    batch, length, _ = x.shape
    units = held["recurrent"].shape[0]
    second = held.get("second") if s["second"] else None
    given = x @ held["kernel"] + held.get("bias", 0.0)
    state, cell = np.zeros((batch, units)), np.zeros((batch, units))
    outs: list[Array] = []
    step = _gru if s["kind"] == "gru" else _lstm
    for t in range(length):
        made = step(given[:, t], state, cell, held["recurrent"], second, s)
        counts = np.ones((batch, 1), bool) if kept is None else kept[:, t, None]
        state, cell = np.where(counts, made[0], state), np.where(counts, made[1], cell)
        outs.append(state)
    return np.stack(outs, axis=1)


def _gru(
    given: Array, state: Array, cell: Array, kernel: Array, second: Array | None, s: Mapping[str, Any]
) -> tuple[Array, Array]:
    gates, tanh = PLAIN[s["gates"]], PLAIN[s["state"]]
    units = state.shape[1]
    bias = np.zeros(3 * units) if second is None else second
    after = state @ kernel + bias
    z = gates(given[:, :units] + after[:, :units])
    r = gates(given[:, units : 2 * units] + after[:, units : 2 * units])
    before = (r * state) @ kernel[:, 2 * units :] + bias[2 * units :]
    inner = r * after[:, 2 * units :] if s["reset"] == "after" else before
    return z * state + (1 - z) * tanh(given[:, 2 * units :] + inner), cell


def _lstm(
    given: Array, state: Array, cell: Array, kernel: Array, second: Array | None, s: Mapping[str, Any]
) -> tuple[Array, Array]:
    gates, tanh = PLAIN[s["gates"]], PLAIN[s["state"]]
    i, f, g, o = np.split(given + state @ kernel + (0.0 if second is None else second), 4, axis=1)
    cell = gates(f + s["forget"]) * cell + gates(i) * tanh(g)
    return gates(o) * tanh(cell), cell


def _resets(problem: Problem) -> Sequence[Any]:
    return ("after", "before") if problem.settings["kind"] == "gru" else ()


def _forgets(problem: Problem) -> Sequence[Any]:
    return (0.0, 1.0) if problem.settings["kind"] == "lstm" else ()


def _pasts(problem: Problem) -> Sequence[Any]:
    return () if mask_of(problem.arrays, problem.settings) is None else ("zero", "held")


def _picks(problem: Problem) -> Sequence[Any]:
    return PICKS[1:] if problem.settings["pick"] != PICKS[0] else ()


def _backs(problem: Problem) -> Sequence[Any]:
    return (True, False) if "kernel 1" in problem.arrays else ()


RECURRENT = Form(
    "recurrent layer",
    _read,
    _compute,
    (
        Setting(
            "reset",
            "reset_after",
            "the reset gate acts on the state",
            "{} the product",
            "reset_after={}",
            _resets,
            shown=lambda said: f"{said} it is multiplied by the kernel",
        ),
        ORDER,
        MASKED,
        EXCHANGED,
        Setting(
            "past",
            "past_the_end",
            "the output after the end of a row",
            "let it be {} there (pad_packed_sequence gives zeros)",
            "let it be {} there (a masked layer repeats the last state unless zero_output_for_mask=True)",
            _pasts,
            shown=lambda past: "zero" if past == "zero" else "the last state",
        ),
        Setting("forget", "forget_bias", "the number added to the forget gate", "add {}", "add {}", _forgets),
        Setting("second", "second_bias", "whether the second bias is used", "{}", "{}", either),
        Setting("pick", "last_step", "the returned steps", "{}", "{}", _picks, shown=str),
        Setting(
            "gates",
            "recurrent_activation",
            "the gates' function",
            "{}",
            "recurrent_activation={}",
            one_of("sigmoid", HARD, OLD_HARD),
        ),
        Setting(
            "state", "activation", "the state's function", "{}", "activation={}", one_of("tanh", "relu", "sigmoid")
        ),
        Setting(
            "back",
            "direction",
            "whether the backward outputs are returned in the order of the steps",
            "{}",
            "keras.ops.flip(..., axis=1) of the backward outputs: {}",
            _backs,
        ),
        Setting("backwards", "direction", "whether it goes backwards", "{}", "go_backwards={}", either),
    ),
    ("gru", "lstm"),
    as_stored,
)
"""A GRU or an LSTM of one layer, in one direction or both."""
