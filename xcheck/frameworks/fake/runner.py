"""A side without a framework: a linear model in NumPy.

Tests of the pipeline use it, and it shows what a side must provide: y = x W + b with mean squared error and SGD
with momentum, in either framework's names and layout.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from ...numerics.distributions import Distribution
from ...pairs.pair import Batch, Prepare
from ...pairs.user_code import calling
from ...records.calls import Again, Call, Calls, Inside, Open, Stop, Swap, nowhere
from ...records.inventory import Entry, Holdings, Inventory
from ...records.islands import Islands
from ...records.reload import Route
from ...records.sides import SideName
from ...records.trace import Array, Arrays, State, StepRecord
from ..protocol import EAGER, Counts, Exported, Loaded, losses_record, prepared

Fault = Callable[[StepRecord], StepRecord]
Write = Callable[[Path, Arrays], None]


@dataclass(frozen=True, slots=True)
class NumpySide:
    """Declares a linear model as one side of a pair.

    Args:
        side: its names and layout: "torch" has linear.weight (out, in), "keras" dense/kernel (in, out).
        inputs, outputs: sizes.
        learning_rate, momentum: of SGD.
        copies: how many times the weight exists; with `tied`, as that many paths of one storage.
        tied: whether the copies are one storage.
        prepare: as on the other sides.
        fault: rewrites each record, to plant a difference in exactly one place.
        spoil: changes the runner loaded from a file, to plant a loss.
        exports: route -> function that writes the parameters to a file as an ONNX model from "x" to one output.
    """

    side: SideName
    inputs: int = 3
    outputs: int = 2
    learning_rate: float = 0.1
    momentum: float = 0.9
    copies: int = 1
    tied: bool = True
    prepare: Prepare | None = None
    fault: Fault | None = None
    extra: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    spoil: Callable[[Any], None] | None = None
    exports: Mapping[str, Write] = field(default_factory=dict[str, Write])


class NumpyRunner:
    """A `NumpySide`, running."""

    def __init__(self, declared: NumpySide, *, precision: str, device: str, seed: int) -> None:
        self.declared = declared
        self.side: SideName = declared.side
        self.islands = Islands(lambda _: None)
        self.precision = precision
        rng = np.random.default_rng(seed + (self.side == "keras"))
        weight = rng.standard_normal((declared.inputs, declared.outputs)).astype(precision)
        bias = rng.standard_normal(declared.outputs).astype(precision)
        self._weight, self._bias = (
            ("linear.weight", "linear.bias") if self.side == "torch" else ("dense/kernel", "dense/bias")
        )
        self._parameters: dict[str, Array] = {self._weight: self._own(weight), self._bias: bias}
        if not declared.tied:
            for i in range(1, declared.copies):
                self._parameters[self._copy(i)] = self._own(weight)
        for path, shape in declared.extra.items():
            self._parameters[path] = rng.standard_normal(shape).astype(precision)
        self._momenta: dict[str, Array] = {}
        self._updates = 0

    def _own(self, matrix: Array) -> Array:
        return matrix.T.copy() if self.side == "torch" else matrix.copy()

    def _copy(self, i: int) -> str:
        owner, separator, role = self._weight.partition("." if self.side == "torch" else "/")
        return f"{owner}_{i}{separator}{role}"

    def inventory(self) -> Inventory:
        paths = {path: path for path in self._parameters}
        if self.declared.tied:
            paths |= {self._copy(i): self._weight for i in range(1, self.declared.copies)}
        separator = "." if self.side == "torch" else "/"
        return Inventory(
            tuple(
                Entry(
                    path=path,
                    shape=self._parameters[storage].shape,
                    dtype=str(self._parameters[storage].dtype),
                    trainable=True,
                    buffer=False,
                    owner=path.rpartition(separator)[0],
                    kind="Linear" if self.side == "torch" else "Dense",
                    role=path.rpartition(separator)[2],
                    identity=storage,
                    storage=storage,
                )
                for path, storage in paths.items()
            )
        )

    def read(self) -> State:
        rate = self.declared.learning_rate
        slots = {path: {"momentum": -rate * value} for path, value in self._momenta.items()}
        parameters = {path: value.copy() for path, value in self._parameters.items()}
        return State(parameters, {}, slots, self._updates, self.inventory().ties())

    def write(self, state: State) -> None:
        self._parameters |= {path: np.array(value, self.precision) for path, value in state.parameters.items()}
        written = {path: roles["momentum"] for path, roles in state.slots.items() if "momentum" in roles}
        rate = self.declared.learning_rate
        self._momenta |= {path: np.array(value / -rate, self.precision) for path, value in written.items()}

    def snapshot(self) -> Any:
        return dict(self._parameters), dict(self._momenta), self._updates

    def restore(self, snapshot: Any) -> None:
        parameters, momenta, self._updates = snapshot
        self._parameters, self._momenta = dict(parameters), dict(momenta)

    def differing(self, first: Any, second: Any) -> Sequence[str]:
        return ()

    def counts(self, snapshots: Sequence[Any]) -> Counts:
        return Counts((), ())

    def modes(self) -> Sequence[str]:
        return ()

    def step(self, number: int, batch: Batch, *, observe: bool = True, mode: str = EAGER) -> StepRecord:
        ready = prepared(self.declared.prepare, batch, self.side)
        x, y = (np.asarray(part, self.precision) for part in (ready.inputs, ready.targets))
        before = self.read()
        kernel = self._parameters[self._weight]
        kernel = kernel.T if self.side == "torch" else kernel
        out = x @ kernel + self._parameters[self._bias]
        gap = (out - y) * (2 / y.size)
        gradients: dict[str, Array | None] = {p: np.zeros_like(v) for p, v in self._parameters.items()}
        gradients |= {self._weight: self._own(x.T @ gap), self._bias: gap.sum(axis=0)}
        for path, gradient in gradients.items():
            if gradient is not None:
                past = self._momenta.get(path, np.zeros_like(gradient))
                self._momenta[path] = self.declared.momentum * past + gradient
                self._parameters[path] = self._parameters[path] - self.declared.learning_rate * self._momenta[path]
        self._updates += 1
        losses = losses_record({"": np.asarray(np.mean((out - y) ** 2))}, {}, None)
        record = StepRecord(number, before, self.read(), {"output": out}, {"output": out}, losses, {}, gradients)
        if self.declared.fault is not None:
            record = self.declared.fault(record)
        return record if observe else replace(record, inference={}, outputs={}, gradients={})

    def calls(
        self,
        batch: Batch,
        *,
        training: bool = False,
        swap: Swap | None = None,
        gradients: bool = False,
        inside: Inside = nowhere,
        again: Again | None = None,
    ) -> Calls:
        ready = prepared(self.declared.prepare, batch, self.side)
        x = np.asarray(ready.inputs, self.precision)
        kernel = self._parameters[self._weight]
        out = x @ (kernel.T if self.side == "torch" else kernel) + self._parameters[self._bias]
        path, kind = ("linear", "Linear") if self.side == "torch" else ("dense", "Dense")
        parameters = (self._weight, self._bias)
        inner = Call(1, 0, path, kind, 1, {"0": x}, {"output": out}, parameters)
        swapped = swap(inner) if swap else None
        whole = Call(0, None, "", "Model", 1, {"0": x}, {"output": out} if swapped is None else swapped)
        return inner, whole

    def draws(self, batch: Batch) -> tuple[str, ...]:
        return ()

    def infer(self, batch: Batch) -> Arrays:
        return self.calls(batch)[-1].outputs

    def persistence(self) -> NumpyPersistence:
        return NumpyPersistence(self)

    def exporter(self) -> NumpyExporter:
        return NumpyExporter(self)

    def uses(self, number: int, batch: Batch) -> Mapping[str, Arrays]:
        return {}

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        return nullcontext()

    def stops(self, let_through: Open) -> AbstractContextManager[list[Stop]]:
        return nullcontext([])

    def environment(self) -> Mapping[str, Any]:
        return {"numpy": np.__version__}

    def notes(self) -> list[str]:
        return []

    def promises(self) -> Mapping[str, Distribution]:
        return {}

    def holdings(self) -> Holdings | None:
        return Holdings(dict.fromkeys(self._parameters, 1))

    def unmapped_slots(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing to free."""


class NumpyPersistence:
    """Saves a whole `NumpyRunner`, or only its parameters."""

    routes: Sequence[Route] = (Route("all", keeps_optimizer=True), Route("parameters"))

    def __init__(self, runner: NumpyRunner) -> None:
        self._runner = runner

    def reload(self, route: Route, folder: Path, batch: Batch) -> Loaded:
        original = self._runner
        save_file(
            {path: np.ascontiguousarray(value) for path, value in original.read().parameters.items()}, folder / "model"
        )
        loaded = NumpyRunner(original.declared, precision=original.precision, device="cpu", seed=1)
        loaded.write(State(load_file(folder / "model")))
        if route.keeps_optimizer:
            loaded.restore(original.snapshot())
        if original.declared.spoil is not None:
            original.declared.spoil(loaded)
        return Loaded(loaded, route.keeps_optimizer)

    @contextmanager
    def restarted(self) -> Generator[None]:
        snapshot = self._runner.snapshot()
        self._runner.restore((snapshot[0], {}, 0))
        try:
            yield
        finally:
            self._runner.restore(snapshot)

    def unsaved(self, route: Route) -> Sequence[str]:
        return ()

    def forgotten(self) -> Mapping[str, tuple[Any, Any]]:
        return {}

    def attributes(self) -> Mapping[str, Any]:
        return {"learning_rate": self._runner.declared.learning_rate}

    def mend(self, attributes: Mapping[str, Any]) -> None:
        self._runner.declared = replace(self._runner.declared, **attributes)


class NumpyExporter:
    """Lets the functions of `NumpySide.exports` write the model."""

    def __init__(self, runner: NumpyRunner) -> None:
        self._runner = runner

    def routes(self) -> Sequence[str]:
        return tuple(self._runner.declared.exports)

    def infer(self, batch: Batch) -> Arrays:
        inner, _ = self._runner.calls(batch)
        return inner.outputs

    def export(self, route: str, path: Path, batch: Batch, other: Batch) -> Exported:
        with calling(route):
            self._runner.declared.exports[route](path, self._runner.read().parameters)

        def inputs(batch: Batch) -> list[tuple[str, Array]]:
            ready = prepared(self._runner.declared.prepare, batch, self._runner.side)
            return [("x", np.asarray(ready.inputs, self._runner.precision))]

        return Exported(inputs, lambda outputs: {"output": next(iter(outputs.values()))})
