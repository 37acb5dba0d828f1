"""The parts of nets in PyTorch; images are (B, channels, rows, columns)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from formulas import FORMULAS
from parts import Part, Setup, computed, tables
from torch import Tensor, nn
from torch.nn import functional as F
from words import TorchWords


class BiasedNorm(nn.BatchNorm1d):
    """Remembers the variance that it divides by, as Keras does; PyTorch's own remembers the unbiased one."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        with torch.no_grad():
            self.running_mean += self.momentum * (x.mean(axes) - self.running_mean)
            self.running_var += self.momentum * (x.var(axes, correction=0) - self.running_var)
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


class BatchNorm1d(BiasedNorm):
    pass


class BatchNorm2d(BiasedNorm):
    pass


class StillNorm(nn.BatchNorm2d):
    """Normalises with its running statistics in training too."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


class Own(nn.Module):
    """A layer with the settings of its part."""

    def __init__(self, s: Mapping[str, Any]) -> None:
        super().__init__()
        self.s = dict(s)


class Attention(Own):
    def __init__(self, s: Mapping[str, Any]) -> None:
        super().__init__(s)
        d = s["width"]
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        h = self.s["heads"]

        def heads(y: Tensor) -> Tensor:
            if self.s.get("heads_last"):
                return y.view(b, t, d // h, h).permute(0, 3, 1, 2)
            return y.view(b, t, h, d // h).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = q @ k.transpose(-1, -2) * self.s.get("scale", (d // h) ** -0.5)
        if self.s.get("causal", True):
            mask = torch.ones(t, t, dtype=torch.bool).tril()
            scores = scores.masked_fill(mask.T if self.s.get("turned") else ~mask, self.s.get("fill", -1e9))
        y = torch.softmax(scores, self.s.get("axis", -1)) @ v
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Recurrent(Own):
    def __init__(self, s: Mapping[str, Any]) -> None:
        super().__init__(s)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[s["cell"]]
        both = s.get("both", False)
        self.rnn = kind(
            s["i"], s["o"], batch_first=s.get("batch_first", True), bias=s["cell"] == "gru", bidirectional=both
        )

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return y


class Positions(Own):
    def __init__(self, s: Mapping[str, Any]) -> None:
        super().__init__(s)
        self.table = nn.Parameter(torch.randn(s["length"] + 2, s["width"]) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        start = self.s.get("start", 0)
        return x + self.table[start : start + x.shape[1]]


class Angles(Own):
    def forward(self, x: Tensor) -> Tensor:
        table = tables(x.shape[1] + 2, x.shape[2])[self.s.get("start", 0) :][: x.shape[1]]
        return x + self.s.get("by", 1.0) * torch.tensor(table, dtype=x.dtype)


class Formula(Own):
    """One of `FORMULAS`."""

    def __init__(self, name: str, s: Mapping[str, Any]) -> None:
        super().__init__(s)
        self.compute, weights = FORMULAS[name]
        for key, shape in weights.items():
            self.register_parameter(key, nn.Parameter(torch.randn(shape(s)) * 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(TorchWords(), self.s, x, dict(self.named_parameters()))


def _conv(s: Mapping[str, Any]) -> nn.Module:
    return nn.Conv2d(
        s["i"],
        s["o"],
        s["k"],
        s.get("stride", 1),
        s.get("pad", s["k"] // 2),
        s.get("dilation", 1),
        padding_mode=s.get("mode", "zeros"),
    )


def _norm(s: Mapping[str, Any]) -> nn.Module:
    if s.get("still"):
        made = StillNorm(s["n"], eps=s.get("eps", 1e-5))
        made.requires_grad_(False)
        return made
    kinds = (nn.BatchNorm2d, BatchNorm2d) if s.get("image", True) else (nn.BatchNorm1d, BatchNorm1d)
    made = kinds[s.get("biased", True)](s["n"], eps=s.get("eps", 1e-5), momentum=s.get("momentum", 0.1))
    return made.requires_grad_(not s.get("frozen", False))


ACTIVATIONS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "relu": lambda x, _: F.relu(x),
    "leaky": lambda x, a: F.leaky_relu(x, a),
    "elu": lambda x, a: F.elu(x, a),
    "gelu": lambda x, _: F.gelu(x),
    "gelu-tanh": lambda x, _: F.gelu(x, approximate="tanh"),
    "silu": lambda x, _: F.silu(x),
    "tanh": lambda x, _: torch.tanh(x),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "relu6": lambda x, a: F.hardtanh(x, 0.0, a),
    "softplus": lambda x, _: F.softplus(x),
    "hard-sigmoid": lambda x, _: F.hardsigmoid(x),
    "old-hard-sigmoid": lambda x, _: torch.clamp(0.2 * x + 0.5, 0.0, 1.0),
}

LAYERS: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "dense": lambda s: nn.Linear(s["i"], s["o"]),
    "conv": _conv,
    "depthwise": lambda s: nn.Conv2d(s["i"], s["i"], s["k"], padding=s["k"] // 2, groups=s["i"]),
    "conv_transpose": lambda s: nn.ConvTranspose2d(s["i"], s["o"], 4, 2, s.get("pad", 1)),
    "batch_norm": _norm,
    "layer_norm": lambda s: nn.LayerNorm(s["n"], eps=s.get("eps", 1e-5)),
    "group_norm": lambda s: nn.GroupNorm(s["groups"], s["n"], eps=s.get("eps", 1e-5)),
    "rms_norm": lambda s: nn.RMSNorm(s["n"], eps=s.get("eps", 1e-6)),
    "embedding": lambda s: nn.Embedding(s["n"], s["o"], padding_idx=s.get("padding")),
    "attention": Attention,
    "recurrent": Recurrent,
    "positions": Positions,
    "angles": Angles,
    "dropout": lambda s: nn.Dropout(s["rate"]),
    "max_pool": lambda s: nn.MaxPool2d(s["k"], s["stride"], s.get("pad", 0)),
    "avg_pool": lambda s: nn.AvgPool2d(s["k"], s["stride"], s.get("pad", 0), count_include_pad=s.get("count", True)),
    **{name: (lambda s, name=name: Formula(name, s)) for name in FORMULAS},
}


class Scaled(torch.autograd.Function):
    """The identity whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: float) -> Tensor:
        ctx.by = by
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.by, None


def _channel(x: Tensor) -> int:
    return 1 if x.ndim == 4 else -1


def _pooled(x: Tensor, s: Mapping[str, Any]) -> Tensor:
    if x.ndim == 3:
        return {"mean": x.mean, "sum": x.sum, "max": x.amax}[s.get("how", "mean")](s.get("axis", 1))
    return {"mean": x.mean, "sum": x.sum, "max": x.amax}[s.get("how", "mean")](dim=(2, 3))


def _flat(x: Tensor, s: Mapping[str, Any]) -> Tensor:
    return (x.permute(0, 2, 3, 1) if s.get("channels_last") else x).flatten(1)


def _last(x: Tensor, s: Mapping[str, Any]) -> Tensor:
    return x[:, s.get("at", -1)]


def _shuffled(x: Tensor, s: Mapping[str, Any]) -> Tensor:
    b, c, *sizes = x.shape
    g = s["groups"] if not s.get("turned") else c // s["groups"]
    return x.reshape(b, g, c // g, *sizes).transpose(1, 2).reshape(x.shape)


FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "activation": lambda s, x: ACTIVATIONS[s["fn"]](x, s.get("a", 0.0)),
    "add": lambda s, *given: given[0] + given[1] * s["by"] if "by" in s else given[0] + given[1],
    "subtract": lambda s, a, b: a - b,
    "multiply": lambda s, a, b: a * b,
    "concat": lambda s, *given: torch.cat(given, _channel(given[0])),
    "softmax": lambda s, x: torch.softmax(x, s.get("axis", _channel(x))),
    "scale": lambda s, x: x * s["by"],
    "shift": lambda s, x: x + s["by"],
    "pooled": lambda s, x: _pooled(x, s),
    "deviation": lambda s, x: x.std(-1, correction=s.get("less", 0), keepdim=True),
    "flat": lambda s, x: _flat(x, s),
    "last": lambda s, x: _last(x, s),
    "shuffle": lambda s, x: _shuffled(x, s),
    "clamp": lambda s, x: torch.clamp(x, s["low"], s["high"]),
    "unit": lambda s, x: x / torch.sqrt((x * x).sum(-1, keepdim=True) + s.get("eps", 1e-6)),
    "log": lambda s, x: torch.log(x * x + s.get("eps", 1e-3)),
    "detach": lambda s, x: x.detach(),
    "backward_scale": lambda s, x: Scaled.apply(x, s["by"]),
    "roll": lambda s, x: torch.roll(x, s.get("by", 1), 1),
    "reverse": lambda s, x: torch.flip(x, [1]),
    "dropped": lambda s, x: F.dropout(x, s["rate"]),
    "upsample": lambda s, x: F.interpolate(
        x, scale_factor=2, mode=s["mode"], align_corners=s.get("corners", False) if s["mode"] == "bilinear" else None
    ),
}


class Net(nn.Module):
    """Computes its parts in turn."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.parts = setup.parts
        for part in setup.parts:
            if part.kind in LAYERS:
                self.add_module(part.name, LAYERS[part.kind](part.settings))
            if part.settings.get("untrained") and part.kind == "dense":
                self.get_submodule(part.name).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return computed(self.parts, x, self._do)

    def _do(self, part: Part, given: list[Tensor]) -> Tensor:
        if part.kind == "again":
            return getattr(self, part.settings["layer"])(*given)
        if part.kind in LAYERS:
            return getattr(self, part.name)(*given)
        if part.kind == "tied":
            return given[0] @ self.get_submodule(part.settings["layer"]).weight.T
        return FUNCTIONS[part.kind](part.settings, *given)


def torch_net(setup: Setup) -> nn.Module:
    """The PyTorch side of a setup."""
    return Net(setup)
