"""The ways a PyTorch model is saved and loaded.

What PyTorch does to a tied weight is a matter of identity. A `Parameter` that two modules hold stays one in every
route but `load_state_dict(assign=True)`, which makes a `Parameter` of its own for each path, over the one memory that
`torch.load` gives them. Two Parameters that are views of one memory are parted by `deepcopy` and by `.to(dtype)`, which
take them one by one, and refused by safetensors.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model

from ...errors import UserCodeError
from ...pairs.pair import Batch
from ...pairs.user_code import calling
from ...records.islands import Islands
from ...records.reload import Route
from ...records.trace import State
from ..protocol import Loaded
from ..reachable import functions
from ..tree import AttributeValue, attribute_values
from .optimizers import build_optimizer
from .state import Memory
from .variables import to_numpy

ROUTES = (
    Route("state_dict", keeps_optimizer=True),
    Route("assign=True", unties="parameters", says="with an optimizer made after loading"),
    Route("safetensors", says="the format stores only the tensors of the model"),
    Route("deepcopy", keeps_optimizer=True, unties="views"),
    Route(
        "to(dtype)", keeps_optimizer=True, unties="views", says="float32 and back; buffers are rounded, and set again"
    ),
)
"""`state_dict`: `torch.save`, `torch.load(weights_only=True)` and `load_state_dict`, of the model and its optimizer."""

_TODO = "correct the model, or document that this way of loading must not be used"

_OWN = frozenset(vars(torch.nn.Module()))


class TorchPersistence:
    """Saves a `TorchRunner` and loads it.

    Args:
        runner: the side as it stands.
    """

    routes: Sequence[Route] = ROUTES

    def __init__(self, runner: Any) -> None:
        self._runner = runner

    def reload(self, route: Route, folder: Path, batch: Batch) -> Loaded:
        take = {
            "state_dict": self._state_dict,
            "assign=True": self._assign,
            "safetensors": self._safetensors,
            "deepcopy": self._deepcopy,
            "to(dtype)": self._to,
        }[route.name]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with calling(f"torch model, saved and loaded by {route.name},", todo=_TODO):
                made = take(folder)
        remarks = [f"warned: {one.message}" for one in said if not issubclass(one.category, DeprecationWarning)]
        orphans = len(_orphans(made))
        if orphans:
            remarks.append(f"the optimizer trains {orphans} parameters that the model no longer has")
        return Loaded(made, route.keeps_optimizer, remarks, orphans)

    def _state_dict(self, folder: Path) -> Any:
        made, file = self._fresh(), folder / "checkpoint.pt"
        parts = self._runner.memory.stateful()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"model": self._runner.model.state_dict(), "parts": states}, file)
        loaded = torch.load(file, map_location=self._runner.device, weights_only=True)
        made.model.load_state_dict(loaded["model"])
        self._carry(made, loaded["parts"])
        return made

    def _assign(self, folder: Path) -> Any:
        made, file = self._fresh(), folder / "model.pt"
        torch.save(self._runner.model.state_dict(), file)
        loaded = torch.load(file, map_location=self._runner.device, weights_only=True)
        made.model.load_state_dict(loaded, assign=True)
        return _with_optimizer(made)

    def _safetensors(self, folder: Path) -> Any:
        made, file = self._fresh(), folder / "model.safetensors"
        save_model(self._runner.model, str(file))
        load_model(made.model, file)
        return made

    def _deepcopy(self, folder: Path) -> Any:
        made = copy.copy(self._runner)
        made.model = made._called = copy.deepcopy(self._runner.model)
        made._paths = {id(m): name or "(the model)" for name, m in made.model.named_modules()}
        made.islands = Islands(made._layer)
        self._carry(_with_optimizer(made), self._states())
        return made

    def _to(self, folder: Path) -> Any:
        made = self._fresh()
        made.write(self._runner.read())
        self._carry(made, self._states())
        made.model.to(torch.float32).to(self._runner.dtype)
        made.write(State(buffers=self._runner.read().buffers))  # which hold more digits than float32
        return made

    def _fresh(self) -> Any:
        """The side built anew, from other random numbers."""
        ours = self._runner
        precision = str(ours.dtype).removeprefix("torch.")
        made = type(ours)(
            ours.declared, precision=precision, device=ours.device.type, seed=ours.seed + 1, store=ours.store
        )
        made.seed = ours.seed
        if made.model is ours.model:
            raise UserCodeError(
                "TorchSide.build returns the same model every time.",
                cause="there is no fresh model to load into",
                todo="build must return a new model at each call",
            )
        return made

    def _states(self) -> dict[str, Any]:
        return {name: copy.deepcopy(part.state_dict()) for name, part in self._runner.memory.stateful().items()}

    def _carry(self, made: Any, states: Mapping[str, Any]) -> None:
        """Give a loaded side the state of our optimizer, and what the canonical units of its slots depend on."""
        for name, part in made.memory.stateful().items():
            part.load_state_dict(states[name])
        made.memory.follow(self._runner.memory)

    @contextmanager
    def restarted(self) -> Generator[None]:
        runner = self._runner
        kept = runner.optimizer, runner.memory
        _with_optimizer(runner)
        try:
            yield
        finally:
            runner.optimizer, runner.memory = kept

    def unsaved(self, route: Route) -> Sequence[str]:
        if route.name == "deepcopy":
            return ()
        model = self._runner.model
        return sorted({path for path, _ in model.named_buffers()} - model.state_dict().keys())

    def forgotten(self) -> Mapping[str, tuple[Any, Any]]:
        return {}

    def attributes(self) -> Mapping[str, Any]:
        return {held.path: _copied(held.value) for held in self._held()}

    def mend(self, attributes: Mapping[str, Any]) -> None:
        for held in self._held():
            value = attributes.get(held.path, held.value)
            if isinstance(held.value, torch.Tensor):
                if isinstance(value, np.ndarray) and held.value.shape == value.shape:
                    held.value.data.copy_(torch.from_numpy(np.array(value)))
            elif not isinstance(held.value, tuple):
                held.put(value)
        optimizer, parameters = self._runner.optimizer, list(self._runner.model.parameters())
        if _orphans(self._runner) and len(getattr(optimizer, "param_groups", ())) == 1:
            group = optimizer.param_groups[0]
            if len(group["params"]) == len(parameters):
                for old, new in zip(group["params"], parameters, strict=True):
                    optimizer.state[new] = optimizer.state.pop(old, {})
                group["params"] = parameters

    def _held(self) -> list[AttributeValue]:
        model = self._runner.model
        state = {id(t) for t in [*model.parameters(), *model.buffers()]}
        found = [
            held
            for path, module in model.named_modules()
            for held in attribute_values(module, path, _OWN, torch.is_tensor, _foreign)
        ]
        return [held for held in found if id(held.value) not in state]


def _with_optimizer(runner: Any) -> Any:
    """Give a side a fresh optimizer for the parameters that its model has now."""
    with runner._scope():
        runner.optimizer = build_optimizer(runner.declared, runner.model)
    runner.memory = Memory(runner.model, runner.optimizer, runner.store, functions(runner.declared))
    return runner


def _orphans(runner: Any) -> list[torch.Tensor]:
    """What the optimizer trains though the model does not hold it."""
    held = {id(p) for p in runner.model.parameters()}
    groups = [group for optimizer in runner.memory.optimizers for group in optimizer.param_groups]
    return [p for group in groups for p in group["params"] if id(p) not in held]


def _foreign(value: Any) -> bool:
    root = type(value).__module__.partition(".")[0]
    return isinstance(value, torch.nn.Module) or root in ("torch", "numpy")


def _copied(value: Any) -> Any:
    return to_numpy(value) if isinstance(value, torch.Tensor) else value
