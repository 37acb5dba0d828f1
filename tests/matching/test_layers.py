"""Layers that cut their parameters into other pieces: each trains as the same computation, from a map of few words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xcheck

FEATURES, STEPS, HIDDEN = 4, 5, 6


def sequences(seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((3, STEPS, FEATURES)))


def pair(torch: Any, keras: Any, weight_map: dict[str, Any], **options: Any) -> xcheck.Pair:
    """Two layers on sequences, without a loss: a projection of their outputs is one."""
    first = {"outputs": lambda raw: raw[0] if isinstance(raw, tuple) else raw}
    sides = {"torch": xcheck.TorchSide(torch, **first), "keras": xcheck.KerasSide(lambda: wrapped(keras()))}
    return xcheck.Pair(**{"name": "layers", "batches": sequences, "weight_map": weight_map, **sides, **options})


def wrapped(layers: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((STEPS, FEATURES)), *layers], name="m")


def run(made: xcheck.Pair) -> xcheck.Result:
    return xcheck.check(made, steps=2, free_steps=2, precision=("float64",))


def torch_recurrent(kind: str, trained: tuple[str, ...] = ("weight_", "bias_ih", "bias_hh"), **options: Any) -> Any:
    def build() -> Any:
        import torch

        layer = getattr(torch.nn, kind)(FEATURES, HIDDEN, batch_first=True, **options)
        for name, p in layer.named_parameters():
            p.requires_grad_(name.startswith(trained))
        return layer

    return build


def keras_recurrent(kind: str, **options: Any) -> Any:
    def build() -> Any:
        import keras

        return [getattr(keras.layers, kind)(HIDDEN, return_sequences=True, name="r", **options)]

    return build


def cell(name: str, kind: str, suffix: str = "_l0") -> dict[str, str]:
    """The map of one cell; its bias named once."""
    path = f"m/{name}/{kind}_cell"
    roles = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel", "bias_ih": "bias"}
    return {f"{there}{suffix}": f"{path}/{here}" for there, here in roles.items()}


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize(
    ("torch_kind", "keras_kind", "name"), [("LSTM", "LSTM", "lstm"), ("RNN", "SimpleRNN", "simple_rnn")]
)
def test_two_biases_of_which_one_is_trained_are_one(torch_kind, keras_kind, name, reference):
    torch = torch_recurrent(torch_kind, ("weight_", "bias_ih"))
    result = run(pair(torch, keras_recurrent(keras_kind), cell("r", name), reference=reference))
    assert result.verdict == "EQUIVALENT", result.report()
    assert any(c.name == "bias_ih_l0 + bias_hh_l0" or c.torch == "bias_ih_l0 + bias_hh_l0" for c in result.checks)


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_two_biases_that_are_both_trained_move_twice_as_far(reference):
    result = run(pair(torch_recurrent("LSTM"), keras_recurrent("LSTM"), cell("r", "lstm"), reference=reference))
    assert result.verdict == "DIFFERENT"
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 1)
    assert result.first_divergence.torch == "bias_ih_l0 + bias_hh_l0"
    wrong = {c.torch for c in result.checks if c.verdict == "DIFFERENT" and c.phase == "update"}
    assert wrong == {"bias_ih_l0 + bias_hh_l0"}
    assert {c.verdict for c in result.checks if c.phase == "gradient"} == {"EQUIVALENT"}
    (cause,) = result.causes
    assert (cause.id, cause.confirmed) == ("two_biases", True)
    assert "bias_hh_l0.requires_grad_(False)" in cause.fix


def test_an_update_that_is_wrong_besides_is_no_effect_of_two_biases():
    made = pair(torch_recurrent("LSTM"), keras_recurrent("LSTM"), cell("r", "lstm"))
    moved = replace(made.torch, after_step=lambda model: model.bias_ih_l0.data.mul_(1.01))
    result = run(replace(made, torch=moved))
    assert [c.confirmed for c in result.causes if c.id == "two_biases"] == [False]


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_the_two_biases_of_a_gru_are_the_rows_of_one_variable(reference):
    weight_map = {**cell("r", "gru"), "bias_hh_l0": "m/r/gru_cell/bias"}
    result = run(pair(torch_recurrent("GRU"), keras_recurrent("GRU"), weight_map, reference=reference))
    assert result.verdict == "EQUIVALENT", result.report()
    assert {c.keras for c in result.checks if c.phase == "gradient"} >= {"m/r/gru_cell/bias[0]", "m/r/gru_cell/bias[1]"}


def test_a_gru_bias_of_which_one_row_is_left_out_is_not_covered():
    result = run(pair(torch_recurrent("GRU"), keras_recurrent("GRU"), cell("r", "gru")))
    assert result.verdict == "INCONCLUSIVE"
    details = {c.keras: c.detail for c in result.checks if c.verdict == "INCONCLUSIVE" and c.keras}
    assert "a part of it has no counterpart" in details["m/r/gru_cell/bias"]


def test_layers_and_directions_of_a_recurrent_layer_are_layers_of_keras():
    def keras() -> Any:
        import keras as k

        return [
            k.layers.Bidirectional(k.layers.LSTM(HIDDEN, return_sequences=True, name="r"), name=f"b{i}") for i in (0, 1)
        ]

    weight_map = {
        key: target
        for i in (0, 1)
        for way, suffix in (("forward", ""), ("backward", "_reverse"))
        for key, target in cell(f"b{i}/{way}_r", "lstm", f"_l{i}{suffix}").items()
    }
    torch = torch_recurrent("LSTM", ("weight_", "bias_ih"), num_layers=2, bidirectional=True)
    result = run(pair(torch, keras, weight_map))
    assert result.verdict == "EQUIVALENT", result.report()


def torch_attention() -> Any:
    import torch

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.MultiheadAttention(FEATURES, 2, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.a(x, x, x, need_weights=False)[0]

    return Attention()


def keras_attention() -> Any:
    import keras

    class Attention(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="outer")
            self.a = keras.layers.MultiHeadAttention(2, FEATURES // 2, name="a")

        def call(self, x: Any) -> Any:
            return self.a(x, x)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    return [Attention()]


INNER = "m/outer/a"
ATTENTION = {
    **{f"a.in_proj_{role}": [f"{INNER}/{inner}/{there}" for inner in ("query", "key", "value")]
       for role, there in (("weight", "kernel"), ("bias", "bias"))},
    "a.out_proj.weight": f"{INNER}/attention_output/kernel",
    "a.out_proj.bias": f"{INNER}/attention_output/bias",
}  # fmt: skip


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_attention_with_one_matrix_for_three(reference):
    result = run(pair(torch_attention, keras_attention, ATTENTION, reference=reference))
    names = {c.torch for c in result.checks if c.phase == "sync"}
    assert {"a.in_proj_weight[0:4]", "a.in_proj_weight[4:8]", "a.in_proj_bias[8:12]"} <= names
    # The key's bias has no gradient but for rounding: softmax does not see what is added to every score.
    unsure = {c.name for c in result.checks if c.verdict != "EQUIVALENT"}
    assert unsure <= {n for c in result.checks for n in [c.name] if c.torch == "a.in_proj_bias[4:8]"}, result.report()


def test_query_and_key_swapped_are_not_the_same():
    swapped = dict(ATTENTION)
    swapped.pop("a.in_proj_weight")
    for i, inner in enumerate(("key", "query", "value")):
        swapped[f"a.in_proj_weight[{i}/3]"] = f"{INNER}/{inner}/kernel"
    result = run(pair(torch_attention, keras_attention, swapped))
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.phase == "forward"


def test_a_fused_projection_is_two_layers():
    def torch() -> Any:
        import torch

        class Gated(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.both = torch.nn.Linear(FEATURES, 6)

            def forward(self, x: Any) -> Any:
                up, gate = self.both(x).chunk(2, dim=-1)
                return up * torch.sigmoid(gate)

        return Gated()

    def keras() -> Any:
        import keras as k

        class Gated(k.layers.Layer):
            def __init__(self) -> None:
                super().__init__(name="gated")
                self.up, self.gate = k.layers.Dense(3, name="up"), k.layers.Dense(3, name="gate", activation="sigmoid")

            def call(self, x: Any) -> Any:
                return self.up(x) * self.gate(x)

        return [Gated()]

    weight_map = {
        f"both.{role}[{i}/2]": f"m/gated/{name}/{there}"
        for i, name in enumerate(("up", "gate"))
        for role, there in (("weight", "kernel"), ("bias", "bias"))
    }
    result = run(pair(torch, keras, weight_map))
    assert result.verdict == "EQUIVALENT", result.report()


def test_a_norm_that_stores_its_scale_less_one():
    def torch() -> Any:
        import torch

        class Centred(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(0.1 * torch.randn(FEATURES))

            def forward(self, x: Any) -> Any:
                return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)

        return Centred()

    def keras() -> Any:
        import keras as k

        return [k.layers.RMSNormalization(epsilon=1e-6, name="norm")]

    assert run(pair(torch, keras, {"weight + 1": "m/norm/scale"})).verdict == "EQUIVALENT"
    result = run(pair(torch, keras, {"weight": "m/norm/scale"}))
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward")


def test_a_separable_convolution_is_two_convolutions():
    def torch() -> Any:
        import torch

        class Separable(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.each = torch.nn.Conv1d(FEATURES, 2 * FEATURES, 3, groups=FEATURES, bias=False)
                self.point = torch.nn.Conv1d(2 * FEATURES, 3, 1)
                self.slope = torch.nn.PReLU(3)

            def forward(self, x: Any) -> Any:
                return self.slope(self.point(self.each(x.transpose(1, 2)))).transpose(1, 2)

        return Separable()

    def keras() -> Any:
        import keras as k

        return [
            k.layers.SeparableConv1D(3, 3, depth_multiplier=2, name="s"),
            k.layers.PReLU(shared_axes=[1], alpha_initializer="uniform", name="slope"),
        ]

    weight_map = {
        "each.weight": "m/s/depthwise_kernel",
        "point.weight": "m/s/pointwise_kernel",
        "point.bias": "m/s/bias",
        "slope.weight": "m/slope/alpha",
    }
    result = run(pair(torch, keras, weight_map))
    assert result.verdict == "EQUIVALENT", result.report()
