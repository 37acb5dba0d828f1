"""The same numbers in another order: what changed it is found, in front of the layer that mixes them or at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xcheck

CHANNELS, SIDE, BATCH = 6, 4, 3


def nothing(x: Any) -> Any:
    return x


def spoilt(x: Any) -> Any:
    import keras

    return x + 1e-4 * keras.ops.sin(1e3 * x)


def pair_of(
    torch_end: Callable[[Any], Any],
    keras_end: Callable[[Any], Any],
    *,
    joined: tuple[int, ...] = (0, 1),
    after: Callable[[Any], Any] = nothing,
    outputs: int = 0,
) -> xcheck.Pair:
    """A convolution whose kernel is used as it is and mirrored, what follows it, and a dense layer if asked for."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(CHANNELS, 2, 3, 3))
                if outputs:
                    self.head = torch.nn.Linear(2 * CHANNELS, outputs)

            def forward(self, x: Any) -> Any:
                kernel = torch.cat([self.weight, self.weight.flip(2)])
                x = torch_end(torch.relu(torch.nn.functional.conv2d(x, kernel, padding=1)))
                return self.head(x) if outputs else x

        return Net()

    def build_keras() -> Any:
        import keras

        class Own(keras.layers.Layer):
            def build(self, input_shape: Any) -> None:
                self.kernel = self.add_weight(shape=(3, 3, 2, CHANNELS), name="kernel")

            def call(self, x: Any) -> Any:
                kernels = [self.kernel, keras.ops.flip(self.kernel, axis=0)]
                return keras.ops.conv(x, keras.ops.concatenate([kernels[i] for i in joined], -1), padding="same")

        x = keras.Input((SIDE, SIDE, 2))
        y = keras_end(keras.ops.relu(after(Own(name="own")(x))))
        return keras.Model(x, keras.layers.Dense(outputs, name="head")(y) if outputs else y)

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((BATCH, SIDE, SIDE, 2)))

    head = {"head.weight": "head/kernel", "head.bias": "head/bias"} if outputs else {}
    return xcheck.Pair(
        name="order",
        torch=xcheck.TorchSide(build_torch, prepare=lambda batch: (np.moveaxis(np.asarray(batch.inputs), -1, 1), None)),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={"weight": ("own/kernel", "conv"), **head},
    )


def looked_into(pair: xcheck.Pair) -> xcheck.Result:
    phases = ("inventory", "sync", "forward")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)


def flat(first: bool) -> Callable[[Any], Any]:
    def flattened(x: Any) -> Any:
        import keras

        return keras.ops.reshape(keras.ops.transpose(x, (0, 3, 1, 2)) if first else x, (-1, 8, 24))

    return flattened


def places_first(x: Any) -> Any:
    return x.permute(0, 2, 3, 1).reshape(-1, 8, 24)


def mean(x: Any) -> Any:
    import keras

    return keras.ops.mean(x, axis=(1, 2))


def test_outputs_that_were_flattened_in_another_order():
    result = looked_into(pair_of(places_first, flat(first=True)))
    assert [(c.id, c.confirmed) for c in result.causes] == [("permuted_axes", True)], result.report()
    summary = result.causes[0].summary
    assert "(3, 4, 4, 12) of (the model): permute becomes (3, 8, 24) in torch" in summary
    assert "becomes (3, 8, 24) in keras" in summary


def test_in_one_order_they_are_the_same():
    result = looked_into(pair_of(places_first, flat(first=False)))
    assert {c.verdict for c in result.checks if c.phase == "forward"} == {"EQUIVALENT"}


def test_no_order_is_named_where_the_numbers_differ_too():
    result = looked_into(pair_of(places_first, flat(first=True), after=spoilt))
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == []


def test_what_changed_the_order_is_found_in_front_of_the_layer_that_mixes_them():
    result = looked_into(pair_of(lambda x: x.mean(dim=(2, 3)), mean, joined=(1, 0), outputs=3))
    assert [(c.id, c.confirmed) for c in result.causes] == [("turned_weight", True)], result.report()
    assert result.first_divergence is not None
    assert result.first_divergence.keras == "own"
    assert "as it is and mirrored along height, joined along outputs in torch" in result.causes[0].summary
    assert "mirrored along height and as it is, joined along outputs in keras" in result.causes[0].summary


@pytest.mark.parametrize(("joined", "causes"), [((1, 0), ["turned_weight"]), ((0, 1), [])])
def test_only_what_is_so_is_named_where_something_else_is_wrong_too(joined, causes):
    pair = pair_of(lambda x: x.mean(dim=(2, 3)), mean, joined=joined, outputs=3, after=spoilt)
    result = looked_into(pair)
    assert result.verdict == "DIFFERENT"
    assert [c.id for c in result.causes if c.confirmed] == causes


def test_parts_that_are_joined_in_another_order_in_front_of_a_convolution():
    """Of a square image no axis is known by its length, and of what is joined in another order none by its numbers."""

    def build_torch() -> Any:
        from torch import cat, nn

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.left, self.right = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1)
                self.after, self.norm = nn.Conv2d(8, 4, 3, padding=1), nn.GroupNorm(2, 4)

            def forward(self, x: Any) -> Any:
                return self.norm(self.after(cat([self.left(x), self.right(x)], 1))).mean((2, 3))

        return Net()

    def build_keras() -> Any:
        import keras
        from keras import layers

        x = keras.Input((SIDE, SIDE, 2))
        left, right = layers.Conv2D(4, 1, name="left")(x), layers.Conv2D(4, 3, padding="same", name="right")(x)
        y = layers.Conv2D(4, 3, padding="same", name="after")(layers.Concatenate()([right, left]))
        return keras.Model(x, mean(layers.GroupNormalization(2, epsilon=1e-5, name="norm")(y)))

    own = pair_of(nothing, nothing)
    pair = replace(
        own,
        torch=replace(own.torch, build=build_torch),
        keras=xcheck.KerasSide(build_keras),
        weight_map={
            f"{layer}.{mine}": f"{layer}/{theirs}"
            for layer, mine, theirs in (
                *((name, "weight", "kernel") for name in ("left", "right", "after")),
                *((name, "bias", "bias") for name in ("left", "right", "after")),
                ("norm", "weight", "gamma"),
                ("norm", "bias", "beta"),
            )
        },
    )
    result = looked_into(pair)
    assert [(c.id, c.confirmed) for c in result.causes] == [("permuted_axes", True)], result.report()
    assert result.first_divergence is not None
    assert (result.first_divergence.torch, result.first_divergence.keras) == ("after", "after")
    assert "keras has torch's 4:8, 0:4" in result.causes[0].summary
