"""Hard-coded float32 on both sides: the semantic run stays in float64 and lists every island."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ports import assert_parts_in, mlp

import xcheck
from xcheck.islands import Islands

TOKENS, SIZE = 5, 12  # 12**-0.5 is not exact in float32


def build_torch(epsilon: float = 1e-5) -> Any:
    import torch
    from torch import nn

    class Norm(nn.Module):
        """A norm that upcasts by name, as the models of public hubs do."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(SIZE))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.to(torch.float32)
            y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + epsilon)
            return self.scale * y.to(x.dtype)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.qkv = Norm(), nn.Linear(SIZE, 3 * SIZE, bias=False)
            frequencies = 1.0 / 100 ** (torch.arange(0, SIZE // 2, dtype=torch.float32) / (SIZE // 2))
            self.register_buffer("frequencies", frequencies, persistent=False)

        def turn(self, x: torch.Tensor) -> torch.Tensor:
            angles = torch.arange(TOKENS).float()[:, None] * self.frequencies.float()
            a, b = x.chunk(2, dim=-1)
            sin, cos = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
            return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
            scores = self.turn(q) @ self.turn(k).mT * SIZE**-0.5
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(x.dtype)
            return x + weights @ v

    return Attention()


def build_keras(epsilon: float = 1e-5) -> Any:
    import keras
    from keras import ops

    class Norm(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

        def call(self, x: Any) -> Any:
            y = ops.cast(x, "float32")
            y = y * ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + epsilon)
            return self.scale * ops.cast(y, x.dtype)

    class Attention(keras.layers.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.norm, self.qkv = Norm(name="norm"), keras.layers.Dense(3 * SIZE, use_bias=False, name="qkv")
            self.softmax = keras.layers.Softmax(dtype="float32")

        def turn(self, x: Any) -> Any:
            import tensorflow as tf

            steps = ops.arange(0, SIZE // 2, dtype="float32") / (SIZE // 2)
            angles = ops.cast(ops.arange(TOKENS), "float32")[:, None] / ops.power(100.0, steps)
            a, b = ops.split(x, 2, axis=-1)
            sin, cos = tf.cast(ops.sin(angles), x.dtype), tf.cast(ops.cos(angles), x.dtype)
            return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

        def call(self, x: Any) -> Any:
            q, k, v = ops.split(self.qkv(self.norm(x)), 3, axis=-1)
            scale = ops.cast(SIZE**-0.5, x.dtype)
            scores = ops.matmul(self.turn(q), ops.transpose(self.turn(k), (0, 2, 1))) * scale
            return x + ops.matmul(ops.cast(self.softmax(scores), x.dtype), v)

    tokens = keras.Input((TOKENS, SIZE))
    return keras.Model(tokens, Attention(name="attention")(tokens))


def pair(torch_epsilon: float = 1e-5) -> xcheck.Pair:
    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((4, TOKENS, SIZE)))

    return xcheck.Pair(
        name="upcasting",
        torch=xcheck.TorchSide(lambda: build_torch(torch_epsilon)),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={"norm.scale": "attention/norm/scale", "qkv.weight": "attention/qkv/kernel"},
    )


def test_it_agrees_to_1e13_and_lists_its_islands() -> None:
    result = xcheck.check(pair(), steps=2, precision=("float64",))
    assert result.verdict == "EQUIVALENT", result.report()
    worst = max(c.error for c in result.checks if c.error is not None and c.step is not None)
    assert worst < 1e-13
    islands = " ".join(n for n in result.notes if n.startswith("float32_island"))
    for place in ("torch norm casts", "torch (the model) casts", "keras attention/norm casts", "keras attention casts"):
        assert place in islands, islands
    assert "dtype='float32'" in islands  # the softmax layer that names its dtype


def test_an_epsilon_not_passed_on_is_found_behind_the_casts() -> None:
    result = xcheck.check(pair(torch_epsilon=1e-6), steps=1)
    assert_parts_in(result, "forward")
    first = result.first_divergence
    assert first is not None
    assert first.local_error is not None
    assert 1e-7 < first.local_error < 1e-4  # where the rounding of float32 would hide most of it


def test_without_the_interception_the_same_pair_is_seven_digits_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the interception is what makes the difference."""
    from xcheck.sides import keras_side, torch_side
    from xcheck.sides.keras_precision import float_type

    monkeypatch.setattr(keras_side, "float64_throughout", lambda _: float_type("float64"))
    monkeypatch.setattr(torch_side.Float64Throughout, "__torch_function__", _pass_through)
    result = xcheck.check(pair(), steps=1)
    assert_parts_in(result, "forward")
    assert result.first_divergence is not None
    assert result.first_divergence.local_error is not None
    assert result.first_divergence.local_error > 1e-9


def _pass_through(_self: Any, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
    return func(*args, **(kwargs or {}))


def test_an_island_outside_of_any_layer_is_said_so() -> None:
    islands = Islands(lambda owner: None)
    islands.add("cast to float32")
    islands.add("cast to float32")
    assert islands.listing() == [{"layer": "outside of any layer", "operation": "cast to float32", "count": 2}]


def test_a_pair_without_casts_has_no_islands() -> None:
    assert not [n for n in xcheck.check(mlp(), steps=1).notes if "float32_island" in n]


def test_a_slope_that_float32_does_not_hold_is_kept_and_listed() -> None:
    def build_keras() -> Any:
        import keras

        layers = [keras.layers.Dense(3, name="head"), keras.layers.LeakyReLU(negative_slope=0.2, name="leaky")]
        return keras.Sequential([keras.Input((6,)), *layers])

    def build(slope: float) -> Any:
        from torch import nn

        return nn.Sequential(nn.Linear(6, 3), nn.LeakyReLU(slope))

    weight_map = {"0.weight": "sequential/head/kernel", "0.bias": "sequential/head/bias"}

    def check(slope: float) -> xcheck.Result:
        parts: dict[str, Any] = {"torch": {"build": lambda: build(slope)}, "keras": {"build": build_keras}}
        return xcheck.check(mlp(**parts, weight_map=weight_map), steps=1, precision=("float64",), free_steps=0)

    result = check(0.2)
    assert result.verdict == "EQUIVALENT", result.report()
    assert any("slope of tf.nn.leaky_relu" in n and "leaky" in n for n in result.notes)
    assert_parts_in(check(0.2 * (1 + 1e-9)), "forward")
