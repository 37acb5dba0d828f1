"""Both sides of a random net in NumPy: what is measured is the matching, in milliseconds, and not a framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from random_nets import (
    ROWS,
    WIDTH,
    Layer,
    Net,
    Step,
    made_of,
    own_of,
    product_of,
    reordered,
    shape_of,
    shuffled,
    true_map,
)

from xcheck.pairs.pair import Batch
from xcheck.records.calls import Again, Call, Calls, Inside, Swap, nowhere
from xcheck.records.inventory import Entry, Inventory
from xcheck.records.islands import Islands
from xcheck.records.sides import SideName
from xcheck.records.trace import Array, Arrays, State

KINDS = {
    "torch": {"dense": "Linear", "conv": "Conv2d", "norm": "LayerNorm"},
    "keras": {"dense": "Dense", "conv": "Conv2D", "norm": "LayerNormalization", "own": "Own"},
}
ROLES = {("keras", "dense"): ("kernel", "bias"), ("keras", "conv"): ("kernel", "bias"), ("keras", "own"): ("w", "b")}
ROLES |= {("keras", "norm"): ("gamma", "beta")}


class NumpySide:
    """One side of a random net, as matching sees it.

    Args:
        net: what it computes.
        side: whose names, layouts and orders it has.
    """

    def __init__(self, net: Net, side: SideName) -> None:
        self.net = net
        self.side: SideName = side
        self.islands = Islands(lambda _: None)
        self.entries: list[Entry] = []
        self.paths: dict[str, tuple[str, str]] = {}
        self.parameters: dict[str, Array] = {}
        self._rng = np.random.default_rng([net.seed, side == "keras"])
        listed = {layer.name: 2 * n for n, layer in enumerate(own_of(net))}
        for layer in shuffled(net, side):
            self._hold(layer, listed.get(layer.name, 0))
        self.steps = net.steps if side == "torch" else reordered(net.follower or net.steps, Random(net.seed + 2))

    def _hold(self, layer: Layer, place: int) -> None:
        torch = self.side == "torch"
        name = self.net.torch[layer.name] if torch else self.net.keras[layer.name]
        owner = name if torch or self.net.functional else f"m/{name}"
        kind = KINDS[self.side].get(layer.kind, "")
        roles = ROLES.get((self.side, layer.kind), ("weight", "bias"))
        if torch and layer.kind == "own":
            owner, kind = ("weights", "ParameterList") if self.net.listed else ("", "Model")
            roles = (str(place), str(place + 1)) if self.net.listed else (f"{name}_weight", f"{name}_bias")
        paths = [f"{owner}{'.' if torch else '/'}{role}" if owner else role for role in roles]
        self.paths[layer.name] = paths[0], paths[1]
        shapes = [layer.sizes, layer.sizes[-1:]]
        if layer.kind == "dense" and torch:
            shapes[0] = layer.sizes[::-1]
        if layer.kind == "conv":
            i, o, k = layer.sizes
            shapes = [(o, i, k, k) if torch else (k, k, i, o), (o,)]
        for path, role, shape in zip(paths, roles, shapes, strict=True):
            self.entries.append(Entry(path, shape, "float64", True, False, owner, kind, role, path, path))
            scale = 1.0 / np.sqrt(max(1, np.prod(shape) / layer.sizes[-1])) if len(shape) > 1 else 0.3
            self.parameters[path] = self._rng.standard_normal(shape) * scale + (layer.kind == "norm")

    # What matching asks of a side ---------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        return Inventory(tuple(self.entries))

    def read(self) -> State:
        return State({path: array.copy() for path, array in self.parameters.items()})

    def write(self, state: State) -> None:
        self.parameters |= {path: np.array(array) for path, array in state.parameters.items()}

    def snapshot(self) -> Any:
        return dict(self.parameters)

    def restore(self, snapshot: Any) -> None:
        self.parameters = dict(snapshot)

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        """Nothing is moved: both sides compute alike."""
        return nullcontext()

    def infer(self, batch: Batch) -> Arrays:
        return self.calls(batch)[-1].outputs

    def calls(
        self, batch: Batch, *, swap: Swap | None = None, inside: Inside = nowhere, again: Again | None = None
    ) -> Calls:
        made: list[Call] = []
        numbers: dict[tuple[str, str], int] = {}

        def call(path: str, kind: str, given: list[Array], out: Array, held: tuple[str, ...], function: bool) -> Array:
            key = path, kind if function else ""
            numbers[key] = numbers.get(key, 0) + 1
            inputs = {str(i): self._shown(a, kind) for i, a in enumerate(given)}
            outputs = {"output": self._shown(out, kind)}
            done = Call(len(made) + 1, 0, path, kind, numbers[key], inputs, outputs, held, function=function)
            made.append(done)
            others: Mapping[str, Array] | None = swap(done) if swap else None
            return out if others is None else self._back(others["output"], kind)

        x = np.asarray(batch.inputs)
        outputs = made_of(self.steps, self.net.outputs, x, lambda step, given: self._do(step, given, call))
        outputs = outputs if len(outputs) > 1 else {"output": next(iter(outputs.values()))}
        held = tuple(e.path for e in self.entries if not e.owner)
        return (*made, Call(0, None, "", "Model", 1, {"0": self._shown(x, "")}, outputs, held))

    def _moved(self, array: Array, kind: str) -> bool:
        return (
            array.ndim == 4 and self.side == "torch" and kind not in ("Linear", "LayerNorm", "linear", "matmul", "add")
        )

    def _shown(self, array: Array, kind: str) -> Array:
        return np.moveaxis(array, -1, 1) if self._moved(array, kind) else array

    def _back(self, array: Array, kind: str) -> Array:
        return np.moveaxis(array, 1, -1) if self._moved(array, kind) else array

    def _do(self, step: Step, given: list[Array], call: Callable[..., Array]) -> Array:
        x = given[0]
        if step.op == "layer":
            return self._layer(self.net.layers[step.layer], x, call)
        if step.op == "attend":
            scores = call("", "matmul", given[:2], given[0] @ given[1].transpose(0, 2, 1), (), True)
            scores = call("", "mul", [scores], scores * (step.number / WIDTH**0.5), (), True)
            spread = np.exp(scores - scores.max(-1, keepdims=True))
            weights = call("", "softmax", [scores], spread / spread.sum(-1, keepdims=True), (), True)
            return call("", "matmul", [weights, given[2]], weights @ given[2], (), True)
        out = {
            "tanh": lambda: np.tanh(x),
            "relu": lambda: np.maximum(x, 0.0),
            "sigmoid": lambda: 1 / (1 + np.exp(-x)),
            "scale": lambda: x * step.number,
            "sum": lambda: sum(given[1:], x),
            "product": lambda: product_of(given),
            "concat": lambda: np.concatenate(given, -1),
            "pool": lambda: sum(_shifted(x, 3)) / 9,
            "mean": lambda: x.mean(axis=(1, 2) if x.ndim == 4 else 1) * step.number,
        }[step.op]()
        return call("", step.op, given, out, (), True)

    def _layer(self, layer: Layer, x: Array, call: Callable[..., Array]) -> Array:
        paths = self.paths[layer.name]
        w, b = (self.parameters[path] for path in paths)
        torch = self.side == "torch"
        entry = next(e for e in self.entries if e.path == paths[0])
        if layer.kind == "own":
            kernel = w.T if layer.rows[not torch] else w
            if not torch:
                return call(entry.owner, "Own", [x], x @ kernel + b, paths, False)
            if layer.rows[0]:
                return call("", "linear", [x], x @ kernel + b, paths, True)
            y = call("", "matmul", [x], x @ kernel, paths[:1], True)
            return call("", "add", [y], y + b, paths[1:], True)
        if layer.kind == "norm":
            d = x - x.mean(-1, keepdims=True)
            y = d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-3) * w + b
        elif layer.kind == "conv":
            kernel = w.transpose(2, 3, 1, 0) if torch else w
            k = kernel.shape[0]
            y = sum(s @ kernel[i // k, i % k] for i, s in enumerate(_shifted(x, k))) + b
        else:
            y = x @ (w.T if torch else w) + b
        return call(entry.owner, entry.kind, [x], np.asarray(y), paths, False)


def _shifted(x: Array, kernel: int) -> Iterator[Array]:
    """The picture as each place of a kernel sees it, with zeros around."""
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    for i in range(kernel):
        for j in range(kernel):
            yield padded[:, i : i + x.shape[1], j : j + x.shape[2]]


def numpy_sides(net: Net) -> tuple[NumpySide, NumpySide, Batch]:
    """Both sides of a net, and a batch."""
    batch = Batch(np.random.default_rng(net.seed).standard_normal((ROWS, *shape_of(net))))
    return NumpySide(net, "torch"), NumpySide(net, "keras"), batch


def same_under(net: Net, paths: Mapping[str, str]) -> bool:
    """Whether both sides compute the same with each layer's weights where a map of paths says.

    Two layers that are added up may be exchanged: that is another match, and no wrong one.

    Args:
        net: of which the fault is left out.
        paths: PyTorch path -> Keras path of every parameter; the layouts are the true ones.
    """
    torch, keras, batch = numpy_sides(replace(net, follower=[]))
    if paths.keys() != torch.parameters.keys() or set(paths.values()) != keras.parameters.keys():
        return False
    layouts = dict(true_map(net).values())
    rng = np.random.default_rng(net.seed)
    torch.write(State({path: rng.uniform(-1, 1, array.shape) for path, array in torch.parameters.items()}))
    turned: dict[str, Callable[[Array], Array]] = {"transpose": np.transpose, "conv": lambda a: a.transpose(2, 3, 1, 0)}
    moved = {b: turned.get(layouts[b], np.asarray)(torch.parameters[a]) for a, b in paths.items()}
    keras.write(State(moved))
    mine, theirs = torch.infer(batch), keras.infer(batch)
    return all(np.allclose(array, theirs[name], rtol=1e-9, atol=1e-12) for name, array in mine.items())
