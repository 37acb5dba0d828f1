"""What a PyTorch training step starts from and leaves behind, read and written."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...records.inventory import Holdings
from ...records.slots import TORCH, Slot, find
from ...records.store import Store
from ...records.trace import Array, State
from ..optimizers import is_known
from .optimizers import optimizers_in
from .variables import inventory, seen, to_numpy


class Memory:
    """The parameters and buffers of a model and the slots of its optimizer.

    Args:
        model: to read and write.
        optimizer: of the model, or a dict, tuple or list of several; None where nothing trains.
        store: keeps what is read.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Any, store: Store) -> None:
        self.model = model
        self.optimizer = optimizer
        self.optimizers = optimizers_in(optimizer, model)
        self.store = store
        self._given: list[Array] = []
        self._updates = 0
        self._lr: dict[int, float] = {}
        self._depth = 0
        for one in self.optimizers:
            one.register_step_pre_hook(self._before_update)
            one.register_step_post_hook(self._after_update)

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
            for slot, value in self._slots(p):
                array = slot.canonical(seen(value), self._lr.get(id(p), 0.0))
                slots.setdefault(path, {})[slot.role] = self.store.keep(array)
        guessed = any(not is_known(optimizer, "torch.optim.") for optimizer in self.optimizers)
        guessed |= any(self._doubled(p) for p in self.parameters().values())
        return State(*self._values(), slots, self._updates, inventory(self.model).ties(), guessed)

    def _slots(self, p: torch.nn.Parameter) -> list[tuple[Slot, torch.Tensor]]:
        """The slots of a parameter that have a known role; none of `_doubled`."""
        twice = self._doubled(p)
        return [(slot, value) for slot, value in self._every_slot(p) if slot.role not in twice]

    def _doubled(self, p: torch.nn.Parameter) -> list[str]:
        """Roles that two optimizers keep of one parameter: no name says which belongs to which of the other side."""
        return [role for role, often in Counter(slot.role for slot, _ in self._every_slot(p)).items() if often > 1]

    def _every_slot(self, p: torch.nn.Parameter) -> list[tuple[Slot, torch.Tensor]]:
        kept = [(optimizer, *item) for optimizer in self.optimizers for item in optimizer.state.get(p, {}).items()]
        found = ((_slot(optimizer, key), value) for optimizer, key, value in kept if isinstance(value, torch.Tensor))
        return [(slot, value) for slot, value in found if slot is not None]

    def _values(self) -> tuple[dict[str, Array], dict[str, Array]]:
        parameters = {path: to_numpy(p, self.store) for path, p in self.parameters().items()}
        return parameters, {path: to_numpy(b, self.store) for path, b in self.model.named_buffers()}

    def write(self, state: State) -> None:
        """Set what the given state holds and leave the rest."""
        parameters, buffers = self.parameters(), dict(self.model.named_buffers())
        with torch.no_grad():
            for path, array in state.values().items():
                tensor = parameters[path] if path in parameters else buffers[path]
                tensor.copy_(torch.from_numpy(np.array(array)))
            self._given = self.store.given(state.values().values())
            for path, roles in state.slots.items():
                self._write_slots(parameters[path], roles, state.updates)

    def _write_slots(self, p: torch.nn.Parameter, roles: Mapping[str, Array], updates: int) -> None:
        for slot, value in self._slots(p):
            array = slot.stored(roles[slot.role], self._lr.get(id(p), 0.0)) if slot.role in roles else None
            if array is not None:
                value.copy_(torch.from_numpy(np.array(array)))
        if len(self.optimizers) == 1:  # several count for themselves: the other side may have one for them all
            kept = self.optimizers[0].state.get(p, {})
            if (value := kept.get("step")) is not None:
                kept["step"] = torch.full_like(value, updates) if isinstance(value, torch.Tensor) else updates

    def snapshot(self) -> Any:
        """Everything `restore` needs to repeat what comes next."""
        kept = {name: copy.deepcopy(part.state_dict(), self._slots_aside()) for name, part in self.stateful().items()}
        grads = [p.grad for p in self.model.parameters()]
        gradients = [None if g is None else _aside(g, self.store) or g.clone() for g in grads]
        places = [(module, name, p) for module in self.model.modules() for name, p in module._parameters.items()]
        return State(*self._values()), kept, self._updates, dict(self._lr), gradients, places

    def _slots_aside(self) -> dict[int, _Aside]:
        """What a deep copy of the optimizer's state takes for its tensors, by their ids."""
        slots = [kept.values() for optimizer in self.optimizers for kept in optimizer.state.values()]
        tensors = [value for of in slots for value in of if isinstance(value, torch.Tensor)]
        return {id(t): aside for t in tensors if (aside := _aside(t, self.store)) is not None}

    def stateful(self) -> dict[str, Any]:
        """The optimizer, and what is kept on it that has a state of its own, such as a scheduler."""
        found: dict[str, Any] = {}
        for number, optimizer in enumerate(self.optimizers):
            start = f"{number} " if number else ""
            held = {start + name: part for name, part in vars(optimizer).items() if hasattr(part, "load_state_dict")}
            found |= {start: optimizer, **held}
        return found

    def restore(self, snapshot: Any) -> None:
        """Go back to a snapshot."""
        state, kept, self._updates, lr, gradients, places = snapshot
        for module, name, p in places:
            if getattr(module, name) is not p:  # a step that loads with assign=True puts others in their places
                setattr(module, name, p)
        for p, gradient in zip(self.model.parameters(), gradients, strict=True):
            p.grad = gradient.clone() if isinstance(gradient, torch.Tensor) else copy.deepcopy(gradient)
        self._lr = dict(lr)
        self.write(state)
        for name, part in self.stateful().items():
            part.load_state_dict(copy.deepcopy(kept[name]))

    def let_gradients_go(self) -> None:
        """Free what the next standard step would begin with freeing."""
        for optimizer in self.optimizers:
            if type(optimizer).zero_grad is torch.optim.Optimizer.zero_grad:
                optimizer.zero_grad()

    def follow(self, other: Memory) -> None:
        """Take over what another memory knows of the updates so far; the slots themselves stay."""
        theirs = other.parameters()
        self._updates = other._updates
        self._lr = {id(p): other._lr.get(id(theirs.get(path)), 0.0) for path, p in self.parameters().items()}

    def unmapped_slots(self) -> list[str]:
        """Optimizer slots that have no known role."""
        found: set[str] = set()
        for optimizer in self.optimizers:
            for kept in optimizer.state.values():
                tensors = {key for key, value in kept.items() if isinstance(value, torch.Tensor)} - {"step"}
                unknown = (key for key in tensors if _slot(optimizer, key) is None)
                found |= {f"{type(optimizer).__name__}.state[...][{key!r}]" for key in unknown}
        twice = ((path, role) for path, p in self.parameters().items() for role in self._doubled(p))
        return sorted(found) + [f"{role} of {path}, kept by two optimizers" for path, role in twice]

    def holdings(self) -> Holdings | None:
        """What the optimizer was given; None where there is none."""
        if not self.optimizers:
            return None
        paths = {id(p): path for path, p in self.parameters().items()}
        listed, orphans = Counter[str](), dict[int, tuple[int, ...]]()
        for optimizer in self.optimizers:  # one parameter may be trained by several optimizers
            given = [p for group in optimizer.param_groups for p in group["params"]]
            listed |= Counter(paths[id(p)] for p in given if id(p) in paths)
            orphans |= {id(p): tuple(p.shape) for p in given if id(p) not in paths}
        return Holdings(dict(listed), tuple(orphans.values()))


def _slot(optimizer: torch.optim.Optimizer, key: str) -> Slot | None:
    return find(TORCH, [c.__name__ for c in type(optimizer).__mro__], key)


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
