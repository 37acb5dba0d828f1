"""Training setups with something between the gradient and the update, run for the semantic verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ports import keras_sgd, mlp, torch_loss

import xcheck
from xcheck.optim import KerasSGD
from xcheck.phases import STEP_PHASES

PHASES = ("inventory", "sync", *STEP_PHASES)


def run(pair: xcheck.Pair, steps: int = 1) -> xcheck.Result:
    """The semantic verdict on a few steps."""
    return xcheck.check(pair, steps=steps, precision=("float64",), phases=PHASES)


def assert_equivalent(pair: xcheck.Pair, steps: int = 2) -> xcheck.Result:
    result = run(pair, steps)
    assert result.verdict == "EQUIVALENT", result.report()
    return result


def parted(result: xcheck.Result, phase: str) -> set[str]:
    """Names of what differs in a phase of the first step."""
    return {c.name for c in result.checks if (c.phase, c.step, c.verdict) == (phase, 1, "DIFFERENT")}


def step_with(between: Callable[[Any], None], scale: float = 1.0, zero: bool = True) -> Callable[..., Any]:
    """A user's own training step: `between(model)` runs after backpropagation and before the optimizer."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        if zero:
            optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        (loss * scale).backward()
        between(model)
        optimizer.step()
        return loss

    return step


def clip_by_value(model: Any) -> None:
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.02)


def clip_by_norm(model: Any) -> None:
    for p in model.parameters():
        p.grad *= 0.1 / p.grad.norm().clamp(min=0.1)


def clip_by_global_norm(model: Any) -> None:
    norm = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).norm()
    for p in model.parameters():
        p.grad *= 0.1 / norm.clamp(min=0.1)


def accumulated(share: float, parts: Sequence[int] = (5, 5)) -> Callable[..., Any]:
    """A step of PyTorch over parts of the batch, the first of which has this share of the gradient."""

    def step(model: Any, optimizer: Any, batch: Any) -> Any:
        optimizer.zero_grad()
        losses = []
        every = batch.inputs[: sum(parts)], batch.targets[: sum(parts)]
        for x, y in zip(*(array.split(list(parts)) for array in every), strict=True):
            losses.append(torch_loss(model(x), y) * (share * len(y) / parts[0]))
            losses[-1].backward()
        optimizer.step()
        return torch.stack(losses).sum().detach()

    return step


class AveragingSGD(KerasSGD):
    """Keeps an average of the weights, as Keras does with `use_ema`: the first is the weights themselves."""

    share = 0.9

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for p, kept in self.state.items():
            share = self.share if "average" in kept else 0.0
            kept["average"] = share * kept.get("average", 0.0) + (1 - share) * p.detach()
        return loss


def averaged(**options: Any) -> xcheck.Pair:
    return mlp(
        torch={"optimizer": lambda p: AveragingSGD(p, learning_rate=0.1)},
        keras={"optimizer": lambda: keras_sgd(use_ema=True, **{"ema_momentum": 0.9, **options})},
    )
