"""Random nets built twice from one description, and what is right about which weight is which.

A description is a list of steps in single assignment, so that each side can make them in an order of its own. Like
branches, like heads, attention, gates, shared layers, square weights, and weights that are kept in a list.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

import xcheck

WIDTH, TOKENS, SIDE, ROWS = 6, 4, 5, 3
NAMING = ("kept", "scrambled", "misleading")
FORMS = ("vector", "sequence", "image")


@dataclass(frozen=True)
class Layer:
    """A layer of both sides.

    Attributes:
        kind: "dense", "conv", "norm", or "own", a product with a weight that the model contains itself.
        sizes: (in, out), of a convolution with its kernel; of a norm (width,).
        rows: of an "own" weight: whether torch, and whether Keras, holds it as (out, in).
    """

    name: str
    kind: str
    sizes: tuple[int, ...]
    rows: tuple[bool, bool] = (True, False)


@dataclass(frozen=True)
class Step:
    """One value that is made: an operation of others, with a layer or a number where it takes one."""

    out: str
    op: str
    inputs: tuple[str, ...]
    layer: str = ""
    number: float = 1.0


@dataclass(frozen=True)
class Net:
    """A description, and how each side is written.

    Attributes:
        form: of the input, one of `FORMS`.
        outputs: name -> value.
        naming: one of `NAMING`. torch, keras: name of each layer there.
        functional: the Keras model is functional, else a subclass. seed: of the orders that Keras has.
        fault: what Keras makes otherwise, in words; "" for nothing.
    """

    form: str
    layers: dict[str, Layer]
    steps: list[Step]
    outputs: dict[str, str]
    naming: str
    torch: Mapping[str, str]
    keras: Mapping[str, str]
    functional: bool
    listed: bool
    seed: int
    fault: str = ""
    follower: list[Step] = field(default_factory=list[Step])


class _Writer:
    """Writes the steps of a description one by one."""

    def __init__(self, rng: Random, form: str) -> None:
        self.rng, self.form = rng, form
        self.layers: dict[str, Layer] = {}
        self.steps: list[Step] = []

    def step(self, op: str, *inputs: str, layer: str = "", number: float = 1.0) -> str:
        out = f"v{len(self.steps)}"
        self.steps.append(Step(out, op, inputs, layer, number))
        return out

    def layer(self, name: str, x: str, out: int = WIDTH, kind: str = "") -> str:
        """A new layer, of a kind that the form of the net suggests."""
        kernel = self.rng.choice((1, 3, 3)) if self.form == "image" else 0
        sizes = (WIDTH, out, kernel) if kernel else (WIDTH, out)
        made = Layer(name, kind or ("conv" if kernel else "dense"), sizes)
        return self.use(made, x)

    def use(self, layer: Layer, x: str) -> str:
        self.layers[layer.name] = layer
        return self.step("layer", x, layer=layer.name)

    def active(self, x: str) -> str:
        return self.step(self.rng.choice(("tanh", "tanh", "relu", "sigmoid")), x)

    # Blocks: each takes a value of the width and makes one --------------------------------------------------------

    def chain(self, name: str, x: str, length: int = 0) -> str:
        for n in range(length or self.rng.randint(1, 3)):
            x = self.active(self.layer(f"{name}_l{n}", x))
        return x

    def branches(self, name: str, x: str) -> str:
        many = self.rng.randint(2, 3)
        lengths = [self.rng.randint(1, 3)] * many if self.rng.random() < 0.5 else self.rng.choices((1, 2, 3), k=many)
        made: list[str] = []
        for b, length in enumerate(lengths):
            given = self.step("pool", x) if self.form == "image" and self.rng.random() < 0.3 else x
            made.append(self.chain(f"{name}_b{b}", given, length))
        how = self.rng.choice(("weighted", "weighted", "sum", "product", "concat"))
        if how == "weighted":
            made = [self.step("scale", y, number=0.5 + b) for b, y in enumerate(made)]
        if how == "concat":
            joined = Layer(f"{name}_join", "dense", (WIDTH * many, WIDTH))
            return self.active(self.use(joined, self.step("concat", *made)))
        return self.step("product" if how == "product" else "sum", *made)

    def gate(self, name: str, x: str) -> str:
        one, other = self.layer(f"{name}_gate", x), self.layer(f"{name}_value", x)
        return self.step("product", self.step("sigmoid", one), self.step("tanh", other))

    def attention(self, name: str, x: str) -> str:
        if self.form != "sequence":
            return self.gate(name, x)
        made = self.step("attend", *(self.layer(f"{name}_{part}", x) for part in ("query", "key", "value")))
        return self.layer(f"{name}_out", made) if self.rng.random() < 0.7 else made

    def residual(self, name: str, x: str) -> str:
        norm = self.use(Layer(f"{name}_norm", "norm", (WIDTH,)), x)
        return self.step("sum", x, self.chain(name, norm))

    def again(self, name: str, x: str) -> str:
        """One layer that is used twice."""
        x = self.active(self.layer(f"{name}_both", x))
        return self.active(self.step("layer", x, layer=f"{name}_both"))

    def own(self, name: str, x: str) -> str:
        """Square weights that the model contains itself, each laid out one way or the other."""
        for n in range(self.rng.randint(1, 3)):
            rows = self.rng.random() < 0.5, self.rng.random() < 0.5
            x = self.active(self.use(Layer(f"{name}_w{n}", "own", (WIDTH, WIDTH), rows), x))
        return x


BLOCKS = (_Writer.chain, _Writer.branches, _Writer.branches, _Writer.gate, _Writer.attention, _Writer.residual)
RARER = (*BLOCKS, _Writer.again, _Writer.own)


def described(seed: int, naming: str | None = None) -> Net:
    """A random net.

    Args:
        seed: of everything about it.
        naming: one of `NAMING`; None for any.
    """
    rng = Random(seed)
    form = rng.choice(FORMS)
    writer = _Writer(rng, form)
    x = writer.active(writer.layer("stem", "x"))
    for n in range(rng.randint(1, 3)):
        block = rng.choice(RARER)
        x = block(writer, f"{block.__name__}{n}", x)
    if form != "vector":
        x = writer.step("mean", x)
    writer.form = "vector"
    heads = ["p", "s", "t"][: rng.choice((1, 1, 2, 3))]
    deep = rng.random() < 0.5
    outputs: dict[str, str] = {}
    for head in heads:
        y = writer.chain(f"head_{head}", x, 1) if deep else x
        outputs[head] = writer.layer(f"head_{head}_out", y, 2)
    naming = naming or rng.choice(NAMING)
    torch, keras = _names(writer.layers, naming, rng)
    return Net(
        form, writer.layers, writer.steps, outputs, naming, torch, keras, rng.random() < 0.5, rng.random() < 0.5, seed
    )


def _names(layers: Mapping[str, Layer], naming: str, rng: Random) -> tuple[dict[str, str], dict[str, str]]:
    torch = {name: name for name in layers}
    if naming == "kept":
        return torch, dict(torch)
    if naming == "scrambled":
        words = rng.sample(["".join(w) for w in itertools.product("bdfgz", "aiou", "bdfgz", "aiou")], 2 * len(layers))
        halves = words[: len(layers)], words[len(layers) :]
        one, other = (dict(zip(layers, half, strict=True)) for half in halves)
        return one, other
    keras: dict[str, str] = {}
    for kind in dict.fromkeys((layer.kind, layer.sizes) for layer in layers.values()):
        alike = [name for name, layer in layers.items() if (layer.kind, layer.sizes) == kind]
        mixed = rng.sample(alike, len(alike))
        keras |= dict(zip(mixed, mixed[1:] + mixed[:1], strict=True))  # none keeps its own
    return torch, keras


# Faults -------------------------------------------------------------------------------------------------------------


def planted(net: Net) -> Net:
    """The net with one step that Keras makes otherwise, so that no choice of which weight is which makes up for it."""
    rng = Random(net.seed + 1)
    of = {
        "tanh": lambda s: ("relu in place of tanh", replace(s, op="relu")),
        "relu": lambda s: ("tanh in place of relu", replace(s, op="tanh")),
        "sigmoid": lambda s: ("tanh in place of sigmoid", replace(s, op="tanh")),
        "attend": lambda s: ("another scale of the scores", replace(s, number=0.8)),
        "scale": lambda s: ("another factor", replace(s, number=s.number + 0.77)),
        "sum": lambda s: ("one term twice", replace(s, inputs=(*s.inputs, s.inputs[0]))),
        "mean": lambda s: ("a mean that is 1.1 times as large", replace(s, number=1.1)),
    }
    at = rng.choice([i for i, step in enumerate(net.steps) if step.op in of])
    told, step = of[net.steps[at].op](net.steps[at])
    return replace(net, fault=f"{told} at {step.out}", follower=[*net.steps[:at], step, *net.steps[at + 1 :]])


# Building -----------------------------------------------------------------------------------------------------------


def made_of(steps: Sequence[Step], outputs: Mapping[str, str], x: Any, do: Callable[[Step, list[Any]], Any]) -> Any:
    values = {"x": x}
    for step in steps:
        values[step.out] = do(step, [values[name] for name in step.inputs])
    return {name: values[out] for name, out in outputs.items()}


def reordered(steps: Sequence[Step], rng: Random) -> list[Step]:
    """The steps in another order that is possible."""
    left, done, found = list(steps), {"x"}, list[Step]()
    while left:
        step = rng.choice([s for s in left if set(s.inputs) <= done])
        left.remove(step)
        done.add(step.out)
        found.append(step)
    return found


def torch_of(net: Net) -> Any:
    """The PyTorch model."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            own: list[Any] = []
            for layer in shuffled(net, "torch"):
                own += self._add(net.torch[layer.name], layer)
            self.weights = nn.ParameterList(own)
            self.places = {layer.name: 2 * n for n, layer in enumerate(own_of(net))}

        def _add(self, name: str, layer: Layer) -> list[Any]:
            if layer.kind == "dense":
                setattr(self, name, nn.Linear(*layer.sizes))
            elif layer.kind == "conv":
                setattr(self, name, nn.Conv2d(*layer.sizes, padding="same"))
            elif layer.kind == "norm":
                setattr(self, name, nn.LayerNorm(layer.sizes, eps=1e-3))
            elif not net.listed:
                setattr(self, f"{name}_weight", nn.Parameter(torch.randn(layer.sizes) / 2))
                setattr(self, f"{name}_bias", nn.Parameter(torch.randn(layer.sizes[-1]) / 2))
            else:
                return [torch.randn(layer.sizes) / 2, torch.randn(layer.sizes[-1]) / 2]
            return []

        def forward(self, x: Any) -> Any:
            x = x.permute(0, 3, 1, 2) if net.form == "image" else x
            made = made_of(net.steps, net.outputs, x, self._do)
            return made if len(made) > 1 else next(iter(made.values()))

        def _layer(self, layer: Layer, x: Any) -> Any:
            name = net.torch[layer.name]
            if layer.kind == "own":
                at = self.places[layer.name]
                w, b = (
                    (self.weights[at], self.weights[at + 1])
                    if net.listed
                    else (getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
                )
                moved = x.movedim(1, -1) if net.form == "image" else x
                y = F.linear(moved, w, b) if layer.rows[0] else moved @ w + b
                return y.movedim(-1, 1) if net.form == "image" else y
            if layer.kind in ("dense", "norm") and x.ndim == 4:
                return getattr(self, name)(x.movedim(1, -1)).movedim(-1, 1)
            return getattr(self, name)(x)

        def _do(self, step: Step, given: list[Any]) -> Any:
            x = given[0]
            if step.op == "attend":
                scores = given[0] @ given[1].transpose(-1, -2) * (step.number / WIDTH**0.5)
                return torch.softmax(scores, -1) @ given[2]
            return {
                "layer": lambda: self._layer(net.layers[step.layer], x),
                "tanh": lambda: torch.tanh(x),
                "relu": lambda: torch.relu(x),
                "sigmoid": lambda: torch.sigmoid(x),
                "scale": lambda: x * step.number,
                "sum": lambda: sum(given[1:], x),
                "product": lambda: product_of(given),
                "concat": lambda: torch.cat(given, 1 if net.form == "image" else -1),
                "pool": lambda: F.avg_pool2d(x, 3, 1, 1),
                "mean": lambda: x.mean((2, 3) if net.form == "image" else 1) * step.number,
            }[step.op]()

    return Model()


def keras_of(net: Net) -> Any:
    """The Keras model, whose layers are made and used in orders of their own."""
    import keras
    from keras import layers, ops

    class Own(layers.Layer):
        def __init__(self, layer: Layer, name: str) -> None:
            super().__init__(name=name)
            self.sizes, self.rows = layer.sizes, layer.rows[1]

        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=self.sizes, name="w", initializer="glorot_uniform")
            self.b = self.add_weight(shape=self.sizes[-1:], name="b")

        def call(self, x: Any) -> Any:
            return ops.matmul(x, ops.transpose(self.w) if self.rows else self.w) + self.b

    def new(layer: Layer) -> Any:
        name = net.keras[layer.name]
        return {
            "dense": lambda: layers.Dense(layer.sizes[-1], name=name),
            "conv": lambda: layers.Conv2D(layer.sizes[1], layer.sizes[-1], padding="same", name=name),
            "norm": lambda: layers.LayerNormalization(epsilon=1e-3, name=name),
            "own": lambda: Own(layer, name),
        }[layer.kind]()

    steps = reordered(net.follower or net.steps, Random(net.seed + 2))

    def attend(step: Step, q: Any, k: Any, v: Any) -> Any:
        scores = ops.matmul(q, ops.transpose(k, (0, 2, 1))) * (step.number / WIDTH**0.5)
        return ops.matmul(ops.softmax(scores, -1), v)

    def pool(x: Any) -> Any:
        padded = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return ops.average_pool(padded, 3, 1)

    def done(held: Mapping[str, Any]) -> Callable[[Step, list[Any]], Any]:
        def do(step: Step, given: list[Any]) -> Any:
            x = given[0]
            return {
                "layer": lambda: held[step.layer](x),
                "tanh": lambda: ops.tanh(x),
                "relu": lambda: ops.relu(x),
                "sigmoid": lambda: ops.sigmoid(x),
                "scale": lambda: x * step.number,
                "sum": lambda: sum(given[1:], x),
                "product": lambda: product_of(given),
                "concat": lambda: ops.concatenate(given, -1),
                "pool": lambda: pool(x),
                "mean": lambda: ops.mean(x, axis=(1, 2) if net.form == "image" else 1) * step.number,
                "attend": lambda: attend(step, *given),
            }[step.op]()

        return do

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="m")
            self.held = {layer.name: new(layer) for layer in shuffled(net, "keras")}

        def call(self, x: Any) -> Any:
            made = made_of(steps, net.outputs, x, done(self.held))
            return made if len(made) > 1 else next(iter(made.values()))

    if not net.functional:
        return Model()
    x = keras.Input(shape_of(net))
    held = {layer.name: new(layer) for layer in shuffled(net, "keras")}
    made = made_of(steps, net.outputs, x, done(held))
    return keras.Model(x, made if len(made) > 1 else next(iter(made.values())), name="m")


def product_of(given: Sequence[Any]) -> Any:
    y = given[0]
    for other in given[1:]:
        y = y * other
    return y


def own_of(net: Net) -> list[Layer]:
    return [layer for layer in shuffled(net, "torch") if layer.kind == "own"]


def shuffled(net: Net, side: str) -> list[Layer]:
    """The layers in the order in which a side makes them."""
    return Random(f"{net.seed} {side}").sample(list(net.layers.values()), len(net.layers))


def shape_of(net: Net) -> tuple[int, ...]:
    return {"vector": (WIDTH,), "sequence": (TOKENS, WIDTH), "image": (SIDE, SIDE, WIDTH)}[net.form]


def pair_of(net: Net, weight_map: Any = None) -> xcheck.Pair:
    """The pair of both models."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((ROWS, *shape_of(net))))

    torch, keras = xcheck.TorchSide(lambda: torch_of(net)), xcheck.KerasSide(lambda: keras_of(net))
    return xcheck.Pair("random_net", torch, keras, batches, weight_map=weight_map)


# What is right ------------------------------------------------------------------------------------------------------


def true_map(net: Net) -> dict[str, tuple[str, str]]:
    """PyTorch path -> (Keras path, layout) of every parameter."""
    own = {layer.name: 2 * n for n, layer in enumerate(own_of(net))}
    found: dict[str, tuple[str, str]] = {}
    for layer in net.layers.values():
        torch, keras = net.torch[layer.name], f"{net.keras[layer.name]}"
        keras = keras if net.functional else f"m/{keras}"
        if layer.kind == "own":
            at = own[layer.name]
            names = (f"weights.{at}", f"weights.{at + 1}") if net.listed else (f"{torch}_weight", f"{torch}_bias")
            layout = "identity" if layer.rows[0] == layer.rows[1] else "transpose"
            found |= {names[0]: (f"{keras}/w", layout), names[1]: (f"{keras}/b", "identity")}
            continue
        weight, bias = ("gamma", "beta") if layer.kind == "norm" else ("kernel", "bias")
        layout = {"dense": "transpose", "conv": "conv", "norm": "identity"}[layer.kind]
        found |= {f"{torch}.weight": (f"{keras}/{weight}", layout), f"{torch}.bias": (f"{keras}/{bias}", "identity")}
    return found
