"""Hard-coded float32 on both sides: the semantic run stays in float64 and lists every island."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ports import assert_parts_in, mlp

import xcheck
from xcheck.records.islands import Islands, factors, made_in_float32, rounded_by_float32

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
    from xcheck.frameworks.keras import runner as keras_side
    from xcheck.frameworks.keras.patches.precision import float_type
    from xcheck.frameworks.torch import runner as torch_side
    from xcheck.stepping import lockstep

    monkeypatch.setattr(lockstep, "made_in_float32", lambda values: False)

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


# Numbers of float32 that cannot be kept out ------------------------------------------------------------------------

CAUSE = "float32_constant"


def table() -> Any:
    """Angles as a user makes them with NumPy, of float64."""
    return np.sin(np.arange(1.0, 7.0) * 0.37) + 2.0


def scaled_pair(torch_scale: Any, keras_scale: Any, **options: Any) -> xcheck.Pair:
    """One layer, its input first multiplied by what the functions return: `scale(module_or_layer)`."""

    def build_torch() -> Any:
        import torch
        from torch import nn

        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head = nn.Linear(6, 3)
                if options.get("buffer") is not None:
                    self.register_buffer("table", torch.from_numpy(options["buffer"]))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(x * torch_scale(self))

        return Scaled()

    def build_keras() -> Any:
        import keras

        class Scale(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return x * keras_scale(self)

        return keras.Sequential([keras.Input((6,)), Scale(name="scale"), keras.layers.Dense(3, name="head")])

    weight_map = {"head.weight": "sequential/head/kernel", "head.bias": "sequential/head/bias"}
    return mlp(torch={"build": build_torch}, keras={"build": build_keras}, weight_map=weight_map)


def check(pair: xcheck.Pair, **options: Any) -> xcheck.Result:
    return xcheck.check(pair, **{"steps": 2, "free_steps": 2, **options})


def as_tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(array)


def assert_explained(result: xcheck.Result, side: str, place: str) -> None:
    """No difference, with float32 as the confirmed cause at a place of one side, which the notes list too."""
    (skipped,) = (c for c in result.checks if c.verdict != "EQUIVALENT")
    assert (skipped.phase, skipped.verdict) == ("trajectory", "INCONCLUSIVE"), result.report()
    (cause,) = result.causes
    assert (cause.id, cause.phase, cause.confirmed) == (CAUSE, "forward", True)
    assert place in str(getattr(cause, side)), cause
    assert getattr(cause, "keras" if side == "torch" else "torch") is None
    assert any(n.startswith(f"float32_island: {side}") and "rounded" in n for n in result.notes), result.notes
    forward = [c for c in result.checks if c.phase == "forward" and c.precision == "float64" and c.error is not None]
    assert all(1e-10 < (c.error or 0.0) < min(1e-6, c.allowed or 0.0) < 1e-5 for c in forward), result.report()
    assert "--free-steps 0" in skipped.detail


EXPLAINED: dict[str, tuple[Any, Any, str, str]] = {
    "a tensor in torch": (lambda m: as_tensor(table().astype(np.float32)), lambda _: table(), "torch", "(mul)"),
    "a number in torch": (lambda m: np.float32(0.1), lambda _: 0.1, "torch", "(the model) (mul)"),
    "an array in keras": (
        lambda m: as_tensor(table()).to(m.head.weight),
        lambda _: table().astype(np.float32),
        "keras",
        "scale (",
    ),
    "a number in keras": (lambda m: 0.1, lambda _: np.float32(0.1), "keras", "scale ("),
}


@pytest.mark.parametrize("kind", EXPLAINED)
def test_what_float32_has_rounded_is_a_cause_and_no_difference(kind: str) -> None:
    ours, theirs, side, place = EXPLAINED[kind]
    assert_explained(check(scaled_pair(ours, theirs)), side, place)


@pytest.mark.parametrize("kind", EXPLAINED)
def test_what_is_more_than_its_rounding_is_different(kind: str) -> None:
    ours, theirs, _, _ = EXPLAINED[kind]
    result = check(scaled_pair(ours, lambda layer: theirs(layer) * 1.00001))
    assert_parts_in(result, "forward")
    assert CAUSE not in {cause.id for cause in result.causes}
    wrong = [c for c in result.checks if c.verdict == "DIFFERENT"]
    assert all("explain" in c.detail for c in wrong), result.report()


def test_a_table_in_a_buffer_that_float32_has_rounded() -> None:
    pair = scaled_pair(lambda m: m.table, lambda _: table(), buffer=table().astype(np.float32))
    result = check(pair, free_steps=0)
    assert result.verdict == "EQUIVALENT", result.report()
    assert [(c.id, c.torch, c.keras) for c in result.causes] == [(CAUSE, "table (a buffer)", None)]
    assert_parts_in(check(scaled_pair(lambda m: m.table, lambda _: table(), buffer=table() + 1e-9)), "forward")


def test_an_equal_table_of_both_sides_is_listed_and_causes_nothing() -> None:
    narrow = table().astype(np.float32)
    result = check(scaled_pair(lambda m: as_tensor(narrow), lambda _: narrow))
    assert result.verdict == "EQUIVALENT", result.report()
    assert not result.causes
    assert any(c.phase == "trajectory" for c in result.checks)
    listed = [n for n in result.notes if "rounded to float32" in n]
    assert {n.split()[1] for n in listed} == {"torch", "keras"}


def test_numbers_that_float32_holds_exactly_explain_nothing() -> None:
    half = np.full(6, 0.5, np.float32)
    result = check(scaled_pair(lambda m: as_tensor(half), lambda _: np.full(6, 0.5 * (1 + 1e-9))))
    assert_parts_in(result, "forward")
    assert not [n for n in result.notes if "rounded to float32" in n]


def resized(share: float = 1.0, own_kernel: bool = True) -> xcheck.Pair:
    """Upsampling, which TensorFlow's own kernel computes in float32 whatever it is given, forward and back."""
    import keras
    import tensorflow as tf
    from torch import nn

    class Up(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            size = (2 * x.shape[1], 2 * x.shape[2])
            return tf.cast(tf.raw_ops.ResizeBilinear(images=x, size=size, half_pixel_centers=True), x.dtype)

        def compute_output_shape(self, shape: Any) -> Any:
            return (shape[0], 2 * shape[1], 2 * shape[2], shape[3])

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((4, 5, 5, 2)))

    def build_torch() -> Any:
        up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        return nn.Sequential(nn.Conv2d(2, 3, 3), up, nn.Conv2d(3, 2, 3))

    def build_keras() -> Any:
        layers = keras.layers
        up = Up(name="up") if own_kernel else layers.UpSampling2D(2, interpolation="bilinear", name="up")
        bend = layers.Rescaling(share)
        convolutions = layers.Conv2D(3, 3, name="a"), layers.Conv2D(2, 3, name="b")
        return keras.Sequential([keras.Input((5, 5, 2)), convolutions[0], up, bend, convolutions[1]], name="net")

    names = {"0": "a", "2": "b"}
    kinds = {"weight": "kernel", "bias": "bias"}
    return xcheck.Pair(
        name="resized",
        torch=xcheck.TorchSide(
            build_torch,
            prepare=lambda batch: (np.moveaxis(np.asarray(batch.inputs), -1, 1), None),
            outputs=lambda y: y.movedim(1, -1),
        ),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={f"{t}.{w}": f"net/{k}/{v}" for t, k in names.items() for w, v in kinds.items()},
    )


def test_a_kernel_that_computes_in_float32() -> None:
    result = check(resized())
    assert_explained(result, "keras", "net/up (cast)")
    assert {c.verdict for c in result.checks if c.phase in ("gradient", "update")} == {"EQUIVALENT"}
    assert_parts_in(check(resized(share=1.0001)), "forward")


def test_the_resizing_of_keras_is_kept_in_float64() -> None:
    result = check(resized(own_kernel=False))
    assert result.verdict == "EQUIVALENT", result.report()
    assert not result.causes
    assert any("tf.image.resize" in note for note in result.notes)


def test_a_number_is_rounded_if_it_needs_nearly_all_digits_of_float32() -> None:
    simple = np.array([0.0, 1.0, -2.5, 65535.0, 2.0**-30, 1e30, np.inf, np.nan, 0.1, 1 / 3])
    assert list(rounded_by_float32(simple)) == [False] * 10
    rounded = np.array([0.1, 1 / 3, -1e30, 16777215.0], np.float32).astype(np.float64)
    assert rounded_by_float32(rounded).all()
    rng = np.random.default_rng(0)
    assert not rounded_by_float32(rng.standard_normal(10_000)).any()
    assert rounded_by_float32(rng.standard_normal(10_000).astype(np.float32)).mean() > 0.99


def test_an_array_was_made_in_float32_if_it_holds_nothing_else() -> None:
    narrow = table().astype(np.float32)
    assert made_in_float32(narrow.astype(np.float64))
    assert not made_in_float32(narrow)  # of float32 by its type, not by its digits
    assert not made_in_float32(np.append(narrow.astype(np.float64), 0.1))
    assert not made_in_float32(np.arange(10.0))
    assert not made_in_float32(np.array([np.nan, float(np.float32(0.1))]))


def test_a_number_is_moved_by_half_of_the_spacing_of_float32_and_a_simple_one_stays() -> None:
    values = np.array([float(np.float32(0.1)), 0.5])
    moved = np.array([factors(values, np.random.default_rng(seed)) for seed in range(20)])
    assert set(np.abs(moved[:, 0] - 1.0)) == {2.0**-24}
    assert (moved[:, 1] == 1.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_keeps_float64_on_its_other_backends(backend: str) -> None:
    """Keras itself turns what a promotion gives into float32 there: its mean was off by 1e-8."""
    pytest.importorskip(backend)
    code = (
        "import sys; sys.path.insert(0, 'tests/helpers')\n"
        "import xcheck; from ports import mlp\n"
        "print(xcheck.check(mlp(), steps=1, precision=('float64',), free_steps=0).report())\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.startswith("EQUIVALENT"), done.stdout + done.stderr[-2000:]


def test_accuracy_among_the_metrics_runs_in_float64():
    """Keras's argmax reads the sign of a zero from the bits of a float32."""
    import keras
    from ports import dilated_conv

    from xcheck.frameworks.keras.patches.precision import float64_throughout

    pair = dilated_conv()
    options = {**pair.keras.compile_options, "metrics": ["accuracy"]}
    pair = replace(pair, keras=replace(pair.keras, compile_options=options))
    result = xcheck.check(pair, steps=1, precision=["float64"], free_steps=0)
    assert result.verdict == "EQUIVALENT", result.report()
    with float64_throughout():
        assert keras.ops.argmax(np.array([-0.0, 0.0, -1.0])) == 1
        assert list(keras.ops.signbit(np.array([-0.0, 0.0, -2.0, 2.0]))) == [True, False, True, False]
