"""The PyTorch side, running."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import PairError, SetupError
from ...numerics.distributions import Distribution
from ...pairs.pair import Batch, TorchSide
from ...pairs.user_code import calling, describe, got, leaving_out
from ...records.calls import Again, Calls, Inside, Open, Stop, Swap, nowhere
from ...records.inventory import Holdings, Inventory
from ...records.islands import Islands
from ...records.sides import SideName
from ...records.store import Store
from ...records.trace import Array, Arrays, State, StepRecord
from ..compared_outputs import compared, nothing_to_differentiate
from ..counters import Counts, counts
from ..function_state import FunctionState
from ..optimizers import facts_of_all
from ..passes import passes_record
from ..protocol import EAGER, Prepared, losses_record, prepared, projection, step_seed
from ..reachable import functions
from ..step_as_pass import pass_by_step, terms_of_a_step
from ..user_arguments import asked
from .drawing import draws
from .export import TorchExporter
from .flags import eagerly, flags, restore_flags, set_flags
from .losses import arrays, scalars, step_losses
from .making import has_forward, refuse_without_values, set_training, switched, tensors_of, whole_after_a_call
from .optimizer import facts
from .optimizers import build_optimizer, more_of, returned_optimizers
from .patches.calls import Watch
from .patches.dropout import DropoutOff
from .patches.precision import Float64Throughout
from .patches.rounding import rounding
from .patches.stops import stops
from .patches.training_step import Observer
from .patches.uses import uses
from .persistence import TorchPersistence
from .reachable import TorchTensors, looked_at
from .state import Memory
from .unregistered import hidden
from .variables import as_real, inventory, to_numpy


class TorchRunner:
    """A built PyTorch model with its optimizer.

    Args:
        declared: the side.
        precision: "float64" or "float32"; the dtype of every parameter, input and constant.
        device: "cpu" or "cuda".
        seed: for what `build` draws.
        store: keeps what is read of it; None for one of its own.

    Raises:
        PairError: `build` gave no module.
        UserCodeError: `build` or `optimizer` raised.
        SetupError: there is no such device.
    """

    side: SideName = "torch"

    def __init__(
        self, declared: TorchSide, *, precision: str, device: str, seed: int, store: Store | None = None
    ) -> None:
        self.declared = declared
        self.store = store or Store()
        self.dtype = getattr(torch, precision)
        self.device = torch.device(device)
        if device == "cuda" and not torch.cuda.is_available():
            raise SetupError(
                "PyTorch sees no GPU.",
                numbers=f"--device cuda, torch {torch.__version__}",
                todo="run with --device auto or --device cpu",
            )
        self.seed = seed
        self._called: Any = None
        self._flags = set_flags(self.device)
        self._paths: dict[int, str] = {}
        self.islands = Islands(self._layer)
        self.remarks: list[str] = []
        self.hidden: Mapping[str, tuple[int, ...]] = {}
        self._outside = FunctionState(self, TorchTensors())
        try:
            torch.manual_seed(seed)
            with self._scope():
                self.model = self._called = self._build()
                self._prepare_training()
            self.islands.numbers.clear()  # what came in while the model was built is in its state
        except BaseException:
            self.close()
            raise

    def _build(self) -> torch.nn.Module:
        build = self.declared.build
        if isinstance(build, torch.nn.Module):
            given, model = build, copy.deepcopy(build)  # the caller's model keeps its dtype and its weights
        else:
            with calling("torch build"):
                given = model = build()
        if not isinstance(given, torch.nn.Module):
            raise PairError("TorchSide.build did not return a torch.nn.Module.", where="TorchSide.build", **got(given))
        refuse_without_values(given)
        before = inventory(given).tie_groups()
        model = model.to(device=self.device, dtype=self.dtype)
        if inventory(model).tie_groups() != before:
            raise PairError(
                f"The torch model cannot be converted to {self.dtype} with its ties.",
                where="TorchSide.build",
                cause="some of its parameters are views of one storage, which copying or casting separates",
                todo="pass a function that builds the model, and let its parameters follow the default dtype",
            )
        return model

    def _prepare_training(self) -> None:
        self._paths = {id(m): name or "(the model)" for name, m in self.model.named_modules()}
        self.optimizer = build_optimizer(self.declared, self.model)
        self.memory = Memory(self.model, self.optimizer, self.store, functions(self.declared))

    @contextmanager
    def _scope(self) -> Generator[None]:
        """The user's code creates tensors in the precision and on the device of the run."""
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        mode = Float64Throughout(self.islands) if self.dtype == torch.float64 else nullcontext()
        try:
            with self.device, mode, eagerly(self._called is None or self._called is self.model):
                yield
        finally:
            torch.set_default_dtype(dtype)

    def _layer(self, owner: Any) -> str | None:
        if not isinstance(owner, torch.nn.Module):
            return None
        return self._paths.get(id(owner), type(owner).__name__)

    def prime(self, batch: Batch) -> None:
        """Make what the model makes at its first call, and see what it computes with and does not know of.

        Raises:
            PairError: the model makes new parameters at every call.
            UserCodeError: the model cannot be called with this batch.
        """
        if not has_forward(self):
            return
        ready = self._ready(batch)
        with self._scope():
            with switched(self.model, False), DropoutOff(), torch.no_grad():
                made = whole_after_a_call(self.model, lambda: self._call(ready.inputs), self.store)
            if made:
                self.model.to(device=self.device, dtype=self.dtype)
                self._prepare_training()
        self.islands.numbers.clear()
        self.hidden = hidden(self, batch)

    def inventory(self) -> Inventory:
        return inventory(self.model)

    def read(self) -> State:
        self._outside.enter()
        return self.memory.read()

    def write(self, state: State) -> None:
        self._outside.enter()
        self.memory.write(state)

    def snapshot(self) -> Any:
        self._outside.enter()
        return self.memory.snapshot()

    def restore(self, snapshot: Any) -> None:
        self._outside.enter()
        self.memory.restore(snapshot)
        self.store.release()

    def differing(self, first: Any, second: Any) -> Sequence[str]:
        return first[0].moved(second[0])

    def counts(self, snapshots: Sequence[Any]) -> Counts:
        return counts([saved for saved, _ in snapshots], TorchTensors())

    def holdings(self) -> Holdings | None:
        held = self.memory.holdings()
        return held and replace(held, hidden=self.hidden)

    def unmapped_slots(self) -> list[str]:
        return self.memory.unmapped_slots()

    def promises(self) -> Mapping[str, Distribution]:
        return {}

    def modes(self) -> Sequence[str]:
        return ("compiled",)

    def step(self, number: int, batch: Batch, *, observe: bool = True, mode: str = EAGER) -> StepRecord:
        self._called, ready = self.model if mode == EAGER else self._compiled(), self._ready(batch)
        before = self.read()
        averages = self.memory.averages.around(before)
        inference, at_inference = self._infer(ready) if observe and has_forward(self) else ({}, ())
        torch.manual_seed(step_seed(self.seed, number))
        observer = Observer(self.model, self.memory.optimizers, self._named_outputs, self.store) if observe else None
        dropout = DropoutOff(self._layer)
        with self._scope(), dropout, warnings.catch_warnings():
            if mode != EAGER:  # the compiler uses what PyTorch itself has deprecated
                warnings.simplefilter("ignore", DeprecationWarning)
            try:
                losses = self._custom_step(ready) if self.declared.step else self._standard_step(ready)
            finally:
                if observer:
                    observer.remove()
        gradients: dict[str, Array | None] = {}
        if observer:
            found, parameters = observer.unscaled(), self.memory.parameters()
            gradients = {path: found.get(id(p)) for path, p in parameters.items() if p.requires_grad}
        calls, differentiated = (observer.calls, observer.differentiated) if observer else ([], [])
        outputs, rates, engaged = passes_record(calls, differentiated, dropout.drops, at_inference, batch.size)
        self.store.release()
        made = number, *averages(self.read), inference, outputs, losses, rates, gradients, {}
        return StepRecord(*made, tuple(dict.fromkeys(dropout.draws)), len(calls) if observer else None, engaged)

    def _compiled(self) -> Any:
        told = calling("torch model, compiled,", todo="leave the phase modes out where torch.compile has no compiler")
        with told, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.compile(self.model)

    def _ready(self, batch: Batch) -> Prepared:
        with self._scope():
            islands = self.islands if self.dtype == torch.float64 else None
            made = prepared(self.declared.prepare, batch, self.side, islands)
        if made.sample_weight is not None and self.declared.step is None:
            raise PairError(
                "The torch side's prepare returns sample weights, but the standard step does not use them.",
                where="TorchSide.prepare",
                todo="include the weights in the targets for the loss to use, or give TorchSide a step",
            )
        return Prepared(*(tensors_of(part, self.device, self.dtype) for part in made))

    def _call(self, inputs: Any) -> Any:
        with calling(
            "torch model, called with this batch,",
            numbers=describe(inputs),
            todo="check TorchSide.prepare and the keys of the batch, or the model; XCHECK_TRACEBACK=1 shows the rest",
        ):
            if isinstance(inputs, Mapping):
                return self._called(**inputs)
            return self._called(*inputs) if isinstance(inputs, tuple) else self._called(inputs)

    def _picked(self, raw: Any) -> Any:
        if self.declared.outputs is None:
            return raw
        with calling("torch outputs", numbers=describe(raw)):
            return self.declared.outputs(raw)

    def _named_outputs(self, raw: Any) -> dict[str, torch.Tensor]:
        return compared(self.side, self._picked(raw), torch.is_tensor, as_real, self.declared.outputs is not None)

    def infer(self, batch: Batch) -> Arrays:
        return self._infer(self._ready(batch))[0]

    def _infer(self, ready: Prepared) -> tuple[dict[str, Array], list[float]]:
        if not has_forward(self):
            with self._scope(), DropoutOff():
                return terms_of_a_step(self, lambda: self._custom_step(ready)), []
        looked = looked_at(self.model, self.store)
        with self._scope(), looked, switched(self.model, False), DropoutOff() as dropout, torch.no_grad():
            named = self._named_outputs(self._call(ready.inputs))
        return {name: to_numpy(t) for name, t in named.items()}, dropout.drops.rates

    def draws(self, batch: Batch) -> tuple[str, ...]:
        return draws(self, batch)

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
        ready = self._ready(batch)
        watch = Watch(self.model, swap, inside)
        self._called = self.model
        kept = self.snapshot()
        try:
            by_step = not has_forward(self)
            gradients_on = torch.set_grad_enabled(gradients or by_step)
            with self._scope(), switched(self.model, training), DropoutOff(), gradients_on:
                with watch.recording():
                    raw = None if by_step else self._call(ready.inputs)
                    if by_step:
                        pass_by_step(lambda: self._custom_step(ready), "torch step", swap is not None)
                by_call: dict[int, Mapping[str, Any]] = {}
                if gradients and not by_step:
                    with watch.recording_loss({"outputs": raw, "targets": ready.targets}) as made:
                        made["output"] = self._total(raw, ready)
                    by_call = watch.gradients(made["output"])
        finally:
            self.restore(kept)
        return tuple(replace(call, gradients=by_call.get(call.index, {})) for call in watch.made)

    def uses(self, number: int, batch: Batch) -> Mapping[str, Arrays]:
        with leaving_out(self.remarks, "the gradients of the torch side are not split by use"):
            return uses(self, number, batch)
        return {}

    def rounding(self, rng: np.random.Generator) -> AbstractContextManager[None]:
        return rounding(self.model, self.dtype, rng)

    def stops(self, let_through: Open) -> AbstractContextManager[list[Stop]]:
        return stops(self.model, let_through)

    def _total(self, raw: Any, ready: Prepared) -> torch.Tensor:
        """The loss and the penalties of the standard step, summed."""
        return torch.stack([*self._data_loss(raw, ready).values(), *self._penalty().values()]).sum()

    def _penalty(self) -> dict[str, torch.Tensor]:
        if self.declared.penalty is None:
            return {}
        with calling("torch penalty"):
            return scalars(self.declared.penalty(self.model), "penalty")

    def _standard_step(self, ready: Prepared) -> dict[str, Array]:
        set_training(self.model, True)
        for optimizer in returned_optimizers(self.optimizer):
            optimizer.zero_grad()
        raw = self._call(ready.inputs)
        data = self._data_loss(raw, ready)
        penalty = self._penalty()
        total = torch.stack([*data.values(), *penalty.values()]).sum()
        if total.requires_grad:
            with calling("torch backward pass"):
                total.backward()
        for optimizer in returned_optimizers(self.optimizer):
            with calling("torch optimizer step"):
                optimizer.step()
        if self.declared.after_step is not None:
            with calling("torch after_step"):
                self.declared.after_step(self.model)
        self.memory.let_gradients_go()
        return dict(losses_record(arrays(data), arrays(penalty), to_numpy(total)))

    def _data_loss(self, raw: Any, ready: Prepared) -> dict[str, torch.Tensor]:
        if self.declared.loss is None:
            named = self._named_outputs(raw)
            terms = [
                (t * torch.from_numpy(projection(name if len(named) > 1 else "output", tuple(t.shape))).to(t)).sum()
                for name, t in named.items()
                if t.is_floating_point()
            ]
            if not terms:
                raise nothing_to_differentiate(self.side, named)
            return {"": torch.stack(terms).sum()}
        picked = self._picked(raw)
        with calling("torch loss", numbers=f"outputs {describe(picked)}, targets {describe(ready.targets)}"):
            value = self.declared.loss(picked, ready.targets)
        return scalars(value, "loss")

    def _custom_step(self, ready: Prepared) -> dict[str, Array]:
        set_training(self.model, True)
        with calling("torch step"):
            step: Any = self.declared.step
            value = asked(step, [self._called, self.optimizer, ready], more_of(self.model), usual_first=True)
        return step_losses(value)

    def exporter(self) -> TorchExporter:
        return TorchExporter(self)

    def persistence(self) -> TorchPersistence:
        return TorchPersistence(self)

    def environment(self) -> Mapping[str, Any]:
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        found = {"torch": torch.__version__, "device": self.device.type, "gpu": gpu}
        return {**found, **flags(), **facts_of_all(self.memory.optimizers, facts)}

    def notes(self) -> list[str]:
        return self.islands.notes(self.side) + self.remarks

    def close(self) -> None:
        self._outside.close()
        restore_flags(self._flags)
