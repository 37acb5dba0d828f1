"""What is compared of the outputs: nested, complex, picked, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import xcheck
from xcheck.errors import UserCodeError

QUICK: dict[str, Any] = {"steps": 1, "precision": ("float64",)}


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((4, 3)), {"main": rng.standard_normal((4, 3))})


def torch_net(wrap: Any) -> Any:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return wrap(self.a(x))

    return Net()


def keras_net(wrap: Any) -> Any:
    import keras

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a = keras.layers.Dense(3, name="a")

        def call(self, x: Any) -> Any:
            return wrap(self.a(x))

    return Net()


def check(torch_wrap: Any, keras_wrap: Any, outputs: Any = None, losses: Any = (None, None), free: int = 0) -> Any:
    torch = xcheck.TorchSide(lambda: torch_net(torch_wrap), loss=losses[0], outputs=outputs)
    keras = xcheck.KerasSide(lambda: keras_net(keras_wrap), loss=losses[1], outputs=outputs)
    return xcheck.check(xcheck.Pair("outputs", torch, keras, batches), **QUICK, free_steps=free)


def torch_spectrum(h: Any) -> Any:
    import torch

    return {"y": h, "s": torch.fft.fft(h)}


def keras_spectrum(sign: float = 1.0) -> Any:
    def spectrum(h: Any) -> Any:
        import tensorflow as tf

        return {"y": h, "s": tf.signal.fft(tf.complex(h, tf.zeros_like(h))) * tf.constant(sign, tf.complex128)}

    return spectrum


@pytest.mark.parametrize(("sign", "verdict"), [(1.0, "EQUIVALENT"), (1.0 + 1e-9, "DIFFERENT")])
def test_a_complex_output_is_compared_in_both_of_its_parts(sign: float, verdict: str) -> None:
    result = check(torch_spectrum, keras_spectrum(sign))
    assert result.verdict == verdict
    of_it = {c.verdict for c in result.checks if c.phase == "forward" and c.name.startswith("s ")}
    assert of_it == {verdict}


def test_the_loss_sees_what_outputs_picked_also_in_the_free_run() -> None:
    def mse(o: Any, t: Any) -> Any:
        return ((o["main"] - t["main"]) ** 2).mean()

    def wrap(h: Any) -> Any:
        return {"deep": (h, {"aux": 2 * h}), "hidden": [h, None]}

    losses = mse, {"main": "mean_squared_error"}
    check(wrap, wrap, lambda raw: {"main": raw["deep"][0]}, losses, free=2).assert_equivalent()


def cyclic(h: Any) -> Any:
    made: dict[str, Any] = {"a": h}
    made["again"] = made
    return made


@pytest.mark.parametrize(
    ("outputs", "message"),
    [(lambda _: None, "returned no tensor"), (cyclic, "contains itself"), (lambda _: {}, "returned no tensor")],
)
def test_outputs_that_give_nothing_to_compare_have_a_message(outputs: Any, message: str) -> None:
    with pytest.raises(UserCodeError, match=r"TorchSide\.outputs") as error:
        check(lambda h: h, lambda h: h, outputs)
    assert message in str(error.value)


def test_a_pair_without_a_loss_whose_outputs_are_integers_has_a_message() -> None:
    with pytest.raises(UserCodeError, match="of floats"):
        check(lambda h: h.argmax(-1), lambda h: h)


def test_an_exception_that_cannot_say_what_it_is_has_a_message() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError

    def fails(_: Any) -> Any:
        raise Silent

    with pytest.raises(UserCodeError, match="raised Silent") as error:
        check(fails, lambda h: h)
    assert "__str__ raised ValueError" in str(error.value)
