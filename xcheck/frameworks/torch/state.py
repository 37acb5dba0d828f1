"""What a PyTorch training step starts from and leaves behind, read and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ...records.inventory import Holdings
from ...records.slots import AVERAGE, TORCH, Slot, find
from ...records.store import Store
from ...records.trace import Array, State
from ..averages import Averages
from ..optimizers import is_known
from ..reachable import Saved
from .optimizer import rates
from .optimizers import optimizers_in
from .reachable import TorchTensors
from .schedulers import scheduler_of, scheduler_rates
from .variables import inventory, seen, to_numpy


class Memory:
    """The parameters and buffers of a model and the slots of its optimizer.

    Args:
        model: to read and write.
        optimizer: of the model, or a dict, tuple or list of several; None where nothing trains.
        store: keeps what is read.
        functions: name -> what else the step keeps something in.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Any, store: Store, functions: Mapping[str, Any]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.optimizers = optimizers_in(optimizer, model)
        self.store = store
        self._updates = [0]
        self._roots = {"model": model, "optimizer": optimizer, "optimizer updates": self._updates, **functions}
        self.averages = Averages(lambda: self._roots, TorchTensors(), store, self._known)
        self._given: list[Array] = []
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
        self._updates[0] += 1
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
            for slot, value in self._slots(p):
                array = slot.canonical(seen(value), self._lr.get(id(p), 0.0))
                slots.setdefault(path, {})[slot.role] = self.store.keep(array)
        guessed = any(not is_known(optimizer, "torch.optim.") for optimizer in self.optimizers)
        guessed |= any(self._doubled(p) for p in self.parameters().values())
        state = State(*self._values(), slots, self._updates[0], inventory(self.model).ties(), guessed)
        return self.averages.read(state)

    def _known(self) -> tuple[list[Any], list[Any]]:
        """The tensors of the model and the slots, and those of the slots that are averages."""
        slots = [held for p in self.parameters().values() for held in self._every_slot(p)]
        others = [value for slot, value in slots if slot.role != AVERAGE]
        averages = [value for slot, value in slots if slot.role == AVERAGE]
        return [*self.model.parameters(), *self.model.buffers(), *others], averages

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
        return parameters, {path: to_numpy(b, self.store) for path, b in self.buffers().items()}

    def write(self, state: State) -> None:
        """Set what the given state holds and leave the rest."""
        parameters, buffers = self.parameters(), self.buffers()
        follow = self.averages.following(self._values()[0])
        with torch.no_grad():
            for path, array in state.values().items():
                tensor = parameters[path] if path in parameters else buffers[path]
                tensor.copy_(torch.from_numpy(np.array(array)))
            follow(state)
            self._given = self.store.adopt(state.values().values())
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
        return Saved(self._roots, TorchTensors(), self.store), dict(self._lr)

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
        saved, lr = snapshot
        saved.restore()
        self._lr = dict(lr)

    def let_gradients_go(self) -> None:
        """Free what the next standard step would begin with freeing."""
        for optimizer in self.optimizers:
            if type(optimizer).zero_grad is torch.optim.Optimizer.zero_grad:
                optimizer.zero_grad()

    def follow(self, other: Memory) -> None:
        """Take over what another memory knows of the updates so far; the slots themselves stay."""
        theirs = other.parameters()
        self._updates[0] = other._updates[0]
        self._lr = {id(p): other._lr.get(id(theirs.get(path)), 0.0) for path, p in self.parameters().items()}

    def unmapped_slots(self) -> list[str]:
        """Optimizer slots that have no known role."""
        found: set[str] = set()
        averages = self.averages.places()
        for optimizer in self.optimizers:
            for kept in optimizer.state.values():
                held = ((key, value) for key, value in kept.items() if isinstance(value, torch.Tensor))
                tensors = {key for key, value in held if TorchTensors().place(value) not in averages} - {"step"}
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
        held = dict(listed), tuple(orphans.values())
        updates, own_loop = self._updates[0], self._roots.keys() & {"step", "after_step"}
        if updates and own_loop and len(self.optimizers) == 1:
            reached = [entry.thing for entry in Saved(self._roots, TorchTensors(), self.store).entries]
            scheduler = scheduler_of(self.optimizers[0], reached, updates)
            if scheduler is not None:
                return Holdings(*held, rates=scheduler_rates(scheduler, self.optimizers[0], updates))
        return Holdings(*held, rates=rates(self.optimizer) if len(self.stateful()) == 1 else {})


def _slot(optimizer: torch.optim.Optimizer, key: str) -> Slot | None:
    return find(TORCH, [c.__name__ for c in type(optimizer).__mro__], key)
