"""Layouts: each is inverted exactly, and each means what the loop beside it means."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcheck.layouts import LAYOUTS, fitting
from xcheck.layouts.kinds import KINDS, between, promised

N = st.integers(1, 5)


def couples(name: str) -> st.SearchStrategy[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(PyTorch shape, Keras shape) that belong together, from the layout's own words."""
    kernel = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
    return {
        "identity": st.lists(N, max_size=4).map(tuple).map(lambda s: (s, s)),
        "transpose": st.tuples(N, N).map(lambda s: (s, s[::-1])),
        "conv": st.tuples(N, N, kernel).map(lambda s: ((s[0], s[1], *s[2]), (*s[2], s[1], s[0]))),
        "conv_transpose": st.tuples(N, N, kernel).map(lambda s: ((s[0], s[1], *s[2]), (*s[2], s[1], s[0]))),
        "depthwise": st.tuples(N, N, kernel).map(lambda s: ((s[0] * s[1], 1, *s[2]), (*s[2], s[0], s[1]))),
        "gru_kernel": st.tuples(N, N).map(lambda s: ((3 * s[0], s[1]), (s[1], 3 * s[0]))),
        "gru_bias": N.map(lambda h: ((3 * h,), (3 * h,))),
        "split_heads": st.tuples(N, N, N).map(lambda s: ((s[0] * s[1], s[2]), (s[2], s[0], s[1]))),
        "heads_first": st.tuples(N, N, N).map(lambda s: ((s[0] * s[1], s[2]), (s[0], s[2], s[1]))),
        "merge_heads": st.tuples(N, N, N).map(lambda s: ((s[2], s[0] * s[1]), (s[0], s[1], s[2]))),
        "split_last": st.tuples(N, N, N).map(lambda s: ((s[0], s[1] * s[2]), s)),
        "merge_first": st.tuples(N, N, N).map(lambda s: ((s[0] * s[1], s[2]), s)),
        "channels_last": st.tuples(N, st.integers(1, 3)).map(lambda s: ((s[0],), (*[1] * s[1], s[0]))),
        "head_bias": st.tuples(N, N).map(lambda s: ((s[0] * s[1],), s)),
    }[name]


def numbered(*shape: int) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=float).reshape(shape)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_inverted_exactly_and_fits_the_shapes_it_claims(name):
    layout = LAYOUTS[name]

    @settings(max_examples=20, deadline=None)
    @given(couples(name))
    def holds(shapes):
        torch_shape, keras_shape = shapes
        assert layout.fits(torch_shape, keras_shape)
        assert name in fitting(torch_shape, keras_shape)
        torch, keras = numbered(*torch_shape), numbered(*keras_shape)
        there = layout.forward(torch, keras_shape)
        assert there.shape == keras_shape
        assert np.array_equal(layout.inverse(there, torch_shape), torch)
        assert np.array_equal(layout.forward(layout.inverse(keras, torch_shape), keras_shape), keras)
        assert sorted(there.reshape(-1)) == sorted(torch.reshape(-1))

    holds()


def test_a_square_matrix_fits_both_ways_and_only_one_of_them_is_right():
    square = numbered(4, 4)
    assert {"identity", "transpose"} <= set(fitting((4, 4), (4, 4)))
    assert not np.array_equal(LAYOUTS["transpose"].forward(square, (4, 4)), LAYOUTS["identity"].forward(square, (4, 4)))


def test_conv_is_the_same_sum_in_both_layouts():
    outputs, inputs, height, width = 4, 3, 2, 5
    torch = numbered(outputs, inputs, height, width)
    keras = LAYOUTS["conv"].forward(torch, (height, width, inputs, outputs))
    for o, i, h, w in itertools.product(range(outputs), range(inputs), range(height), range(width)):
        assert keras[h, w, i, o] == torch[o, i, h, w]


def test_conv_transpose_puts_the_outputs_before_the_inputs():
    inputs, outputs, height, width = 3, 4, 2, 5
    torch = numbered(inputs, outputs, height, width)
    keras = LAYOUTS["conv_transpose"].forward(torch, (height, width, outputs, inputs))
    for i, o, h, w in itertools.product(range(inputs), range(outputs), range(height), range(width)):
        assert keras[h, w, o, i] == torch[i, o, h, w]


def test_depthwise_gives_the_channels_in_one_order_with_a_multiplier_above_one():
    channels, multiplier, height, width = 3, 2, 2, 4
    rng = np.random.default_rng(0)
    torch, patch = rng.standard_normal((6, 1, height, width)), rng.standard_normal((height, width, channels))
    keras = LAYOUTS["depthwise"].forward(torch, (height, width, channels, multiplier))
    for o in range(channels * multiplier):
        # PyTorch with groups=channels: output o reads input o // m. Keras: input c feeds the outputs c * m + q.
        c, q = divmod(o, multiplier)
        by_torch = sum(torch[o, 0, h, w] * patch[h, w, c] for h in range(height) for w in range(width))
        by_keras = sum(keras[h, w, c, q] * patch[h, w, c] for h in range(height) for w in range(width))
        assert by_torch == by_keras


@pytest.mark.parametrize("hidden", [1, 2, 4])
def test_gru_gates_go_from_reset_update_new_to_update_reset_new(hidden):
    inputs, h = 3, hidden
    torch = numbered(3 * h, inputs)
    keras = LAYOUTS["gru_kernel"].forward(torch, (inputs, 3 * h))
    reset, update, new = torch[:h], torch[h : 2 * h], torch[2 * h :]
    assert np.array_equal(keras[:, :h], update.T)
    assert np.array_equal(keras[:, h : 2 * h], reset.T)
    assert np.array_equal(keras[:, 2 * h :], new.T)
    bias = numbered(3 * h)
    there = LAYOUTS["gru_bias"].forward(bias, (3 * h,))
    assert there.tolist() == [*bias[h : 2 * h], *bias[:h], *bias[2 * h :]]


def test_heads_are_split_and_merged_as_the_projections_of_attention_do():
    heads, size, width = 2, 3, 5
    rng = np.random.default_rng(1)
    query, x = rng.standard_normal((heads * size, width)), rng.standard_normal(width)
    split = LAYOUTS["split_heads"].forward(query, (width, heads, size))
    assert np.einsum("i,ihd->hd", x, split) == pytest.approx((query @ x).reshape(heads, size))
    out, y = rng.standard_normal((width, heads * size)), rng.standard_normal(heads * size)
    merged = LAYOUTS["merge_heads"].forward(out, (heads, size, width))
    assert np.einsum("hd,hdo->o", y.reshape(heads, size), merged) == pytest.approx(out @ y)
    bias = rng.standard_normal(heads * size)
    assert np.array_equal(LAYOUTS["head_bias"].forward(bias, (heads, size)), bias.reshape(heads, size))


@pytest.mark.parametrize(
    ("name", "torch_shape", "keras_shape"),
    [
        ("identity", (2, 3), (3, 2)),
        ("identity", (6,), (2, 3)),
        ("transpose", (2, 3), (2, 3)),
        ("transpose", (3,), (3,)),
        ("transpose", (2, 3, 4), (4, 3, 2)),
        ("conv", (4, 3, 2, 2), (4, 3, 2, 2)),
        ("conv", (4, 3), (3, 4)),
        ("conv", (4, 3, 2, 5), (5, 2, 3, 4)),
        ("conv_transpose", (4, 3, 2, 2), (2, 2, 4, 3)),
        ("depthwise", (6, 2, 2, 2), (2, 2, 3, 2)),
        ("depthwise", (6, 1, 2, 2), (2, 2, 6, 2)),
        ("depthwise", (4, 1, 3, 3), (4, 1)),
        ("depthwise", (6,), (6,)),
        ("depthwise", (), ()),
        ("gru_kernel", (4, 2), (2, 4)),
        ("gru_kernel", (6, 2), (6, 2)),
        ("gru_kernel", (6,), (6,)),
        ("gru_kernel", (3, 3, 3), (3, 3, 3)),
        ("gru_bias", (4,), (4,)),
        ("gru_bias", (6,), (2, 3)),
        ("split_heads", (6, 5), (5, 6)),
        ("split_heads", (6, 5), (5, 2, 4)),
        ("split_heads", (6, 5), (6, 5, 1)),
        ("merge_heads", (5, 6), (2, 4, 5)),
        ("head_bias", (6,), (2, 4)),
        ("head_bias", (2, 3), (2, 3)),
    ],
)
def test_a_layout_does_not_fit_shapes_that_it_is_not_about(name, torch_shape, keras_shape):
    assert not LAYOUTS[name].fits(torch_shape, keras_shape)
    assert name not in fitting(torch_shape, keras_shape)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_every_kind_names_layouts_that_exist_and_finds_them_by_role(kinds):
    for promise in KINDS[kinds]:
        assert all(name in LAYOUTS for name in promise.layouts)
        for role in promise.torch_roles:
            assert promise in promised(kinds[0], role, kinds[1], promise.keras_role, f"model/{promise.inner}")
            assert promise not in promised(kinds[0], role, kinds[1], promise.keras_role + "_", promise.inner)
            if promise.inner:
                assert promise not in promised(kinds[0], role, kinds[1], promise.keras_role, "model/other")


@pytest.mark.parametrize(
    ("torch_kind", "role", "keras_kind", "there"),
    [
        ("Linear", "weight", "Dense", "bias"),
        ("Linear", "weight", "Embedding", "embeddings"),
        ("Linear", "scale", "Dense", "kernel"),
        ("Conv2d", "weight", "Conv1D", "kernel"),
        ("Dense", "weight", "Linear", "kernel"),
        ("MyLinear", "weight", "Dense", "kernel"),
    ],
)
def test_kinds_and_roles_that_do_not_belong_together_promise_nothing(torch_kind, role, keras_kind, there):
    assert between(torch_kind, role, keras_kind, there) is None


def test_the_kind_decides_and_not_the_shape():
    layouts = {
        between("Linear", "weight", "Dense", "kernel").name,
        between("Linear", "weight", "ReversibleEmbedding", "embeddings").name,
    }
    assert layouts == {"transpose", "identity"}
    assert between("Conv2d", "weight", "Conv2D", "kernel").name == "conv"
    assert between("Conv2d", "weight", "DepthwiseConv2D", "kernel").name == "depthwise"
    assert between("ConvTranspose2d", "weight", "Conv2DTranspose", "kernel").name == "conv_transpose"


def test_cells_of_recurrent_layers_are_known_with_and_without_the_layer_number():
    for role in ("weight_ih", "weight_ih_l0"):
        assert between("GRU", role, "GRUCell", "kernel").name == "gru_kernel"
        assert between("LSTM", role, "LSTMCell", "kernel").name == "transpose"
    for role in ("weight_ih_l1", "weight_ih_l0_reverse", "weight_ih_l12_reverse"):
        assert between("LSTM", role, "LSTMCell", "kernel").name == "transpose"
    assert between("LSTMCell", "weight_ih_lower", "LSTMCell", "kernel") is None
    assert between("Linear", "weight_l1", "Dense", "kernel") is None
