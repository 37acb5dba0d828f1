"""The parts of nets in Keras; images are (B, rows, columns, channels)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from formulas import FORMULAS
from keras import layers, ops
from parts import Part, Setup, computed, tables
from words import KerasWords


class Own(layers.Layer):
    """A layer with the settings of its part."""

    def __init__(self, s: Mapping[str, Any], name: str) -> None:
        super().__init__(name=name)
        self.s = dict(s)


class Padded(Own):
    """A convolution with padding of its own."""

    def __init__(self, s: Mapping[str, Any], name: str) -> None:
        super().__init__(s, name)
        self.conv = layers.Conv2D(
            s["o"], s["k"], s.get("stride", 1), dilation_rate=s.get("dilation", 1), name=name + "_conv"
        )

    def call(self, x: Any) -> Any:
        p = self.s.get("pad", self.s["k"] // 2)
        mode = {"zeros": "constant", "reflect": "reflect"}[self.s.get("mode", "zeros")]
        return self.conv(ops.pad(x, [[0, 0], [p, p], [p, p], [0, 0]], mode=mode))


class Attention(Own):
    def __init__(self, s: Mapping[str, Any], name: str) -> None:
        super().__init__(s, name)
        self.query, self.key, self.value, self.out = (
            layers.Dense(s["width"], name=n) for n in ("query", "key", "value", "out")
        )

    def call(self, x: Any) -> Any:
        t, d, h = x.shape[1], self.s["width"], self.s["heads"]

        def heads(y: Any) -> Any:
            if self.s.get("heads_last"):
                return ops.transpose(ops.reshape(y, (-1, t, d // h, h)), (0, 3, 1, 2))
            return ops.transpose(ops.reshape(y, (-1, t, h, d // h)), (0, 2, 1, 3))

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * self.s.get("scale", (d // h) ** -0.5)
        if self.s.get("causal", True):
            mask = ops.tril(ops.ones((t, t), dtype="bool"))
            kept = ops.logical_not(ops.transpose(mask)) if self.s.get("turned") else mask
            scores = ops.where(kept, scores, self.s.get("fill", -1e9))
        y = ops.matmul(ops.softmax(scores, self.s.get("axis", -1)), v)
        return self.out(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, t, d)))


class Recurrent(Own):
    def __init__(self, s: Mapping[str, Any], name: str) -> None:
        super().__init__(s, name)
        kind = {"lstm": layers.LSTM, "gru": layers.GRU}[s["cell"]]
        gates = s.get("gates", "sigmoid")
        gates = ACTIVATIONS_BY_NAME.get(gates, gates)
        options: dict[str, Any] = {
            "return_sequences": True,
            "use_bias": s["cell"] == "gru",
            "recurrent_activation": gates,
        }
        rnn: Any = kind(s["o"], **options)
        self.rnn = layers.Bidirectional(rnn) if s.get("both") else rnn

    def call(self, x: Any) -> Any:
        if not self.s.get("batch_first", True):
            return ops.transpose(self.rnn(ops.transpose(x, (1, 0, 2))), (1, 0, 2))
        return self.rnn(x)


class Same(Own):
    """A layer whose output has the shape of its input."""

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Positions(Same):
    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(self.s["length"] + 2, self.s["width"]), name="table")

    def call(self, x: Any) -> Any:
        start = self.s.get("start", 0)
        return x + self.table[start : start + x.shape[1]]


class Angles(Same):
    def call(self, x: Any) -> Any:
        table = tables(x.shape[1] + 2, x.shape[2])[self.s.get("start", 0) :][: x.shape[1]]
        return x + self.s.get("by", 1.0) * ops.convert_to_tensor(table, dtype=x.dtype)


class Formula(Own):
    """One of `FORMULAS`."""

    def __init__(self, kind: str, s: Mapping[str, Any], name: str) -> None:
        super().__init__(s, name)
        self.compute, self.shapes = FORMULAS[kind]

    def build(self, shape: Any) -> None:
        self.held = {key: self.add_weight(shape=of(self.s), name=key) for key, of in self.shapes.items()}

    def call(self, x: Any) -> Any:
        return self.compute(KerasWords(), self.s, x, self.held)


def _conv(s: Mapping[str, Any], name: str) -> Any:
    plain = s.get("pad", s["k"] // 2) == s["k"] // 2 and s.get("stride", 1) == 1 and s.get("mode", "zeros") == "zeros"
    if s.get("same") or (plain and s.get("dilation", 1) == 1):
        same: dict[str, Any] = {"padding": "same", "dilation_rate": s.get("dilation", 1)}
        return layers.Conv2D(s["o"], s["k"], s.get("stride", 1), name=name, **same)
    return Padded(s, name)


def _norm(s: Mapping[str, Any], name: str) -> Any:
    made = layers.BatchNormalization(
        momentum=1 - s.get("momentum", 0.1), epsilon=s.get("eps", 1e-5), axis=s.get("axis", -1), name=name
    )
    made.trainable = not s.get("frozen", False)
    return made


ACTIVATIONS: Mapping[str, Callable[[Any, float], Any]] = {
    "relu": lambda x, _: ops.relu(x),
    "leaky": lambda x, a: ops.leaky_relu(x, negative_slope=a),
    "elu": lambda x, a: ops.elu(x, alpha=a),
    "gelu": lambda x, _: ops.gelu(x, approximate=False),
    "gelu-tanh": lambda x, _: ops.gelu(x, approximate=True),
    "silu": lambda x, _: ops.silu(x),
    "tanh": lambda x, _: ops.tanh(x),
    "sigmoid": lambda x, _: ops.sigmoid(x),
    "relu6": lambda x, a: ops.clip(x, 0.0, a),
    "softplus": lambda x, _: ops.softplus(x),
    "hard-sigmoid": lambda x, _: ops.hard_sigmoid(x),
    "old-hard-sigmoid": lambda x, _: ops.clip(0.2 * x + 0.5, 0.0, 1.0),
}
ACTIVATIONS_BY_NAME: Mapping[str, Any] = {"hard-sigmoid": "hard_sigmoid"}

LAYERS: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "dense": lambda s, n: layers.Dense(s["o"], name=n, trainable=not s.get("untrained", False)),
    "conv": _conv,
    "depthwise": lambda s, n: layers.DepthwiseConv2D(s["k"], padding="same", name=n),
    "conv_transpose": lambda s, n: layers.Conv2DTranspose(s["o"], 4, 2, padding="same", name=n),
    "batch_norm": _norm,
    "layer_norm": lambda s, n: layers.LayerNormalization(epsilon=s.get("eps", 1e-5), axis=s.get("axis", -1), name=n),
    "group_norm": lambda s, n: layers.GroupNormalization(s["groups"], epsilon=s.get("eps", 1e-5), name=n),
    "rms_norm": lambda s, n: layers.RMSNormalization(epsilon=s.get("eps", 1e-6), name=n),
    "embedding": lambda s, n: layers.Embedding(s["n"], s["o"], name=n),
    "attention": Attention,
    "recurrent": Recurrent,
    "positions": Positions,
    "angles": Angles,
    "dropout": lambda s, n: layers.Dropout(s["rate"], name=n),
    "max_pool": lambda s, n: layers.MaxPooling2D(s["k"], s["stride"], padding=s.get("padding", "valid"), name=n),
    "avg_pool": lambda s, n: layers.AveragePooling2D(s["k"], s["stride"], padding=s.get("padding", "valid"), name=n),
    **{kind: (lambda s, n, kind=kind: Formula(kind, s, n)) for kind in FORMULAS},
}


def _pooled(x: Any, s: Mapping[str, Any]) -> Any:
    reduce = {"mean": ops.mean, "sum": ops.sum, "max": ops.max}[s.get("how", "mean")]
    return reduce(x, axis=s.get("axis", 1) if x.ndim == 3 else (1, 2))


def _flat(x: Any, s: Mapping[str, Any]) -> Any:
    x = x if s.get("channels_last") else ops.transpose(x, (0, 3, 1, 2))
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))


def _shuffled(x: Any, s: Mapping[str, Any]) -> Any:
    *sizes, c = x.shape[1:]
    g = s["groups"] if not s.get("turned") else c // s["groups"]
    return ops.reshape(ops.swapaxes(ops.reshape(x, (-1, *sizes, g, c // g)), -1, -2), (-1, *sizes, c))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "activation": lambda s, x: ACTIVATIONS[s["fn"]](x, s.get("a", 0.0)),
    "add": lambda s, *given: given[0] + given[1] * s["by"] if "by" in s else given[0] + given[1],
    "subtract": lambda s, a, b: a - b,
    "multiply": lambda s, a, b: a * b,
    "concat": lambda s, *given: ops.concatenate(given, axis=-1),
    "softmax": lambda s, x: ops.softmax(x, axis=s.get("axis", -1)),
    "scale": lambda s, x: x * s["by"],
    "shift": lambda s, x: x + s["by"],
    "pooled": lambda s, x: _pooled(x, s),
    "deviation": lambda s, x: ops.std(x, axis=-1, keepdims=True),
    "flat": lambda s, x: _flat(x, s),
    "last": lambda s, x: x[:, s.get("at", -1)],
    "shuffle": lambda s, x: _shuffled(x, s),
    "clamp": lambda s, x: ops.clip(x, s["low"], s["high"]),
    "unit": lambda s, x: x / ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True) + s.get("eps", 1e-6)),
    "log": lambda s, x: ops.log(x * x + s.get("eps", 1e-3)),
    "detach": lambda s, x: ops.stop_gradient(x),
    "backward_scale": lambda s, x: x * s["by"] - ops.stop_gradient(x) * (s["by"] - 1.0),
    "roll": lambda s, x: ops.roll(x, s.get("by", 1), axis=1),
    "reverse": lambda s, x: ops.flip(x, axis=1),
    "upsample": lambda s, x: ops.image.resize(x, (2 * x.shape[1], 2 * x.shape[2]), interpolation=s["mode"]),
}


class Net(keras.Model):
    """Computes its parts in turn."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(name="net")
        self.parts = list(setup.parts)
        self.by_name = _layers(setup)
        for name, layer in self.by_name.items():
            setattr(self, f"layer_{name}", layer)

    def call(self, x: Any, training: Any = None) -> Any:
        return computed(self.parts, x, lambda part, given: _do(self.by_name, part, given))


def _layers(setup: Setup) -> dict[str, Any]:
    return {p.name: LAYERS[p.kind](p.settings, p.name) for p in setup.parts if p.kind in LAYERS}


def _do(by_name: Mapping[str, Any], part: Part, given: list[Any]) -> Any:
    if part.kind == "again":
        return by_name[part.settings["layer"]](*given)
    if part.kind in LAYERS:
        return by_name[part.name](*given)
    if part.kind == "tied":
        return ops.matmul(given[0], ops.transpose(by_name[part.settings["layer"]].embeddings))
    return FUNCTIONS[part.kind](part.settings, *given)


def keras_net(setup: Setup, *, functional: bool) -> Any:
    """The Keras side of a setup, as a functional model or as a subclass."""
    dtype = "int64" if setup.form == "tokens" else None
    inputs = keras.Input(setup.shape, dtype=dtype, name="x")
    if functional:
        by_name = _layers(setup)
        return keras.Model(inputs, computed(setup.parts, inputs, lambda part, given: _do(by_name, part, given)))
    model = Net(setup)
    model(inputs)
    return model
