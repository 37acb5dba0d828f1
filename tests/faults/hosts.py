"""Nets that faults are planted in: of several kinds, with sizes and settings that are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from parts import Part, Setup


def _part(name: str, kind: str, inputs: str = "", **settings: Any) -> Part:
    return Part(name, kind, tuple(inputs.split()), settings)


def _chain(*parts: Part) -> tuple[Part, ...]:
    """Each part without inputs takes the one before."""
    made: list[Part] = []
    for part in parts:
        before = made[-1].name if made else "x"
        made.append(part if part.inputs else Part(part.name, part.kind, (before,), part.settings))
    return tuple(made)


def _rounded(rng: Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 2)


def mlp(rng: Random) -> Setup:
    """Dense layers, a gate, a residual sum, a layer norm; cross entropy."""
    f, h, c = rng.choice((5, 6, 7)), rng.choice((8, 10)), rng.choice((3, 4))
    parts = _chain(
        _part("hidden", "dense", i=f, o=h),
        _part("act", "activation", fn="gelu"),
        _part("second", "dense", i=h, o=h),
        _part("slope", "activation", fn="leaky", a=_rounded(rng, 0.05, 0.3)),
        _part("gate", "dense", "act", i=h, o=h),
        _part("shares", "softmax"),
        _part("gated", "multiply", "slope shares"),
        _part("skip", "add", "gated act"),
        _part("norm", "layer_norm", n=h, eps=1e-5),
        _part("drop", "dropout", rate=0.2),
        _part("head", "dense", i=h, o=c),
    )
    loss = {"kind": "cross_entropy", "smoothing": 0.1}
    return Setup("mlp", "vector", (f,), c, parts, loss, {"kind": "sgd", "rate": 0.1}, rows=rng.choice((6, 8)))


def convnet(rng: Random) -> Setup:
    """Convolutions with stride, dilation and depth, batch and group norm, pools; flattened at the end."""
    a, c, size = rng.choice((4, 8)), rng.choice((3, 5)), 8
    parts = _chain(
        _part("stem", "conv", i=3, o=a, k=3),
        _part("bn", "batch_norm", n=a, eps=1e-5, momentum=0.1),
        _part("act", "activation", fn="relu"),
        _part("down", "conv", i=a, o=a, k=3, stride=2, pad=1),
        _part("gn", "group_norm", n=a, groups=2, eps=1e-5),
        _part("silu", "activation", fn="silu"),
        _part("wide", "conv", i=a, o=a, k=3, dilation=2, pad=2),
        _part("skip", "add", "wide silu"),
        _part("depth", "depthwise", i=a, k=3),
        _part("join", "concat", "depth skip"),
        _part("capped", "activation", fn="relu6", a=6.0),
        _part("pool", "avg_pool", k=2, stride=2),
        _part("flat", "flat"),
        _part("head", "dense", i=2 * a * (size // 4) ** 2, o=c),
    )
    loss = {"kind": "cross_entropy"}
    optimizer = {"kind": "sgd", "rate": 0.05, "momentum": 0.9}
    return Setup("convnet", "image", (size, size, 3), c, parts, loss, optimizer, rows=4)


def unet(rng: Random) -> Setup:
    """Down by a pool and up by resizing or a transposed convolution, with a skip; squares of what is predicted."""
    a, size = rng.choice((4, 6)), 8
    parts = _chain(
        _part("enc", "conv", i=2, o=a, k=3),
        _part("bn", "batch_norm", n=a, eps=1e-5, momentum=0.1),
        _part("act", "activation", fn="elu", a=1.0),
        _part("down", "max_pool", k=2, stride=2),
        _part("mid", "conv", i=a, o=a, k=3),
        _part("tanh", "activation", fn="tanh"),
        _part("up", "upsample", mode="bilinear"),
        _part("cat", "concat", "up act"),
        _part("dec", "conv", i=2 * a, o=a, k=3),
        _part("soft", "activation", fn="softplus"),
        _part("shuffled", "shuffle", groups=2),
        _part("halved", "avg_pool", k=2, stride=2),
        _part("big", "conv_transpose", i=a, o=a, k=4),
        _part("spread", "pooled"),
        _part("head", "dense", i=a, o=3),
    )
    optimizer = {"kind": "adam", "rate": 0.003, "eps": 1e-7, "formula": "keras"}
    return Setup("unet", "image", (size, size, 2), 3, parts, {"kind": "squares"}, optimizer, rows=3)


def transformer(rng: Random) -> Setup:
    """Embeddings with a factor and positions, one block with causal attention, tokens that do not count."""
    words, t, heads = 11, rng.choice((5, 6)), 2
    d = rng.choice((8, 12))
    parts = _chain(
        _part("table", "embedding", n=words, o=d),
        _part("scaled", "scale", by=d**0.5),
        _part("places", "positions", length=t, width=d),
        _part("angles", "angles"),
        _part("ln1", "layer_norm", n=d, eps=1e-5),
        _part("attn", "attention", width=d, heads=heads, causal=True),
        _part("skip1", "add", "attn angles"),
        _part("ln2", "layer_norm", n=d, eps=1e-5),
        _part("up", "dense", i=d, o=2 * d),
        _part("act", "activation", fn="gelu"),
        _part("downward", "dense", i=2 * d, o=d),
        _part("drop", "dropout", rate=0.1),
        _part("skip2", "add", "drop skip1"),
        _part("final", "rms_norm", n=d, eps=1e-6),
        _part("head", "dense", i=d, o=words),
    )
    loss = {"kind": "cross_entropy", "ignored": True, "words": words, "places": (t,)}
    optimizer = {"kind": "adamw", "rate": 0.002, "eps": 1e-8, "decay": 0.05, "formula": "torch"}
    return Setup("transformer", "tokens", (t,), words, parts, loss, optimizer, rows=4)


def rnn(rng: Random) -> Setup:
    """Embeddings, a recurrent layer in both directions or one, the last state."""
    words, t, d, h = 9, rng.choice((5, 7)), rng.choice((5, 6)), rng.choice((5, 7))
    both = rng.random() < 0.5
    parts = _chain(
        _part("table", "embedding", n=words, o=d),
        _part("lstm", "recurrent", cell="lstm", i=d, o=h, both=both),
        _part("act", "activation", fn="sigmoid"),
        _part("gru", "recurrent", cell="gru", i=h * (1 + both), o=h),
        _part("picked", "last", at=-1),
        _part("mean", "pooled", "gru"),
        _part("join", "concat", "picked mean"),
        _part("bounded", "clamp", low=-0.25, high=0.25),
        _part("head", "dense", i=2 * h, o=4),
    )
    loss = {"kind": "binary", "words": words}
    optimizer = {"kind": "sgd", "rate": 0.05, "momentum": 0.9, "nesterov": True}
    return Setup("rnn", "tokens", (t,), 4, parts, loss, optimizer, rows=5)


def embedder(rng: Random) -> Setup:
    """Vectors of length one and their deviations, one layer that is used twice; a divergence."""
    f, h, c = rng.choice((6, 7)), rng.choice((6, 8)), 5
    parts = _chain(
        _part("in", "dense", i=f, o=h),
        _part("bn", "batch_norm", n=h, image=False, eps=1e-5, momentum=0.2),
        _part("act", "activation", fn="tanh"),
        _part("twice", "dense", i=h, o=h),
        _part("mid", "activation", fn="silu"),
        _part("again", "again", layer="twice"),
        _part("unit", "unit", eps=1e-6),
        _part("wide", "deviation", "mid"),
        _part("over", "multiply", "unit wide"),
        _part("tempered", "scale", by=_rounded(rng, 3.0, 8.0)),
        _part("head", "dense", i=h, o=c),
    )
    optimizer = {"kind": "rmsprop", "rate": 0.003, "rho": 0.9, "eps": 1e-7, "formula": "keras"}
    return Setup("embedder", "vector", (f,), c, parts, {"kind": "divergence"}, optimizer, rows=7)


HOSTS: Mapping[str, Callable[[Random], Setup]] = {
    host.__name__: host for host in (mlp, convnet, unet, transformer, rnn, embedder)
}
