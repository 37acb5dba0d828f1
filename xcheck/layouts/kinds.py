"""The table of layer kinds: which parameter of one corresponds to which of the other, through which layout.

Kinds are class names of the frameworks' own layers. A role is the name of a parameter in its layer, prefixed with the
name of an inner layer ("query/kernel") that holds the parameter. Roles are expressions, as in a weight map:
"bias_ih + bias_hh" is a sum, "in_proj_weight[0/3]" is the first third.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .named import LAYOUTS, Layout
from .patterns import Shape


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of the table.

    Attributes:
        torch, keras: roles.
        layouts: names of the layouts; with several, the one that fits the shapes applies.
    """

    torch: str
    keras: str
    layouts: tuple[str, ...]

    @property
    def torch_roles(self) -> tuple[str, ...]:
        """The summed roles, without their parts."""
        return tuple(role.partition("[")[0] for role in self.torch.split(" + "))

    @property
    def keras_role(self) -> str:
        """The role without the inner layer and without its part."""
        return self.keras.partition("[")[0].rpartition("/")[2]

    @property
    def inner(self) -> str:
        """The last name of the Keras layer that holds the parameter; "" for any."""
        return self.keras.partition("[")[0].rpartition("/")[0]

    def layout(self, torch_shape: Shape, keras_shape: Shape) -> Layout | None:
        """The only fitting layout; a promise with one name returns it even if it does not fit, to be reported."""
        if len(self.layouts) == 1:
            return LAYOUTS[self.layouts[0]]
        fitting_names = [name for name in self.layouts if LAYOUTS[name].fits(torch_shape, keras_shape)]
        return LAYOUTS[fitting_names[0]] if len(fitting_names) == 1 else None


def _promises(*rows: tuple[str, str, str]) -> tuple[Promise, ...]:
    return tuple(Promise(torch, keras, tuple(layouts.split(" or "))) for torch, keras, layouts in rows)


_BIAS = ("bias", "bias", "identity")
_DENSE = _promises(("weight", "kernel", "transpose"), _BIAS)
_EMBEDDING = _promises(("weight", "embeddings", "identity"))
_AFFINE = _promises(("weight", "gamma", "identity"), ("bias", "beta", "identity"))
_RUNNING = _promises(
    ("running_mean", "moving_mean", "identity"),
    ("running_var", "moving_variance", "identity"),
)
_EINSUM_BIAS = ("bias", "bias", "identity or head_bias")
_GATES = (("weight_ih", "kernel"), ("weight_hh", "recurrent_kernel"))
_TWO_BIASES = ("bias_ih + bias_hh", "bias", "identity")
_LSTM = _promises(*((*roles, "transpose") for roles in _GATES), _TWO_BIASES)
_GRU = _promises(
    *((*roles, "gru_kernel") for roles in _GATES),
    ("bias_ih", "bias[0]", "gru_bias"),
    ("bias_hh", "bias[1]", "gru_bias"),
)
_ATTENTION = _promises(
    *(
        (f"in_proj_weight[{i}/3]", f"{inner}/kernel", "split_heads")
        for i, inner in enumerate(("query", "key", "value"))
    ),
    *((f"in_proj_bias[{i}/3]", f"{inner}/bias", "head_bias") for i, inner in enumerate(("query", "key", "value"))),
    *((f"{inner[0]}_proj_weight", f"{inner}/kernel", "split_heads") for inner in ("query", "key", "value")),
)
_PACKED = _promises(
    *((f"weight[:, {i}/3]", f"{inner}/kernel", "split_last") for i, inner in enumerate(("query", "key", "value"))),
    *((f"bias[{i}/3]", f"{inner}/bias", "head_bias") for i, inner in enumerate(("query", "key", "value"))),
    ("weight", "attention_output/kernel", "merge_first"),
    ("bias", "attention_output/bias", "identity"),
)

KINDS: dict[tuple[str, str], tuple[Promise, ...]] = {
    ("Linear", "Dense"): _DENSE,
    ("Linear", "EinsumDense"): (
        *_promises(("weight", "kernel", "transpose or split_heads or merge_heads or heads_first"), _EINSUM_BIAS),
    ),
    ("Conv1D", "Dense"): _promises(("weight", "kernel", "identity"), _BIAS),
    ("Conv1D", "EinsumDense"): _PACKED,
    ("MultiheadAttention", "EinsumDense"): _ATTENTION,
    ("Embedding", "Embedding"): _EMBEDDING,
    ("Embedding", "ReversibleEmbedding"): _EMBEDDING,
    ("Embedding", "PositionEmbedding"): _promises(("weight", "embeddings", "identity")),
    ("EmbeddingBag", "Embedding"): _EMBEDDING,
    ("Linear", "ReversibleEmbedding"): _promises(
        ("weight", "embeddings", "identity"), ("weight", "reverse_embeddings", "transpose")
    ),
    ("LayerNorm", "LayerNormalization"): _AFFINE,
    ("GroupNorm", "GroupNormalization"): _AFFINE,
    ("RMSNorm", "RMSNormalization"): _promises(("weight", "scale", "identity")),
    ("PReLU", "PReLU"): _promises(("weight", "alpha", "identity or channels_last")),
    ("LSTM", "LSTMCell"): _LSTM,
    ("LSTMCell", "LSTMCell"): _LSTM,
    ("GRU", "GRUCell"): _GRU,
    ("GRUCell", "GRUCell"): _GRU,
    ("RNN", "SimpleRNNCell"): _LSTM,
    ("RNNCell", "SimpleRNNCell"): _LSTM,
    **{(f"BatchNorm{n}d", "BatchNormalization"): (*_AFFINE, *_RUNNING) for n in (1, 2, 3)},
    ("SyncBatchNorm", "BatchNormalization"): (*_AFFINE, *_RUNNING),
    **{(f"InstanceNorm{n}d", "GroupNormalization"): _AFFINE for n in (1, 2, 3)},
    **{(f"Conv{n}d", f"Conv{n}D"): _promises(("weight", "kernel", "conv"), _BIAS) for n in (1, 2, 3)},
    **{(f"Conv{n}d", f"DepthwiseConv{n}D"): _promises(("weight", "kernel", "depthwise"), _BIAS) for n in (1, 2)},
    **{
        (f"Conv{n}d", f"SeparableConv{n}D"): _promises(
            ("weight", "depthwise_kernel", "depthwise"), ("weight", "pointwise_kernel", "conv"), _BIAS
        )
        for n in (1, 2)
    },
    **{
        (f"ConvTranspose{n}d", f"Conv{n}DTranspose"): _promises(("weight", "kernel", "conv_transpose"), _BIAS)
        for n in (1, 2, 3)
    },
}
"""(PyTorch layer kind, Keras layer kind) -> their promises."""

INNER = frozenset(promise.inner for rows in KINDS.values() for promise in rows if promise.inner)
"""Names of the inner Keras layers of all promises."""

GATED = ("GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell")
"""Layer kinds whose vectors consist of gates, in a different order in each framework."""

_SAME_AS = {"NonDynamicallyQuantizableLinear": "Linear"}
_NUMBERED = re.compile(r"_l\d+(_reverse)?$")


def kind_family(torch_kind: str) -> str:
    """The kind of a PyTorch layer in the table."""
    return _SAME_AS.get(torch_kind, torch_kind)


def role_family(torch_kind: str, role: str) -> tuple[str, str]:
    """A role in the table, and the removed suffix: nn.LSTM numbers the weights of its layers, as in weight_ih_l0."""
    match = _NUMBERED.search(role) if torch_kind in GATED else None
    return (role[: match.start()], match.group()) if match else (role, "")


def promised(
    torch_kind: str, torch_role: str, keras_kind: str, keras_role: str, keras_owner: str = ""
) -> list[Promise]:
    """The promises of two layer kinds for two roles; several where parts of one parameter belong to the other.

    Args:
        torch_kind, keras_kind: class names of the layers that own the parameter, such as "Conv2d", "Conv2D".
        torch_role, keras_role: its name in the layer, such as "weight", "kernel".
        keras_owner: path of the Keras layer.
    """
    kind = kind_family(torch_kind)
    role, _ = role_family(kind, torch_role)
    inner = keras_owner.rpartition("/")[2]
    return [
        p
        for p in KINDS.get((kind, keras_kind), ())
        if role in p.torch_roles and keras_role == p.keras_role and (not p.inner or p.inner == inner)
    ]


def between(torch_kind: str, torch_role: str, keras_kind: str, keras_role: str) -> Layout | None:
    """The layout of a parameter between two layer kinds; None if the table has none, or several.

    Args:
        torch_kind, torch_role, keras_kind, keras_role: as for `promised`.
    """
    promises = promised(torch_kind, torch_role, keras_kind, keras_role)
    names = {name for p in promises for name in p.layouts}
    return LAYOUTS[names.pop()] if len(names) == 1 else None
