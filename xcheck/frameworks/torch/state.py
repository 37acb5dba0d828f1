"""What a PyTorch training step starts from and leaves behind, read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...records.inventory import Holdings
from ...records.slots import AVERAGE, TORCH, Slot, find
from ...records.store import Store
from ...records.trace import Array, State
from ..averages import Averages
from ..reachable import Saved
from .reachable import TorchTensors
from .variables import inventory, seen, to_numpy


class Memory:
    """The parameters and buffers of a model and the slots of its optimizer.

    Args:
        model: to read and write.
        optimizer: of the model; None where nothing trains.
        store: keeps what is read.
        functions: name -> what else the step keeps something in.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None,
        store: Store,
        functions: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.store = store
        self._roots = {"model": model, "optimizer": optimizer, **functions}
        self.averages = Averages(lambda: self._roots, TorchTensors(), store, self._known)
        self._given: list[Array] = []
        self._updates = 0
        self._lr: dict[int, float] = {}
        self._depth = 0
        if optimizer is not None:
            optimizer.register_step_pre_hook(self._before_update)
            optimizer.register_step_post_hook(self._after_update)

    def _before_update(self, *_: Any) -> None:
        self._depth += 1

    def _after_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._depth -= 1
        if self._depth:  # the `step` of a base class, called by that of its subclass: one update, both with hooks
            return
        self._updates += 1
        for group in optimizer.param_groups:
            for p in group["params"]:
                self._lr[id(p)] = float(group["lr"])

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """By path; one entry for a shared one, its first path."""
        return dict(self.model.named_parameters())

    def read(self) -> State:
        """The current state, as the store keeps it."""
        slots: dict[str, dict[str, Array]] = {}
        for path, p in self.parameters().items():
            kept = self.optimizer.state.get(p, {}) if self.optimizer else {}
            for key, value in kept.items():
                slot = self._slot(key)
                if slot is not None and isinstance(value, torch.Tensor):
                    array = slot.canonical(seen(value), self._lr.get(id(p), 0.0))
                    slots.setdefault(path, {})[slot.role] = self.store.keep(array)
        return self.averages.read(State(*self._values(), slots, self._updates, inventory(self.model).ties()))

    def _known(self) -> tuple[list[Any], list[Any]]:
        """The tensors of the model and the slots, and those of the slots that are averages."""
        ours: list[Any] = [*self.model.parameters(), *self.model.buffers()]
        slots = [item for kept in (self.optimizer.state if self.optimizer else {}).values() for item in kept.items()]
        roles = [(self._slot(key), value) for key, value in slots if isinstance(value, torch.Tensor)]
        ours += [value for slot, value in roles if slot is not None and slot.role != AVERAGE]
        means = [value for slot, value in roles if slot is not None and slot.role == AVERAGE]
        return ours, means

    def _values(self) -> tuple[dict[str, Array], dict[str, Array]]:
        parameters = {path: to_numpy(p, self.store) for path, p in self.parameters().items()}
        return parameters, {path: to_numpy(b, self.store) for path, b in self.model.named_buffers()}

    def write(self, state: State) -> None:
        """Set what the given state holds and leave the rest."""
        parameters, buffers = self.parameters(), dict(self.model.named_buffers())
        follow = self.averages.following(self._values()[0])
        with torch.no_grad():
            for path, array in state.values().items():
                tensor = parameters[path] if path in parameters else buffers[path]
                tensor.copy_(torch.from_numpy(np.array(array)))
            follow(state)
            self._given = self.store.given(state.values().values())
            for path, roles in state.slots.items():
                self._write_slots(parameters[path], roles, state.updates)

    def _write_slots(self, p: torch.nn.Parameter, roles: Mapping[str, Array], updates: int) -> None:
        kept = self.optimizer.state.get(p, {}) if self.optimizer else {}
        for key, value in kept.items():
            slot = self._slot(key)
            if slot is not None and slot.role in roles and isinstance(value, torch.Tensor):
                array = slot.stored(roles[slot.role], self._lr.get(id(p), 0.0))
                if array is not None:
                    value.copy_(torch.from_numpy(np.array(array)))
            elif key == "step":
                kept[key] = torch.full_like(value, updates) if isinstance(value, torch.Tensor) else updates

    def snapshot(self) -> Any:
        """Everything `restore` needs to repeat what comes next."""
        return Saved(self._roots, TorchTensors(), self.store), self._updates, dict(self._lr)

    def stateful(self) -> dict[str, Any]:
        """The optimizer, and what is kept on it that has a state of its own, such as a scheduler."""
        if self.optimizer is None:
            return {}
        held = {name: part for name, part in vars(self.optimizer).items() if hasattr(part, "load_state_dict")}
        return {"": self.optimizer, **held}

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        saved, self._updates, lr = snapshot
        saved.restore()
        self._lr = dict(lr)

    def let_gradients_go(self) -> None:
        """Free what the next standard step would begin with freeing."""
        if self.optimizer is not None and type(self.optimizer).zero_grad is torch.optim.Optimizer.zero_grad:
            self.optimizer.zero_grad()

    def follow(self, other: Memory) -> None:
        """Take over what another memory knows of the updates so far; the slots themselves stay."""
        theirs = other.parameters()
        self._updates = other._updates
        self._lr = {id(p): other._lr.get(id(theirs.get(path)), 0.0) for path, p in self.parameters().items()}

    def _slot(self, key: str) -> Slot | None:
        return find(TORCH, [c.__name__ for c in type(self.optimizer).__mro__], key)

    def unmapped_slots(self) -> list[str]:
        """Optimizer slots that have no known role."""
        found: set[str] = set()
        averages = self.averages.places()
        for kept in (self.optimizer.state if self.optimizer else {}).values():
            held = ((key, value) for key, value in kept.items() if isinstance(value, torch.Tensor))
            tensors = {key for key, value in held if TorchTensors().place(value) not in averages}
            found |= {key for key in tensors - {"step"} if self._slot(key) is None}
        return sorted(f"{type(self.optimizer).__name__}.state[...][{key!r}]" for key in found)

    def holdings(self) -> Holdings | None:
        """What the optimizer was given; None where there is none."""
        if self.optimizer is None:
            return None
        paths = {id(p): path for path, p in self.parameters().items()}
        given = [p for group in self.optimizer.param_groups for p in group["params"]]
        orphans = tuple(tuple(p.shape) for p in given if id(p) not in paths)
        return Holdings(dict(Counter(paths[id(p)] for p in given if id(p) in paths)), orphans)
