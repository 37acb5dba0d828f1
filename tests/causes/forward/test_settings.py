"""Each setting of the larger layers: set otherwise on one side, it alone is the cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from xcheck.causes.forward.attention import ATTENTION, FILLS
from xcheck.causes.forward.forms import Form, Problem, search
from xcheck.causes.forward.one_computation import Local, Seen
from xcheck.causes.forward.recurrent import OLD_HARD, PICKS, RECURRENT
from xcheck.causes.forward.resize import COORDINATES, RESIZE
from xcheck.numerics.align.orders import Order
from xcheck.records.calls import Call

RNG = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


HEADS = {name: drawn(2, 2, 5, 3) for name in ("x", "k", "v")}
KEPT = np.ones((2, 2, 5, 5), bool)
KEPT[0, :, :, 3:] = False
KEPT[1, :, 2] = False  # a row in which nothing is left
RESIZED = {"mode": "cubic", "coordinates": COORDINATES[0], "antialias": False, "cubic": -0.75, "outside": "the nearest"}
RESIZED |= {"rounded": False, "factor": None}
LAYER = {"x": drawn(3, 6, 4)} | {
    f"{name} {i}": drawn(*shape)
    for i in (0, 1)
    for name, shape in (("kernel", (4, 20)), ("recurrent", (5, 20)), ("bias", (20,)), ("second", (20,)))
}
LSTM = {
    "kind": "lstm",
    "reset": "after",
    "forget": 0.0,
    "second": True,
    "pick": PICKS[0],
    "gates": "sigmoid",
    "state": "tanh",
    "backwards": False,
    "back": True,
}
ATTENDED = {"scale": 3**-0.5, "masked": True, "turned": False, "causal": False, "fill": FILLS[1], "axis": "keys"}

CASES: dict[str, tuple[Form, dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "fill": (ATTENTION, HEADS | {"mask": KEPT}, ATTENDED, {"fill": FILLS[3]}, "mask_fill"),
    "mask": (ATTENTION, HEADS | {"mask": KEPT}, ATTENDED, {"masked": False}, "attention_mask"),
    "axis": (ATTENTION, HEADS | {"mask": KEPT}, ATTENDED, {"axis": "queries"}, "axis"),
    "forget bias": (RECURRENT, LAYER, LSTM, {"forget": 1.0}, "forget_bias"),
    "second bias": (RECURRENT, LAYER, LSTM, {"second": False}, "second_bias"),
    "direction": (RECURRENT, LAYER, LSTM, {"backwards": True}, "direction"),
    "put back": (RECURRENT, LAYER, LSTM, {"back": False}, "direction"),
    "state": (RECURRENT, LAYER, LSTM, {"state": "relu"}, "activation"),
    "gates": (RECURRENT, LAYER, LSTM, {"gates": OLD_HARD}, "recurrent_activation"),
    "last step": (RECURRENT, LAYER, LSTM | {"pick": PICKS[1]}, {"pick": PICKS[2]}, "last_step"),
    "cubic": (RESIZE, {"x": drawn(2, 5, 6, 3)}, RESIZED, {"cubic": -0.5}, "cubic_coefficient"),
    "border": (RESIZE, {"x": drawn(2, 5, 6, 3)}, RESIZED, {"outside": "left out"}, "resize_border"),
}
SHAPES = {"resizing": (2, 8, 9, 3)}


def problem(side: Any, form: Form, arrays: dict[str, Any], settings: dict[str, Any], said: dict[str, Any]) -> Problem:
    """What a side computed with `settings`, though it says that it has those of `said`."""
    bare = Problem(side, arrays, settings, np.zeros(SHAPES.get(form.name, ())), lambda array: array)
    with np.errstate(invalid="ignore"):  # a row in which nothing is left
        value = form.compute(bare)
    assert value is not None
    return replace(bare, value=value, settings=said)


def told(form: Form, torch: Problem, keras: Problem) -> list[tuple[str, bool]]:
    def seen(made: Problem) -> Seen:
        call = Call(0, None, "layer", "Layer", 1, {}, {"output": made.value})
        return Seen(made.side, call, call, call, made.value, {"x": made.arrays["x"]})

    order = Order(torch.value.shape, keras.value.shape, tuple(range(torch.value.ndim)))
    by_side = {"torch": torch, "keras": keras}
    local = Local(seen(torch), seen(keras), order, 1e-12, 1.0)
    causes = search(replace(form, read=lambda one: by_side[one.side]), local)
    return [(cause.id, cause.confirmed) for cause in causes]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("known", [True, False])
def test_a_setting_is_found_whether_the_side_says_it_or_not(name, known):
    form, arrays, settings, other, cause = CASES[name]
    torch = problem("torch", form, arrays, settings, settings)
    keras = problem("keras", form, arrays, settings | other, settings | (other if known else {}))
    assert told(form, torch, keras) == [(cause, True)]


@pytest.mark.parametrize("name", CASES)
def test_none_is_found_where_something_else_is_wrong_too(name):
    form, arrays, settings, other, _ = CASES[name]
    torch = problem("torch", form, arrays, settings, settings)
    keras = problem("keras", form, arrays, settings | other, settings | other)
    spoilt = replace(keras, value=keras.value + 1e-4 * np.sin(1e3 * keras.value))
    assert told(form, torch, spoilt) == []
