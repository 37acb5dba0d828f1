"""What is known of a difference that no hypothesis explains: which numbers differ, and how; and how to see it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...records.calls import Call
from ...records.reproduction import SAVED, SCRIPT, Reproduction
from ...records.result import Cause
from ...records.trace import Array, Arrays
from .activation import fewest_digits
from .one_computation import Local, Seen

UNEXPLAINED = "unexplained"
"""Id of a cause that says that there is none."""

MOST_BYTES = 1 << 26
"""Bytes of arrays beyond which no script is written."""

STEADY = 0.95
"""Correlation of the logarithms from which an error counts as growing with the value."""


def unexplained(local: Local, mask: Array | None = None) -> Cause:
    """What is known where nothing explains a difference.

    Args:
        local: what both sides did.
        mask: the positions that mean something, or None.
    """
    torch, keras = local.torch, local.keras
    told = dict(statistics(local.torch.value, local.target("torch"), local.allowed, _masks(local, mask)))
    known = "; ".join(str(v) for k, v in told.items() if k.startswith("it "))
    return Cause(
        id=UNEXPLAINED,
        phase="forward",
        torch=torch.call.name,
        keras=keras.call.name,
        summary=f"{torch.inner.kind} in torch and {keras.inner.kind} in keras give different results on the same "
        "input, "
        f"and no known cause fits{': ' + known if known else ''}",
        evidence={
            "torch": [call.kind for call in torch.calls][:8] or [torch.inner.kind],
            "keras": [call.kind for call in keras.calls][:8] or [keras.inner.kind],
            "before": local.error,
            "allowed": local.allowed,
            **{k: v for k, v in told.items() if not k.startswith("it ")},
        },
        confirmed=False,
        fix=f"reproduce it without the models: python {SCRIPT}, in the folder of this result",
    )


def _masks(local: Local, mask: Array | None) -> dict[str, Array]:
    """Truth values that may say which positions count."""
    found = {} if mask is None else {"the pair's compare": mask}
    for name, array in (*local.torch.given.items(), *local.torch.constants.items()):
        if array.dtype.kind == "b":
            found[name] = array
    return found


def statistics(value: Array, other: Array, allowed: float, masks: Arrays) -> Iterator[tuple[str, Any]]:
    """Facts about a difference; those in words have a name that begins with "it".

    Args:
        value, other: of both sides, in one order of axes.
        allowed: how far rounding may move them, relative to their scale.
        masks: name -> truth values of the first axes.
    """
    if value.shape != other.shape or value.dtype.kind != "f" or not value.size:
        return
    both = np.isfinite(value) & np.isfinite(other)
    if not both.all():
        yield "finite_on_both", int(both.sum())
    if not both.any():
        return
    x, d = np.where(both, value, 0.0), np.where(both, other - value, 0.0)
    limit = allowed * float(np.sqrt(np.mean(x**2)) or 1.0)
    wrong = (np.abs(d) > limit) | (np.isfinite(value) != np.isfinite(other))
    yield "differing", f"{int(wrong.sum())} of {value.size}"
    yield "largest", float(np.abs(d).max())
    yield "median", float(np.median(np.abs(d)))
    yield from _as_a_whole(x, x + d, d, wrong, limit)
    if wrong.any() and not wrong.all():
        yield from _where(wrong, masks)


def _as_a_whole(x: Array, y: Array, d: Array, wrong: Array, limit: float) -> Iterator[tuple[str, Any]]:
    size = float((x * x).sum())
    factor = fewest_digits(float((x * y).sum()) / size) if size else 0.0
    if np.abs(y - factor * x).max() <= limit:
        yield "it is a factor", f"keras is {factor:.9g} times torch"
    offset = float(d.mean())
    if np.abs(d - offset).max() <= limit:
        yield "it is an offset", f"keras is torch plus {offset:.9g}"
    if np.abs(np.sort(x, axis=None) - np.sort(y, axis=None)).max() <= limit:
        yield "it is a permutation", "both have the same numbers in a different order"
    used = wrong & (x != 0) & (d != 0)
    if used.sum() >= 8:
        size_, error = np.log(np.abs(x[used])), np.log(np.abs(d[used]))
        if size_.std() and error.std():
            together = float(np.corrcoef(size_, error)[0, 1])
            if together >= STEADY:
                slope = float(np.polyfit(size_, error, 1)[0])
                yield "it grows", f"the error grows as the size of the value to the power of {slope:.2g}"
    if (d[wrong] > 0).all() or (d[wrong] < 0).all():
        yield "it has one sign", f"keras is {'larger' if (d[wrong] > 0).all() else 'smaller'} wherever they differ"


def _where(wrong: Array, masks: Arrays) -> Iterator[tuple[str, Any]]:
    for name, mask in masks.items():
        if mask.shape == wrong.shape[: mask.ndim] and mask.any() and not mask.all():
            at = wrong.reshape(*mask.shape, -1).any(axis=-1)
            if not (at & mask).any() or not (at & ~mask).any():
                yield "it is masked", f"only where {name} is {'false' if not (at & mask).any() else 'true'}"
                return
    border = [a for a in range(1, wrong.ndim) if wrong.shape[a] > 2 and _at_the_border(wrong, (a,))]
    around = tuple(a for a in range(1, wrong.ndim) if wrong.shape[a] > 2)
    if border:
        yield "it is at the border", f"only at the border of axis {', '.join(map(str, border))} of torch's tensor"
        return
    for pair in ((a, b) for a in around for b in around if a < b):
        if _at_the_border(wrong, pair):
            yield "it is at the border", f"only at the border of axes {pair[0]} and {pair[1]} of torch's tensor"
            return
    for axis in range(wrong.ndim):
        at = np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        if 2 * len(at) <= wrong.shape[axis]:
            yield "it is at some places", f"only at {_listed(at)} along axis {axis} of torch's tensor"
            return


def _at_the_border(wrong: Array, axes: tuple[int, ...]) -> bool:
    """Whether what differs lies at the first or the last place along some axes."""
    inside = tuple(slice(1, -1) if a in axes else slice(None) for a in range(wrong.ndim))
    return not wrong[inside].any()


def _listed(places: Array) -> str:
    shown = ", ".join(str(int(p)) for p in places[:8])
    return shown + (f" and {len(places) - 8} more" if len(places) > 8 else "")


# A script that shows it ------------------------------------------------------------------------------------------


def reproduction_of(local: Local) -> Reproduction | None:
    """Arrays and a script that show a difference; None where there are too many numbers.

    Args:
        local: what both sides did.
    """
    arrays: dict[str, Array] = {
        "torch output": local.torch.value,
        "keras output": local.keras.value,
        "keras output in the axes of torch": local.target("torch"),
    }
    calls = [_call(seen, arrays) for seen in (local.torch, local.keras)]
    if sum(a.nbytes for a in arrays.values()) > MOST_BYTES:
        return None
    return Reproduction(_script(local, calls[0], calls[1]), arrays)


def _call(seen: Seen, arrays: dict[str, Array]) -> str | None:
    """The one function that a side called, with arrays for its tensors; None where it is no single function."""
    for name, array in seen.given.items():
        arrays[f"{seen.side} given by {name}"] = array
    call = seen.inner
    names = [*call.inputs, *call.settings]
    plain_names = all(n.isdigit() or n.isidentifier() for n in names)
    if len(seen.calls) != 1 or seen.idle or not call.function or not plain_names or call.kind == "getitem":
        return None
    told: dict[str, str] = {n: repr(v) for n, v in call.settings.items()}
    for name, array in call.inputs.items():
        arrays[f"{seen.side} input {name}"] = array
        told[name] = f'tensor(saved["{seen.side} input {name}"])'
    places = _placed(call, told, seen, arrays)
    if places is None:
        return None
    words = [f"{n}={said}" for n, said in told.items() if not n.isdigit()]
    return f"function({', '.join([*places, *words])})"


def _placed(call: Call, told: dict[str, str], seen: Seen, arrays: dict[str, Array]) -> list[str] | None:
    """The arguments by position; a gap among them is a parameter, which are in the order of the arguments."""
    last = max((int(n) for n in told if n.isdigit()), default=-1)
    parameters = [p for p in call.parameters if p in seen.every]
    many = max(last + 1, sum(n.isdigit() for n in told) + len(parameters))
    left = iter(parameters)
    places: list[str] = []
    for i in range(many):
        if str(i) in told:
            places.append(told[str(i)])
            continue
        path = next(left, None)
        if path is None:
            return None
        arrays[f"{seen.side} parameter {path}"] = seen.every[path]
        places.append(f'tensor(saved["{seen.side} parameter {path}"])')
    return places if next(left, None) is None else None


_HEAD = '''"""{torch} (PyTorch) and {keras} (Keras) give different results on the same input; no cause is known.

Needs {saved} beside it. It compares the observed values, and calls the function again if it is a single one.
"""

from pathlib import Path

import numpy as np

saved = np.load(Path(__file__).with_name("{saved}"), allow_pickle=False)


def find(name, *places):
    return next((getattr(place, name) for place in places if hasattr(place, name)), None)


def told(what, a, b):
    print(f"{{what}}: {{np.abs(np.asarray(a, float) - np.asarray(b, float)).max():.3e}} apart at most")


told("observed in torch and in keras", saved["torch output"], saved["keras output in the axes of torch"])
'''

_TORCH = """

import torch

tensor, function = torch.from_numpy, find("{kind}", torch.nn.functional, torch, torch.Tensor)
if function is not None:
    again = {call}
    told("torch {kind}, called again, and what was observed", again.detach().numpy(), saved["torch output"])
"""

_KERAS = """

import keras

tensor, function = keras.ops.convert_to_tensor, find("{kind}", keras.ops, keras.activations)
if function is not None:
    again = keras.ops.convert_to_numpy({call})
    told("keras {kind}, called again, and what was observed", again, saved["keras output"])
"""


def _script(local: Local, torch: str | None, keras: str | None) -> str:
    script = _HEAD.format(torch=local.torch.call.name, keras=local.keras.call.name, saved=SAVED)
    if torch is not None:
        script += _TORCH.format(kind=local.torch.inner.kind, call=torch)
    if keras is not None:
        script += _KERAS.format(kind=local.keras.inner.kind, call=keras)
    return script
