"""The canaries of PyTorch: one for each interception under `patches/`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...records.islands import Islands
from ...records.store import Store
from ..canary import EVERY, GRADIENT, MODEL, NUMPY, Canary, Outcome, expect, expect_equal, outcomes
from .patches import calls, construction, dropout, precision, rounding, stops, training_step, uses

X = [[0.5, -1.0]]


def canaries() -> tuple[Outcome, ...]:
    """What the canaries answer; no random stream and no setting of PyTorch's is left changed."""
    return outcomes(f"torch {torch.__version__}", CANARIES, _untouched)


@contextmanager
def _untouched() -> Generator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def _float64() -> None:
    islands = Islands(lambda _: None)
    x, table = torch.tensor([1 / 3]), torch.from_numpy(np.array([0.1], np.float32))
    with precision.Float64Throughout(islands):
        made = x.float() * torch.tensor(0.1, dtype=torch.float32) + torch.zeros(1).to(torch.float32)
        _ = x * table
    expect(made.dtype == torch.float64, f"a cast to float32 gave {made.dtype}")
    expect_equal("a third times 0.1, cast to float32 in between", made, [1 / 3 * 0.1])
    expect(len(islands.casts) == 3, f"of 3 casts to float32 these were seen: {list(islands.casts)}")
    expect(islands.numbers, "numbers of float32 came in unseen")


class _Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.stack = nn.LSTM(2, 2, num_layers=2, dropout=0.25)
        self.attention = nn.MultiheadAttention(2, 1, dropout=0.125)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.stack(F.alpha_dropout(self.drop(x), 0.0625, self.training))
        x, _ = self.attention(x, x, x)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.375 if self.training else 0.0)


def _dropout_off() -> None:
    model, x = _Dropping(), torch.tensor(X)
    with torch.no_grad():
        wanted = model.eval()(x)
        with dropout.DropoutOff() as off:
            got = model.train()(x)
    expect_equal("the rates of five dropouts", off.drops.rates, [0.5, 0.0625, 0.25, 0.125, 0.375])
    expect_equal("outputs in training without dropout", got, wanted)


class _Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.noise = _Noise()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(x)


class _Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gumbel_softmax(x + torch.randn_like(x) + torch.empty_like(x).normal_())


def _draws_seen() -> None:
    model = _Noisy()
    paths = {id(m): path for path, m in model.named_modules()}
    with dropout.DropoutOff(lambda m: paths.get(id(m))) as off:
        model(torch.tensor(X))
    expect_equal("what draws", off.draws, ["noise: randn_like", "noise: normal", "noise: exponential"])


def _linear(*sizes: int) -> nn.Linear:
    layer = nn.Linear(*sizes, bias=False)
    nn.init.constant_(layer.weight, 0.25)
    return layer


def _calls_seen() -> None:
    layer, x = _linear(2, 2), torch.tensor(X)
    model = nn.Sequential(layer, nn.Tanh())
    watch = calls.Watch(model, inside=lambda _: True)
    with watch.recording():
        raw = model(x)
    with watch.recording_loss({"outputs": raw}) as made:
        made["output"] = raw.square().sum()
    seen = [(call.path, call.kind) for call in watch.made]
    wanted = [("0", "linear"), ("0", "Linear"), ("1", "tanh"), ("1", "Tanh"), ("", "Sequential")]
    expect_equal("the calls of a Linear and a Tanh", seen[:5], wanted)
    expect_equal("what Linear returned", watch.made[1].outputs["output"], x @ layer.weight.T.detach())
    expect_equal("the calls of a loss", [kind for _, kind in seen[5:]], ["square", "sum", "loss"])
    gradients = watch.gradients(made["output"])[watch.made[4].index]["output"]
    expect_equal("the gradient of a sum of squares", gradients, 2 * raw.detach())

    def zeros(call: Any) -> Any:
        return {"output": 0 * call.outputs["output"]} if call.kind == "Linear" else None

    with calls.Watch(model, swap=zeros).recording():
        expect_equal("tanh of what was exchanged for 0", model(x).detach(), [[0.0, 0.0]])


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(torch.tanh(self.inner(x)))


def _uses_split() -> None:
    model = _Twice()
    split = uses._ToldApart(model, Store())
    try:
        with split:
            model(torch.tensor(X)).sum().backward()
        parts = list(split.uses(1.0).get("inner.weight", {}).values())
    finally:
        split.remove()
    whole = model.inner.weight.grad
    expect(len(parts) == 2, f"a weight that is used twice has {len(parts)} uses")
    expect(all(part is not None and np.any(part) for part in parts), "a use has no gradient")
    expect_equal("the sum of the gradients of two uses", sum(parts[1:], parts[0]), whole)


class _Stopping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        with torch.no_grad():
            scale = self.inner(x)
        return y * y.detach() * scale


def _stops_seen() -> None:
    gradients: list[Any] = []
    for let_through in (False, True):
        model = _Stopping()
        with stops.stops(model, lambda _, let=let_through: let) as found:
            model(torch.tensor(X)).sum().backward()
        expect_equal("the stopped gradients", [stop.kind for stop in found], ["no_grad", "detach"])
        gradients.append(model.inner.weight.grad)
    expect_equal("the gradient of a cube with nothing stopped", gradients[1], 3 * gradients[0])


def _rounded() -> None:
    model, x = nn.Sequential(_linear(2, 64), nn.Sigmoid()), torch.tensor(X)
    with torch.no_grad():
        exact = model(x)
        with rounding.rounding(model, torch.float64, np.random.default_rng(0)):
            moved = model(x)
    error = float((moved / exact - 1).abs().max())
    expect(0.5e-16 < error < 1e-14, f"a rounding error that was added is one of {error:.1e}")


def _step_seen() -> None:
    model, x = _linear(2, 1), torch.tensor(X)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    observer = training_step.Observer(model, [optimizer], lambda raw: {"output": raw}, Store())
    try:
        out = model(x)
        (out.sum() * 4).backward()
        for p in model.parameters():
            assert p.grad is not None
            p.grad /= 4
        optimizer.step()
    finally:
        observer.remove()
    expect_equal("the outputs of a step", [call["output"].tolist() for call in observer.calls], [out.tolist()])
    expect_equal("the scale of the loss", observer.scale(), 4.0)
    found = observer.unscaled().get(id(model.weight))
    expect(found is not None, "the gradient of a step was not seen")
    expect_equal("the gradient of a step", found, X)


def _constructions_seen() -> None:
    constructed: construction.Constructed = {}
    with construction.constructions(constructed):
        model = _linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    expect({id(model), id(optimizer)} <= constructed.keys(), "a module and an optimizer were constructed, and not seen")


CANARIES = (
    Canary("float64 kept", EVERY, _float64),
    NUMPY,
    Canary("calls seen", EVERY, _calls_seen),
    Canary("dropout off", EVERY, _dropout_off),
    Canary("random draws seen", MODEL, _draws_seen),
    Canary("rounding errors added", MODEL, _rounded),
    Canary("training step seen", MODEL, _step_seen),
    Canary("constructions seen", (), _constructions_seen),
    Canary("gradients split by use", GRADIENT, _uses_split),
    Canary("stopped gradients seen", GRADIENT, _stops_seen),
)
"""Which phases need which interception."""
