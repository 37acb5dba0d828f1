"""What a PyTorch training step starts from and leaves behind, read and written."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ...records.inventory import Holdings
from ...records.slots import TORCH, Slot, find
from ...records.store import Store
from ...records.trace import Array, State
from .optimizer import rates
from .variables import inventory, seen, to_numpy


class Memory:
    """The parameters and buffers of a model and the slots of its optimizer.

    Args:
        model: to read and write.
        optimizer: of the model; None where nothing trains.
        store: keeps what is read.
    """

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, store: Store) -> None:
        self.model = model
        self.optimizer = optimizer
        self.store = store
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
        return {path: p for path, p in self.model.named_parameters() if not is_lazy(p)}

    def buffers(self) -> dict[str, torch.Tensor]:
        """By path."""
        return {path: b for path, b in self.model.named_buffers() if not is_lazy(b)}

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
        return State(*self._values(), slots, self._updates, inventory(self.model).ties())

    def _values(self) -> tuple[dict[str, Array], dict[str, Array]]:
        parameters = {path: to_numpy(p, self.store) for path, p in self.parameters().items()}
        return parameters, {path: to_numpy(b, self.store) for path, b in self.buffers().items()}

    def write(self, state: State) -> None:
        """Set what the given state holds and leave the rest."""
        parameters, buffers = self.parameters(), self.buffers()
        with torch.no_grad():
            for path, array in state.values().items():
                tensor = parameters[path] if path in parameters else buffers[path]
                tensor.copy_(torch.from_numpy(np.array(array)))
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
        kept = {name: copy.deepcopy(part.state_dict(), self._slots_aside()) for name, part in self.stateful().items()}
        grads = [(p, p.grad) for p in self.model.parameters()]
        gradients = [(p, None if g is None else _aside(g, self.store) or g.clone()) for p, g in grads]
        places = [(module, name, p) for module in self.model.modules() for name, p in module._parameters.items()]
        return State(*self._values()), kept, self._updates, dict(self._lr), gradients, places

    def _slots_aside(self) -> dict[int, _Aside]:
        """What a deep copy of the optimizer's state takes for its tensors, by their ids."""
        slots = [kept.values() for kept in self.optimizer.state.values()] if self.optimizer else []
        tensors = [value for of in slots for value in of if isinstance(value, torch.Tensor)]
        return {id(t): aside for t in tensors if (aside := _aside(t, self.store)) is not None}

    def stateful(self) -> dict[str, Any]:
        """The optimizer, and what is kept on it that has a state of its own, such as a scheduler."""
        if self.optimizer is None:
            return {}
        held = {name: part for name, part in vars(self.optimizer).items() if hasattr(part, "load_state_dict")}
        return {"": self.optimizer, **held}

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        state, kept, self._updates, lr, gradients, places = snapshot
        for module, name, p in places:
            if getattr(module, name) is not p:  # a step that loads with assign=True puts others in their places
                setattr(module, name, p)
        for p, gradient in gradients:
            p.grad = gradient.clone() if isinstance(gradient, torch.Tensor) else copy.deepcopy(gradient)
        self._lr = dict(lr)
        self.write(state)
        for name, part in self.stateful().items():
            part.load_state_dict(copy.deepcopy(kept[name]))

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
        for kept in (self.optimizer.state if self.optimizer else {}).values():
            tensors = {key for key, value in kept.items() if isinstance(value, torch.Tensor)}
            found |= {key for key in tensors - {"step"} if self._slot(key) is None}
        return sorted(f"{type(self.optimizer).__name__}.state[...][{key!r}]" for key in found)

    def holdings(self) -> Holdings | None:
        """What the optimizer was given; None where there is none."""
        if self.optimizer is None:
            return None
        paths = {id(p): path for path, p in self.parameters().items()}
        given = [p for group in self.optimizer.param_groups for p in group["params"]]
        orphans = tuple(tuple(p.shape) for p in given if id(p) not in paths)
        alone = rates(self.optimizer) if len(self.stateful()) == 1 else ()  # no scheduler
        return Holdings(dict(Counter(paths[id(p)] for p in given if id(p) in paths)), orphans, rates=alone)


@dataclass(frozen=True, slots=True)
class _Aside:
    """The values of a tensor, as the store keeps them. A deep copy of it is a tensor of these values."""

    values: Array
    device: torch.device

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(self.values)).to(self.device)


def _aside(tensor: torch.Tensor, store: Store) -> _Aside | None:
    """What stands for a tensor; None where its values do not say all that it is, or how it lies in memory."""
    plain = type(tensor) is torch.Tensor and tensor.layout == torch.strided and tensor.is_contiguous()
    if not plain or tensor.requires_grad or tensor.dtype not in (torch.float64, torch.float32):
        return None
    return _Aside(to_numpy(tensor, store), tensor.device)
