"""One step of a recurrent cell: the order of its gates and the place of its reset, and nothing where more is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, UNITS, BATCH = 5, 4, 3


def nothing(x: Any) -> Any:
    return x


def spoilt(x: Any) -> Any:
    import keras

    return x + 1e-4 * keras.ops.sin(1e3 * x)


def pair_of(kind: str, layout: Any, *, after: Callable[[Any], Any] = nothing, **options: Any) -> xcheck.Pair:
    """One cell called once by hand on a row and a state."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.cell = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[kind](SIZE, UNITS)
                if not options.get("reset_after", True) or kind == "lstm":
                    torch.nn.init.zeros_(self.cell.bias_hh)

            def forward(self, x: Any, h: Any) -> Any:
                made = self.cell(x, h if kind == "gru" else (h, h))
                return torch.tanh(made if kind == "gru" else made[0])

        return Net()

    def build_keras() -> Any:
        import keras

        x, h = keras.Input((SIZE,), name="x"), keras.Input((UNITS,), name="h")
        if kind == "gru":
            made, _ = keras.layers.GRUCell(UNITS, name="cell", **options)(x, h)
        else:
            made, _ = keras.layers.LSTMCell(UNITS, name="cell")(x, [h, h])
        return keras.Model({"x": x, "h": h}, keras.ops.tanh(after(made)))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch({"x": rng.standard_normal((BATCH, SIZE)), "h": rng.standard_normal((BATCH, UNITS))})

    weight_map: dict[str, Any] = {
        "cell.weight_ih": ("cell/kernel", layout[0]),
        "cell.weight_hh": ("cell/recurrent_kernel", layout[0]),
    }
    if kind == "lstm":
        weight_map |= {"cell.bias_ih + cell.bias_hh": ("cell/bias", layout[1])}
    elif options.get("reset_after", True):
        weight_map |= {"cell.bias_ih": ("cell/bias[0]", layout[1]), "cell.bias_hh": ("cell/bias[1]", layout[1])}
    else:
        waived = xcheck.waive("a cell that resets before has one bias")
        weight_map |= {"cell.bias_ih": ("cell/bias", layout[1]), "cell.bias_hh": waived}
    return xcheck.Pair(
        name="cell",
        torch=xcheck.TorchSide(build_torch),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map=weight_map,
    )


def looked_into(pair: xcheck.Pair) -> xcheck.Result:
    phases = ("inventory", "sync", "forward")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)


IN_ORDER, AS_THEY_ARE = ("gru_kernel", "gru_bias"), ("transpose", "identity")
CASES: dict[str, tuple[str, xcheck.Pair, xcheck.Pair, tuple[str, ...]]] = {
    "gates carried over as they are": (
        "gate_order",
        pair_of("gru", AS_THEY_ARE),
        pair_of("gru", AS_THEY_ARE, after=spoilt),
        ("reset, update, candidate in torch", "update, reset, candidate in keras"),
    ),
    "reset before": (
        "reset_after",
        pair_of("gru", IN_ORDER, reset_after=False),
        pair_of("gru", IN_ORDER, after=spoilt, reset_after=False),
        ("after it is multiplied by the kernel in torch", "before it is multiplied by the kernel in keras"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_cell_that_differs_in_one_thing(name):
    cause, pair, _, words = CASES[name]
    result = looked_into(pair)
    assert [(c.id, c.confirmed) for c in result.causes] == [(cause, True)], result.report()
    (found,) = result.causes
    for part in words:
        assert part in found.summary
    assert found.evidence["before"] > 1e-3
    assert found.evidence["after"] <= found.evidence["allowed"] < 1e-11
    assert (found.torch, found.keras) == ("cell", "cell")


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_so_is_named_where_something_else_is_wrong_too(name):
    result = looked_into(CASES[name][2])
    assert result.verdict == "DIFFERENT"
    assert {c.id for c in result.causes if c.confirmed} <= {CASES[name][0]}, result.report()


def test_no_cause_is_named_of_a_cell_that_is_right_where_something_else_is_wrong():
    result = looked_into(pair_of("gru", IN_ORDER, after=spoilt))
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == [], result.report()


@pytest.mark.parametrize("pair", [pair_of("gru", IN_ORDER), pair_of("lstm", AS_THEY_ARE)])
def test_cells_in_order_are_the_same(pair):
    assert {c.verdict for c in looked_into(pair).checks if c.phase == "forward"} == {"EQUIVALENT"}


def test_another_activation_is_no_order_of_gates():
    result = looked_into(pair_of("gru", IN_ORDER, activation="softsign"))
    assert result.verdict == "DIFFERENT"
    assert {c.id for c in result.causes if c.confirmed}.isdisjoint({"gate_order", "reset_after"})
