"""The cause of a layer that differs: each fault is named with its numbers, and none is named where more is wrong."""

from __future__ import annotations

import pytest
from layer_cases import IMAGE, SEQUENCE, Case, as_module, looked_into, pair_of

AFFINE = {"weight": "gamma", "bias": "beta"}
KERNEL = {"weight": "kernel", "bias": "bias"}
CASES: dict[str, Case] = {
    "epsilon of a group norm": Case(
        "epsilon",
        lambda t: t.nn.GroupNorm(2, 4),
        lambda k, x: k.layers.GroupNormalization(2, name="layer")(x),
        IMAGE,
        ("1e-05 in torch and 0.001 in keras",),
        AFFINE,
    ),
    "groups of a group norm": Case(
        "groups",
        lambda t: t.nn.GroupNorm(2, 4),
        lambda k, x: k.layers.GroupNormalization(4, epsilon=1e-5, name="layer")(x),
        IMAGE,
        ("2 in torch and 4 in keras",),
        AFFINE,
    ),
    "channels of a batch norm, on images as large as they have channels": Case(
        "channel_axis",
        lambda t: t.nn.BatchNorm2d(4, affine=False),
        lambda k, x: k.layers.BatchNormalization(axis=1, epsilon=1e-5, center=False, scale=False, name="layer")(x),
        (3, 4, 6, 4),
        ("axis 3 of (3, 4, 6, 4) in torch and axis 1 of (3, 4, 6, 4) in keras",),
    ),
    "a kernel that one side divides by its largest singular value": Case(
        "scaled_weight",
        lambda t: t.nn.utils.parametrizations.spectral_norm(t.nn.Linear(8, 5)),
        lambda k, x: k.layers.Dense(5, name="layer")(x),
        words=("the factor on the kernel", "1 in keras"),
        map={"parametrizations.weight.original": ("kernel", "transpose"), "bias": "bias"},
    ),
    "a convolution whose kernel one side divides by its largest singular value": Case(
        "scaled_weight",
        lambda t: t.nn.utils.parametrizations.spectral_norm(t.nn.Conv2d(4, 5, 3, padding=1)),
        lambda k, x: k.layers.Conv2D(5, 3, padding="same", name="layer")(x),
        IMAGE,
        ("the factor on the kernel", "1 in keras"),
        {"parametrizations.weight.original": ("kernel", "conv"), "bias": "bias"},
    ),
    "border of a padding": Case(
        "padding_mode",
        lambda t: as_module(lambda v: t.nn.functional.pad(v, (2, 1, 0, 2), mode="reflect")),
        lambda k, x: k.ops.pad(x, ((0, 0), (0, 2), (2, 1), (0, 0)), mode="symmetric"),
        IMAGE,
        ("reflection without the edge in torch and reflection with the edge in keras",),
    ),
    "growing by a factor that the sizes do not have": Case(
        "resize_factor",
        lambda t: t.nn.Upsample(scale_factor=1.7, mode="bilinear"),
        lambda k, x: k.ops.image.resize(x, (11, 10), interpolation="bilinear"),
        IMAGE,
        ("1.7 in torch and the ratio of the sizes in keras",),
    ),
    "positions of a table of cubics": Case(
        "rounded_positions",
        lambda t: as_module(lambda v: t.nn.functional.interpolate(v, (9, 8), mode="bicubic", antialias=True)),
        lambda k, x: k.ops.image.resize(x, (9, 8), interpolation="bicubic"),
        IMAGE,
        ("False in torch and True in keras",),
    ),
    "parts in another order": Case(
        "other_part",
        lambda t: as_module(lambda v: t.sigmoid(v.chunk(2, -1)[0]) * v.chunk(2, -1)[1].exp()),
        lambda k, x: k.ops.sigmoid(k.ops.split(x, 2, -1)[1]) * k.ops.exp(k.ops.split(x, 2, -1)[1]),
        words=("sigmoid", "of the output of chunk in torch and of that of split in keras", "of a different part"),
    ),
    "a gate of another state": Case(
        "other_operand",
        lambda t: as_module(lambda v: (t.sigmoid(v) * t.sin(v)).cumsum(-1) + t.cos(v)),
        lambda k, x: k.ops.cumsum(k.ops.sigmoid(x) * k.ops.cos(x), -1) + k.ops.cos(x) + 0.0 * k.ops.sin(x),
        words=("the product is of different tensors",),
    ),
    "a sum for a product": Case(
        "other_function",
        lambda t: as_module(lambda v: t.sin(v) + t.cos(v)),
        lambda k, x: k.ops.sin(x) * k.ops.cos(x),
        words=("combined by sum in torch and by product in keras",),
    ),
    "axis of a layer norm": Case(
        "normalised_axis",
        lambda t: t.nn.LayerNorm(8, elementwise_affine=False),
        lambda k, x: k.layers.LayerNormalization(axis=1, epsilon=1e-5, center=False, scale=False, name="layer")(x),
        words=("(2,) in torch and (1,) in keras",),
    ),
    "a mean that is not subtracted": Case(
        "mean_not_subtracted",
        lambda t: t.nn.LayerNorm(8, bias=False),
        lambda k, x: k.layers.RMSNormalization(epsilon=1e-5, name="layer")(x),
        words=("True in torch and False in keras",),
        map={"weight": "scale"},
    ),
    "slope of a leaky relu": Case(
        "activation",
        lambda t: t.nn.LeakyReLU(),
        lambda k, x: k.layers.LeakyReLU(name="layer")(x),
        words=("slope 0.01 in torch", "slope 0.3 in keras"),
    ),
    "the hard sigmoid of Keras 2": Case(
        "activation",
        lambda t: t.nn.Hardsigmoid(),
        lambda k, x: k.layers.Lambda(lambda v: k.ops.clip(0.2 * v + 0.5, 0, 1), name="layer")(x),
        words=("hard_sigmoid (x / 6 + 0.5) in torch", "hard_sigmoid (0.2 x + 0.5) in keras"),
    ),
    "alpha of an elu": Case(
        "activation",
        lambda t: t.nn.ELU(0.5),
        lambda k, x: k.layers.ELU(name="layer")(x),
        words=("alpha 0.5 in torch", "alpha 1 in keras"),
    ),
    "a constant of a gelu that is written out": Case(  # what its first calls make is a function of the input too
        "activation",
        lambda t: as_module(lambda v: v * 0.5 * (1.0 + t.tanh(0.8 * v * (1 + 0.044715 * v * v)))),
        lambda k, x: k.layers.Activation(lambda v: k.ops.gelu(v, approximate=True), name="layer")(x),
        words=("taken as 0.8 in torch", "gelu (tanh) in keras"),
    ),
    "silu for gelu": Case(
        "activation",
        lambda t: t.nn.GELU("tanh"),
        lambda k, x: k.layers.Activation("silu", name="layer")(x),
        words=("gelu (tanh) in torch", "silu in keras"),
    ),
    "padding of a strided convolution": Case(
        "padding",
        lambda t: t.nn.Conv2d(4, 3, 3, stride=2, padding=1),
        lambda k, x: k.layers.Conv2D(3, 3, strides=2, padding="same", name="layer")(x),
        (2, 6, 6, 4),
        ("1 before and 1 after in torch", "0 before and 1 after in keras"),
        KERNEL,
    ),
    "padding of a strided convolution with an activation": Case(
        "padding",
        lambda t: t.nn.Sequential(t.nn.Conv2d(4, 3, 3, stride=2, padding=1), t.nn.ReLU()),
        lambda k, x: k.layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", name="layer")(x),
        (2, 6, 6, 4),
        ("1 before and 1 after in torch", "0 before and 1 after in keras"),
        {"0.weight": "kernel", "0.bias": "bias"},
    ),
    "the padding of the border": Case(
        "padding_mode",
        lambda t: t.nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
        lambda k, x: k.layers.Conv2D(3, 3, padding="same", name="layer")(x),
        IMAGE,
        ("'reflect' in torch and 'zeros' in keras",),
        KERNEL,
    ),
    "a dilation left out": Case(
        "dilation",
        lambda t: t.nn.Conv1d(8, 3, 3, padding="same", dilation=2),
        lambda k, x: k.layers.Conv1D(3, 3, padding="same", name="layer")(x),
        SEQUENCE,
        ("(2,) in torch and (1,) in keras",),
        KERNEL,
    ),
    "crop of a transposed convolution": Case(
        "padding",
        lambda t: t.nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        lambda k, x: k.layers.Conv2DTranspose(3, 3, strides=2, padding="same", name="layer")(x),
        IMAGE,
        ("the cropping of the output is 1 before and 0 after in torch", "0 before and 1 after in keras"),
        KERNEL,
    ),
    "the border of a mean": Case(
        "pool_border",
        lambda t: t.nn.AvgPool2d(3, 1, 1),
        lambda k, x: k.layers.AveragePooling2D(3, 1, padding="same", name="layer")(x),
        IMAGE,
        ("counted in torch and left out in keras",),
    ),
    "padding of a maximum": Case(
        "padding",
        lambda t: t.nn.MaxPool2d(3, 2, 1),
        lambda k, x: k.layers.MaxPooling2D(3, 2, padding="same", name="layer")(x),
        (2, 6, 6, 4),
        ("1 before and 1 after in torch",),
    ),
    "a square kernel that is not transposed": Case(
        "transposed_kernel",
        lambda t: t.nn.Linear(8, 8),
        lambda k, x: k.layers.Dense(8, name="layer")(x),
        SEQUENCE,
        ("the kernel is transposed in torch and as it is in keras",),
        {"weight": ("kernel", "identity"), "bias": "bias"},
    ),
    "axis of a softmax": Case(
        "axis",
        lambda t: t.nn.Softmax(dim=-1),
        lambda k, x: k.layers.Softmax(axis=1, name="layer")(x),
        SEQUENCE,
        ("softmax is taken over axis 2",),
    ),
    "divisor of a deviation": Case(
        "biased_variance",
        lambda t: as_module(lambda x: x.std(dim=1)),
        lambda k, x: k.ops.std(x, axis=1),
        SEQUENCE,
        ("divided by n - 1) in torch",),
    ),
    "a sum for a mean": Case(
        "reduction",
        lambda t: as_module(lambda x: x.mean(1)),
        lambda k, x: k.ops.sum(x, axis=1),
        SEQUENCE,
        ("the mean in torch, the sum in keras",),
    ),
    "the last step for the first": Case(
        "slice",
        lambda t: as_module(lambda x: x[:, 0]),
        lambda k, x: x[:, -1],
        SEQUENCE,
        ("0:1 of 6 along axis 1 in torch, 5:6",),
    ),
    "a factor on one side": Case(
        "constant_factor",
        lambda t: as_module(lambda x: t.tanh(x) * 8**0.5),
        lambda k, x: k.ops.tanh(x),
        SEQUENCE,
        ("which is the square root of 8",),
    ),
    "half of it on one side": Case(  # which a gelu by tanh with nothing in its tanh is, too
        "constant_factor",
        lambda t: as_module(lambda x: t.tanh(x) * 0.5),
        lambda k, x: k.ops.tanh(x),
        SEQUENCE,
        ("with the factor 0.5 in torch and 1 in keras",),
    ),
    "an offset": Case(
        "constant_offset",
        lambda t: as_module(lambda x: 2 * t.tanh(x) + 0.5),
        lambda k, x: 2 * k.ops.tanh(x) + 0.25,
        SEQUENCE,
        ("0.5 in torch and 0.25 in keras",),
    ),
    "another table added": Case(
        "other_constant",
        lambda t: as_module(lambda x: t.tanh(x) + t.arange(8.0).cos()),
        lambda k, x: k.ops.tanh(x) + k.ops.sin(k.ops.arange(8, dtype=k.config.floatx())),
        SEQUENCE,
        ("0: cos in torch",),
    ),
    "a large term left out beside a small one": Case(
        "missing_term",
        lambda t: as_module(lambda x: t.tanh(x) * 1e-8),
        lambda k, x: k.ops.tanh(x) * 1e-8 + x,
        SEQUENCE,
        ("torch leaves out a term",),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_cause_is_named_and_proven(name):
    case = CASES[name]
    result = looked_into(pair_of(case))
    assert result.first_divergence is not None, result.report()
    assert [(c.id, c.confirmed) for c in result.causes] == [(case.cause, True)], result.report()
    (cause,) = result.causes
    for words in case.words:
        assert words in cause.summary
    assert cause.evidence["before"] > 1e-4
    assert cause.evidence["after"] <= cause.evidence["allowed"] < 1e-11
    assert cause.fix


BY_THEMSELVES = ("other_part", "other_operand", "other_function")
"""Of functions whose value what is spoilt comes behind."""


@pytest.mark.parametrize(
    "name", [n for n, case in CASES.items() if "with an activation" not in n and case.cause not in BY_THEMSELVES]
)
def test_no_cause_is_confirmed_where_something_else_is_wrong_too(name):
    result = looked_into(pair_of(CASES[name], spoilt=True))
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == []


@pytest.mark.parametrize(
    ("torch", "keras"),
    [
        (
            lambda t: as_module(lambda v: t.sigmoid(v.chunk(2, -1)[0]) * v.chunk(2, -1)[1].exp()),
            lambda k, x: k.ops.sigmoid(1.0001 * k.ops.split(x, 2, -1)[1]) * k.ops.exp(k.ops.split(x, 2, -1)[1]),
        ),
        (
            lambda t: as_module(lambda v: t.sin(v) + t.cos(v)),
            lambda k, x: k.ops.arctan2(k.ops.sin(x), k.ops.cos(x)),
        ),
    ],
)
def test_no_other_operand_is_named_where_the_function_is_unknown_or_bent(torch, keras):
    result = looked_into(pair_of(Case("", torch, keras)))
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == []


def test_an_operation_that_is_done_elsewhere_is_no_cause_behind_another():
    """The factor 0.25 comes before the sum on one side and behind it on the other, with something small left there."""
    case = Case(
        "constant_factor",
        lambda t: as_module(lambda v: t.cumsum(t.sin(v * 1.5) * 0.25, -1)),
        lambda k, x: k.ops.cumsum(k.ops.sin(x * 1.25), -1) * (0.25 + 1e-10 * k.ops.sin(1e3 * x)),
    )
    (cause,) = looked_into(pair_of(case)).causes
    assert (cause.id, cause.evidence["torch"], cause.evidence["keras"]) == ("constant_factor", 1.5, 1.25)


def test_the_cubics_of_both_frameworks():
    case = Case(
        "cubic_coefficient",
        lambda t: t.nn.Upsample((14, 12), mode="bicubic"),
        lambda k, x: k.layers.UpSampling2D(2, interpolation="bicubic")(x),
        IMAGE,
    )
    result = looked_into(pair_of(case))
    assert [(c.id, c.confirmed) for c in result.causes] == [("resize_border", True), ("cubic_coefficient", True)]


def test_two_differences_one_right_behind_the_other_are_both_found():
    """What comes after the first agrees only nearly with the reference's value in its place."""
    case = Case(
        "constant_factor",
        lambda t: t.nn.Sequential(
            as_module(lambda v: v + t.sin(v)), t.nn.LayerNorm(8, eps=1e-2, elementwise_affine=False)
        ),
        lambda k, x: k.layers.LayerNormalization(center=False, scale=False)(x + 0.25 * k.ops.sin(x)),
    )
    result = looked_into(pair_of(case))
    assert [(c.id, c.confirmed) for c in result.causes] == [("constant_factor", True), ("epsilon", True)]
    assert result.causes[0].evidence["keras"] == 0.25
