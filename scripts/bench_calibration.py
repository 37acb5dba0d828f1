#!/usr/bin/env python
"""Measure how well the verdicts are calibrated: no false alarm on equal pairs, and how small a fault is still seen.

    scripts/bench_calibration.py             some 1200 runs of equal pairs, then the sensitivity of each setting
    scripts/bench_calibration.py --quick     some 180 runs, coarse sensitivity
    scripts/bench_calibration.py --slow      four times as many runs, four times as many of them compiled
    scripts/bench_calibration.py --reach full   with all made batches
    scripts/bench_calibration.py --write     also write docs/calibration.md
    scripts/bench_calibration.py --rows FILE keep each row in FILE as it is measured, and go on from those in it
    scripts/bench_calibration.py --plant     add a pair that is wrong on purpose; must count alarms and exit 1
    scripts/bench_calibration.py --keras-backend jax     Keras on another backend

Run it by .venv/bin/python.

Exits with 1 if an equal pair is called anything but EQUIVALENT. TensorFlow takes its number of threads once, so each
number of threads runs in a process of its own, which prints one line of JSON per run.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if "--keras-backend" in sys.argv[:-1]:  # before Keras is imported, which takes it once; the parts inherit it
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--keras-backend") + 1]

import keras
import numpy as np
import torch
from calibration_extremes import EXTREMES
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from torch import nn
from torch.nn import functional as F

import xcheck
import xcheck.optim
from xcheck.frameworks.sides import BACKENDS
from xcheck.numerics.tolerance import KAPPA
from xcheck.pairs.loading import load_pair
from xcheck.phases import STEP_PHASES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "calibration.md"
FEATURES, HIDDEN, CLASSES, WORDS, TOKENS, IMAGE = 6, 8, 3, 20, 5, 6
STEPS, FREE_STEPS = 2, 5
THREADS = (1, 2)
DECADES = tuple(10.0**-n for n in range(2, 14))
STEPWISE = ("inventory", "sync", *STEP_PHASES)


# Equal pairs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The numbers that one side is set up with.

    `batchnorm_momentum` is the share of the new batch; `smoothing`, `dropout`, `slope` and `decay` are without unit,
    `l1` and `l2` per unit of |w| and w^2.
    """

    learning_rate: float = 0.05
    momentum: float = 0.9
    beta_1: float = 0.9
    beta_2: float = 0.999
    adam_epsilon: float = 1e-7
    decay: float = 0.004
    batchnorm_epsilon: float = 1e-3
    batchnorm_momentum: float = 0.1
    layernorm_epsilon: float = 1e-3
    l1: float = 0.01
    l2: float = 0.01
    smoothing: float = 0.1
    dropout: float = 0.2
    slope: float = 0.2
    scale: float = HIDDEN**-0.5


BASE = Settings()
Case = Callable[[int, Settings, Settings], xcheck.Pair]
"""(batch size, PyTorch's settings, Keras's settings) -> a pair that is equal where the settings are."""


def torch_optimizer(kind: str, s: Settings) -> Callable[[Any], torch.optim.Optimizer]:
    """An optimizer of parameters; `kind` is "sgd", or the formula: "keras adam", "torch adam", the same with "w"."""
    adam: dict[str, Any] = {"beta_1": s.beta_1, "beta_2": s.beta_2, "epsilon": s.adam_epsilon}
    own: dict[str, Any] = {"lr": s.learning_rate, "betas": (s.beta_1, s.beta_2), "eps": s.adam_epsilon}
    return {
        "sgd": lambda p: torch.optim.SGD(p, lr=s.learning_rate, momentum=s.momentum),
        "keras adam": lambda p: xcheck.optim.KerasAdam(p, s.learning_rate, **adam),
        "keras adamw": lambda p: xcheck.optim.KerasAdamW(p, s.learning_rate, weight_decay=s.decay, **adam),
        "torch adam": lambda p: torch.optim.Adam(p, **own),
        "torch adamw": lambda p: torch.optim.AdamW(p, weight_decay=s.decay, **own),
    }[kind]


def keras_optimizer(kind: str, s: Settings) -> Callable[[], Any]:
    """The same for Keras."""
    own: dict[str, Any] = {
        "learning_rate": s.learning_rate,
        "beta_1": s.beta_1,
        "beta_2": s.beta_2,
        "epsilon": s.adam_epsilon,
    }
    adam: dict[str, Any] = {"lr": s.learning_rate, "betas": (s.beta_1, s.beta_2), "eps": s.adam_epsilon}
    return {
        "sgd": lambda: keras.optimizers.SGD(s.learning_rate, momentum=s.momentum),
        "keras adam": lambda: keras.optimizers.Adam(**own),
        "keras adamw": lambda: keras.optimizers.AdamW(weight_decay=s.decay, **own),
        "torch adam": lambda: xcheck.optim.TorchAdam(**adam),
        "torch adamw": lambda: xcheck.optim.TorchAdamW(weight_decay=s.decay, **adam),
    }[kind]


def classified(shape: tuple[int, ...], size: int, words: int = 0) -> Callable[[int], Iterator[xcheck.Batch]]:
    """Batches of Gaussian arrays (size, *shape), or of words where `words` is given, and labels (size,)."""

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            full = (size, *shape)
            inputs = rng.integers(0, words, full) if words else rng.standard_normal(full)
            yield xcheck.Batch(inputs, rng.integers(0, CLASSES, size))

    return batches


def one_hot(batch: xcheck.Batch) -> Any:
    return batch.inputs, np.eye(CLASSES)[np.asarray(batch.targets)]


def channels_first(batch: xcheck.Batch) -> Any:
    return np.moveaxis(np.asarray(batch.inputs), -1, 1), batch.targets


def classifier(
    name: str,
    build_torch: Callable[[], nn.Module],
    build_keras: Callable[[], Any],
    weight_map: Mapping[str, Any],
    batches: Callable[[int], Iterator[xcheck.Batch]],
    settings: tuple[Settings, Settings],
    optimizer: str = "sgd",
    smoothing: bool = False,
    torch_parts: Mapping[str, Any] | None = None,
    **options: Any,
) -> xcheck.Pair:
    """A pair that learns labels from logits by cross-entropy."""
    of_torch, of_keras = settings

    def torch_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=of_torch.smoothing if smoothing else 0.0)

    soft = of_keras.smoothing if smoothing else 0.0
    keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=soft)
    return xcheck.Pair(
        name,
        xcheck.TorchSide(
            build_torch, loss=torch_loss, optimizer=torch_optimizer(optimizer, of_torch), **(torch_parts or {})
        ),
        xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer(optimizer, of_keras), prepare=one_hot),
        batches,
        weight_map=weight_map,
        **options,
    )


def mlp(
    optimizer: str = "sgd",
    regularized: bool = False,
    dropout: bool = False,
    leaky: bool = False,
    reference: Any = "torch",
) -> Case:
    """Two layers with tanh or LeakyReLU between; `regularized`: L1 and L2 on the first, and smoothed labels."""

    def case(size: int, t: Settings, k: Settings) -> xcheck.Pair:
        def build_torch() -> nn.Module:
            drop = [nn.Dropout(t.dropout)] if dropout else []
            return nn.Sequential(
                nn.Linear(FEATURES, HIDDEN),
                nn.LeakyReLU(t.slope) if leaky else nn.Tanh(),
                nn.Linear(HIDDEN, CLASSES),
                *drop,
            )

        def build_keras() -> Any:
            penalty = keras.regularizers.L1L2(k.l1, k.l2) if regularized else None
            layers = [
                keras.Input((FEATURES,)),
                keras.layers.Dense(HIDDEN, kernel_regularizer=penalty, name="hidden"),
                keras.layers.LeakyReLU(negative_slope=k.slope) if leaky else keras.layers.Activation("tanh"),
                keras.layers.Dense(CLASSES, name="head"),
            ]
            return keras.Sequential([*layers, *([keras.layers.Dropout(k.dropout)] if dropout else [])])

        def penalty(model: Any) -> torch.Tensor:
            weight = model[0].weight
            return t.l1 * weight.abs().sum() + t.l2 * weight.square().sum()

        names = {"0.weight": "hidden/kernel", "0.bias": "hidden/bias", "2.weight": "head/kernel", "2.bias": "head/bias"}
        return classifier(
            "mlp",
            build_torch,
            build_keras,
            {path: f"sequential/{other}" for path, other in names.items()},
            classified((FEATURES,), size),
            (t, k),
            optimizer,
            smoothing=regularized,
            torch_parts={"penalty": penalty} if regularized else None,
            reference=reference,
        )

    return case


class BatchNorm(nn.BatchNorm2d):
    """As Keras has it: the running variance takes in the batch's variance as it is, not times n/(n-1)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        # input: (B, C, H, W)
        if not self.training:
            return super().forward(input)
        with torch.no_grad():
            variance, mean = torch.var_mean(input, (0, 2, 3), correction=0)
            for running, new in ((self.running_mean, mean), (self.running_var, variance)):
                assert running is not None
                assert self.momentum is not None
                running.mul_(1 - self.momentum).add_(self.momentum * new)
        return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


def convolution(reference: Any = "torch") -> Case:
    """Convolution with a bias, BatchNorm, ReLU, max pooling, mean over positions, head."""

    def case(size: int, t: Settings, k: Settings) -> xcheck.Pair:
        def build_torch() -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(2, HIDDEN, 3, padding=1),
                BatchNorm(HIDDEN, t.batchnorm_epsilon, t.batchnorm_momentum),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(HIDDEN, CLASSES),
            )

        def build_keras() -> Any:
            return keras.Sequential(
                [
                    keras.Input((IMAGE, IMAGE, 2)),
                    keras.layers.Conv2D(HIDDEN, 3, padding="same", name="conv"),
                    keras.layers.BatchNormalization(
                        momentum=1 - k.batchnorm_momentum, epsilon=k.batchnorm_epsilon, name="norm"
                    ),
                    keras.layers.ReLU(),
                    keras.layers.MaxPooling2D(2),
                    keras.layers.GlobalAveragePooling2D(),
                    keras.layers.Dense(CLASSES, name="head"),
                ]
            )

        names: dict[str, Any] = {
            "0.weight": ("sequential/conv/kernel", "conv"),
            "0.bias": "sequential/conv/bias",
            "1.weight": "sequential/norm/gamma",
            "1.bias": "sequential/norm/beta",
            "1.running_mean": "sequential/norm/moving_mean",
            "1.running_var": "sequential/norm/moving_variance",
            "6.weight": "sequential/head/kernel",
            "6.bias": "sequential/head/bias",
        }
        return classifier(
            "convolution",
            build_torch,
            build_keras,
            names,
            classified((IMAGE, IMAGE, 2), size),
            (t, k),
            torch_parts={"prepare": channels_first},
            reference=reference,
        )

    return case


class Attention(nn.Module):
    """LayerNorm, one head of attention with the softmax written out, mean over tokens, head."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN, s.layernorm_epsilon)
        self.query, self.key, self.value = (nn.Linear(HIDDEN, HIDDEN, bias=False) for _ in range(3))
        self.head = nn.Linear(HIDDEN, CLASSES)
        self.scale = s.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, T, D)
        x = self.norm(x)
        scores = self.query(x) @ self.key(x).mT * self.scale  # (B, T, T)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        mixed = weights / weights.sum(-1, keepdim=True) @ self.value(x)
        return self.head(mixed.mean(1))


def keras_attention(s: Settings) -> Any:
    """The same in Keras."""
    tokens = keras.Input((TOKENS, HIDDEN))
    x = keras.layers.LayerNormalization(epsilon=s.layernorm_epsilon, name="norm")(tokens)
    query, key, value = (keras.layers.Dense(HIDDEN, use_bias=False, name=n)(x) for n in ("query", "key", "value"))
    scores: Any = keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1)))  # (B, T, T)
    scores = scores * s.scale
    weights: Any = keras.ops.exp(scores - keras.ops.max(scores, axis=-1, keepdims=True))
    mixed: Any = keras.ops.matmul(weights / keras.ops.sum(weights, axis=-1, keepdims=True), value)
    return keras.Model(tokens, keras.layers.Dense(CLASSES, name="head")(keras.ops.mean(mixed, axis=1)))


def attention(optimizer: str = "sgd") -> Case:
    """See `Attention`."""

    def case(size: int, t: Settings, k: Settings) -> xcheck.Pair:
        layers = ("query", "key", "value", "head")
        names = {f"{layer}.weight": f"{layer}/kernel" for layer in layers}
        names |= {"head.bias": "head/bias", "norm.weight": "norm/gamma", "norm.bias": "norm/beta"}
        return classifier(
            "attention",
            lambda: Attention(t),
            lambda: keras_attention(k),
            names,
            classified((TOKENS, HIDDEN), size),
            (t, k),
            optimizer,
        )

    return case


class EmbeddingMean(nn.Module):
    """Mean of the words' vectors, head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(x).mean(1))  # (B, T) -> (B, D) -> (B, classes)


def embedding(size: int, t: Settings, k: Settings) -> xcheck.Pair:
    """See `EmbeddingMean`."""

    def build_keras() -> Any:
        return keras.Sequential(
            [
                keras.Input((TOKENS,), dtype="int64"),
                keras.layers.Embedding(WORDS, HIDDEN, name="words"),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(CLASSES, name="head"),
            ]
        )

    names = {"words.weight": "words/embeddings", "head.weight": "head/kernel", "head.bias": "head/bias"}
    names = {path: f"sequential/{other}" for path, other in names.items()}
    return classifier("embedding", EmbeddingMean, build_keras, names, classified((TOKENS,), size, WORDS), (t, k))


def of_models(folder: str, **settings: Any) -> Case:
    """A pair of models/, with its first examples per batch; it has settings of its own."""

    def case(size: int, t: Settings, k: Settings) -> xcheck.Pair:
        pair = load_pair(str(ROOT / "models" / folder / "pair.py"), settings)

        def first(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: first(part) for name, part in value.items()}
            return tuple(map(first, value)) if isinstance(value, tuple) else value[:size]

        def batches(seed: int) -> Iterator[xcheck.Batch]:
            for batch in pair.batches(seed):
                targets = None if batch.targets is None else first(batch.targets)
                yield xcheck.Batch(first(batch.inputs), targets, batch.compare and first(batch.compare))

        return replace(pair, batches=batches)

    return case


EQUAL: dict[str, Case] = {
    "mlp, SGD with momentum": mlp(),
    "mlp, LeakyReLU": mlp(leaky=True),
    "mlp, Dropout": mlp(dropout=True),
    "mlp, KerasAdam": mlp("keras adam"),
    "mlp, TorchAdam": mlp("torch adam"),
    "mlp, penalties, smoothed labels, KerasAdamW": mlp("keras adamw", regularized=True),
    "mlp, TorchAdamW, reference Keras": mlp("torch adamw", reference="keras"),
    "convolution, BatchNorm, pooling": convolution(),
    "convolution, BatchNorm, pooling, reference Keras": convolution(reference="keras"),
    "LayerNorm, attention": attention(),
    "LayerNorm, attention, KerasAdam": attention("keras adam"),
    "mean of embeddings": embedding,
    "shared_dilated_conv": of_models("shared_dilated_conv", image_size=8),
    "shared_dilated_conv, per pixel": of_models("shared_dilated_conv", image_size=8, head="per_pixel"),
    "shared_submodel_regularizer": of_models("shared_submodel_regularizer"),
    "shared_submodel_regularizer, three uses": of_models("shared_submodel_regularizer", uses=3, features=3),
    "shared_conv_padding": of_models("shared_conv_padding"),
    "shared_conv_padding, patched": of_models("shared_conv_padding", sharing="patched"),
    "shared_batchnorm": of_models("shared_batchnorm"),
    "siamese": of_models("siamese"),
    "tied_autoencoder": of_models("tied_autoencoder"),
    "tied_language_model": of_models("tied_language_model"),
}


def extreme(name: str) -> Case:
    """One of `EXTREMES`, which has settings of its own."""
    return lambda size, t, k: EXTREMES[name](size)


EXTREME: dict[str, Case] = {name: extreme(name) for name in EXTREMES}


def planted(size: int, t: Settings, k: Settings) -> xcheck.Pair:
    """No equal pair: PyTorch's momentum is a thousandth larger."""
    return mlp()(size, replace(t, momentum=t.momentum * 1.001), k)


# False alarms -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        seeds: of weights and batches; every fourth run also has a free run.
        sizes: examples per batch.
        decades: relative changes that the sensitivity is tried at, largest first.
        only: words; cases and settings that contain none of them are left out. Empty: all.
        plant: also run a pair that is wrong on purpose.
        compiled: seeds that each side is run compiled with, against itself in eager mode.
        reach: of every run, as in `xcheck run --reach`.
        stride: of the pairs, with the seed and the threads counted in, each so many-th is run compiled.
    """

    seeds: int = 7
    sizes: tuple[int, ...] = (4, 16)
    decades: tuple[float, ...] = DECADES
    only: tuple[str, ...] = ()
    plant: bool = False
    compiled: int = 1
    reach: str = "default"
    stride: int = 2

    def wanted(self, name: str) -> bool:
        """Whether a case or a setting is to be run."""
        return not self.only or any(word in name for word in self.only)

    def cases(self) -> dict[str, Case]:
        """The equal pairs to run."""
        chosen = {name: case for name, case in {**EQUAL, **EXTREME}.items() if self.wanted(name)}
        return chosen | ({"planted fault": planted} if self.plant else {})

    def to_compile(self, threads: int) -> list[tuple[str, int]]:
        """The cases to run compiled, with their seeds. Compiling takes longer than everything else."""
        named = list(enumerate(name for name in self.cases() if name not in EXTREME))
        return [(name, s) for s in range(self.compiled) for i, name in named if (i + s + threads) % self.stride == 0]

    def runs(self, threads: int) -> int:
        """How many runs there are with so many threads."""
        return self.seeds * len(self.sizes) * len(self.cases()) + len(self.to_compile(threads))

    def settings(self) -> list[Setting]:
        """The settings to try."""
        return [setting for setting in SETTINGS if self.wanted(setting.name)]


DEFAULT = Plan()
QUICK = Plan(seeds=2, sizes=(4,), decades=(1e-3, 1e-6), stride=8)
SLOW = replace(DEFAULT, seeds=28, compiled=2, stride=1)
Row = dict[str, Any]


def alarms(plan: Plan, threads: int, kept: Sequence[Row] = ()) -> Iterator[Row]:
    """Run the equal pairs, then each side of some of them compiled; one row per run that is not among the kept."""
    cases = plan.cases()
    todo: list[tuple[Row, tuple[str, ...]]] = []
    for seed in range(plan.seeds):
        for size in plan.sizes:
            for name in cases:
                phases = (*STEPWISE, "trajectory") if len(todo) % 4 == 0 else STEPWISE
                todo.append((place(name, "eager", seed, size, threads), phases))
    for name, seed in plan.to_compile(threads):
        todo.append((place(name, "compiled", seed, plan.sizes[seed % len(plan.sizes)], threads), ("modes",)))
    for wanted, phases in todo:
        if any(row.items() >= wanted.items() for row in kept):
            continue
        reach = "default" if wanted["mode"] == "compiled" else plan.reach
        began = time.process_time()
        result = run(cases[wanted["case"]], wanted["batch"], wanted["seed"], phases, reach)
        yield wanted | row_of(result) | {"cpu_seconds": round(time.process_time() - began, 2)}


def run(case: Case, size: int, seed: int, phases: Sequence[str], reach: str = "default") -> xcheck.Result:
    """One check of an equal pair, in float64 and float32; an extreme one in float64, always with a free run."""
    extreme = case in EXTREME.values()
    pair, phases = case(size, BASE, BASE), (*STEPWISE, "trajectory") if extreme else phases
    precision = ("float64",) if extreme else ("float64", "float32")
    options: dict[str, Any] = {"phases": phases, "precision": precision, "free_steps": FREE_STEPS, "reach": reach}
    return xcheck.check(pair, steps=STEPS, seed=seed, device="cpu", **options)


def place(name: str, mode: str, seed: int, size: int, threads: int) -> Row:
    """Which run it is."""
    return {"kind": "run", "case": name, "mode": mode, "seed": seed, "batch": size, "threads": threads}


def where(row: Row) -> str:
    """The same in words."""
    compiled = ", compiled" if row["mode"] == "compiled" else ""
    return f"seed {row['seed']}, batch {row['batch']}, threads {row['threads']}{compiled}"


def row_of(result: xcheck.Result) -> Row:
    """What is kept of a run: its verdict, every error as a share of its allowance, the largest with its place."""
    ratios: dict[str, list[float]] = {}
    worst: dict[str, Row] = {}
    for c in result.checks:
        if c.precision is None or c.error is None or not c.allowed:
            continue
        ratio = c.error / c.allowed
        ratios.setdefault(c.precision, []).append(float(f"{ratio:.3g}"))
        if c.precision not in worst or ratio > worst[c.precision]["ratio"]:
            place = {"phase": c.phase, "item": c.name, "step": c.step, "metric": c.metric}
            worst[c.precision] = {"ratio": ratio, "error": c.error, "allowed": c.allowed, **place}
    equal = result.verdict == "EQUIVALENT"
    report = [] if equal else [line for line in result.report().splitlines() if line.strip()][:12]
    return {"verdict": str(result.verdict), "ratios": ratios, "worst": worst, "report": report}


# Sensitivity ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One number of a pair, and the pair that it shows in.

    Attributes:
        name: what the table calls it.
        field: of `Settings`.
        case: the pair.
        most: the number stays below it.
        base: what is unchanged.
    """

    name: str
    field: str
    case: Case
    most: float = math.inf
    base: Settings = BASE


SETTINGS = (
    Setting("BatchNorm epsilon", "batchnorm_epsilon", convolution()),
    Setting("BatchNorm momentum", "batchnorm_momentum", convolution()),
    Setting("LayerNorm epsilon", "layernorm_epsilon", attention()),
    Setting("Adam beta_1", "beta_1", mlp("keras adam"), most=1.0),
    Setting("Adam beta_2", "beta_2", mlp("keras adam"), most=1.0),
    Setting("Adam epsilon", "adam_epsilon", mlp("keras adam")),
    Setting("learning rate", "learning_rate", mlp()),
    Setting("AdamW decay", "decay", mlp("keras adamw")),
    Setting("L1 factor", "l1", mlp(regularized=True)),
    Setting("L2 factor", "l2", mlp(regularized=True)),
    Setting("label smoothing", "smoothing", mlp(regularized=True)),
    Setting("dropout rate", "dropout", mlp(dropout=True)),
    # 0.25 is the same number in float32, in which TensorFlow keeps the slope.
    Setting("LeakyReLU slope", "slope", mlp(leaky=True), base=replace(BASE, slope=0.25)),
    Setting("attention scale", "scale", attention()),
)


def changed(setting: Setting, delta: float, seed: int = 0) -> xcheck.Result:
    """Check a pair whose PyTorch side has `1 + delta` times the setting."""
    theirs = replace(setting.base, **{setting.field: getattr(setting.base, setting.field) * (1 + delta)})
    pair = setting.case(8, theirs, setting.base)
    return xcheck.check(pair, steps=STEPS, seed=seed, precision=("float64",), phases=STEPWISE, device="cpu")


def sensitivity(plan: Plan, kept: Sequence[Row] = ()) -> Iterator[Row]:
    """Go down the decades until a change is no longer seen; one row per setting that is not among the kept.

    A setting whose pair is not EQUIVALENT without any change is not compared, and the row says so.
    """
    for setting in plan.settings():
        if any(row.get("setting") == setting.name for row in kept):
            continue
        row: Row = {"kind": "setting", "setting": setting.name, "value": getattr(setting.base, setting.field)}
        row |= {"smallest": None, "unseen": None, "phase": None, "step": None, "item": None, "ratio": None}
        unchanged = changed(setting, 0.0)
        if unchanged.verdict != "EQUIVALENT":
            yield row | {"not_compared": f"{unchanged.verdict} without any change"}
            continue
        for delta in plan.decades:
            if row["value"] * (1 + delta) >= setting.most:
                continue
            result = changed(setting, delta)
            if result.verdict != "DIFFERENT":
                row["unseen"] = delta
                break
            first = result.first_divergence
            assert first is not None
            ratio = first.local_error / first.allowed if first.local_error and first.allowed else None
            place = {"phase": first.phase, "step": first.step, "item": first.name, "ratio": ratio}
            row |= {"smallest": delta, **place}
        yield row


# Processes --------------------------------------------------------------------------------------------------------


def work(part: str, threads: int, plan: Plan, kept: Sequence[Row] = ()) -> Iterator[Row]:
    """One part, in this process, without the rows that are kept."""
    return alarms(plan, threads, kept) if part == "alarms" else sensitivity(plan, kept)


def kept_rows(path: Path | None) -> list[Row]:
    """The rows of an earlier run, a line each; a last line that was cut off is left out."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def set_threads(threads: int) -> None:
    """For both frameworks; before TensorFlow computes anything. JAX chooses by itself."""
    torch.set_num_threads(threads)
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def in_process(part: str, threads: int, plan: Plan, path: Path | None, tell: Callable[[Row], None]) -> None:
    """One part in a process of its own.

    Raises:
        RuntimeError: the process failed; the message ends with what it printed last.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--part", part, "--threads", str(threads)]
    command += ["--rows", str(path.resolve())] if path else []
    with tempfile.TemporaryFile("w+") as errors:
        given = [*command, "--plan", json.dumps(asdict(plan))]
        with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"kind"'):
                    tell(json.loads(line))
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{part} with {threads} threads failed:\n{errors.read()[-2000:]}")


def gather(plan: Plan, console: Console, jobs: int, path: Path | None = None) -> list[Row]:
    """All rows of a plan, with progress on the screen; those in the file at `path` are not measured again."""
    rows = kept_rows(path)
    lock = Lock()
    parts = [*(("alarms", n) for n in THREADS), ("sensitivity", 1)]
    totals = {("alarms", n): plan.runs(n) for n in THREADS} | {("sensitivity", 1): len(plan.settings())}
    parts = [part for part in parts if totals[part]]
    with Progress(console=console, transient=True) as bar, ThreadPoolExecutor(jobs) as pool:
        running = []
        for part, threads in parts:
            done = sum(
                (row["kind"] == "setting") == (part == "sensitivity")
                for row in rows
                if row.get("threads", threads) == threads
            )
            task = bar.add_task(f"{part}, threads: {threads}", total=totals[part, threads], completed=done)

            def tell(row: Row, task: Any = task) -> None:
                with lock:
                    rows.append(row)
                    if path:
                        with path.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(row) + "\n")
                bar.advance(task)

            running.append(pool.submit(in_process, part, threads, plan, path, tell))
        for future in running:
            future.result()
    return rows


# What is said -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sheet:
    """A table, for the screen and for the page."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def on_screen(self) -> Table:
        """For rich."""
        table = Table(title=self.title)
        for name in self.header:
            table.add_column(name, overflow="fold")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def as_markdown(self) -> str:
        """For the page, with its title as a heading."""
        lines = ["| " + " | ".join(row) + " |" for row in (self.header, ("---",) * len(self.header), *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines])


def false_alarms(rows: Sequence[Row]) -> list[Row]:
    """The runs that did not end in EQUIVALENT, whatever else they say."""
    alarmed = [row for row in rows if row["kind"] == "run" and row["verdict"] != "EQUIVALENT"]
    return sorted(alarmed, key=lambda row: (row["case"], row["verdict"], row["seed"], row["batch"], row["threads"]))


def decade(ratio: float) -> int:
    """The power of ten at or below a ratio, at least -6; -99 for an error of exactly zero."""
    return max(math.floor(math.log10(ratio)), -6) if ratio > 0 else -99


def label(bin_: int) -> str:
    if bin_ == -99:
        return "0 (bit for bit)"
    return "below 1e-5" if bin_ == -6 else f"1e{bin_} ... 1e{bin_ + 1}"


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The tables of all rows."""
    runs = [row for row in rows if row["kind"] == "run"]
    cases = [
        _case(name, [row for row in runs if row["case"] == name]) for name in dict.fromkeys(r["case"] for r in runs)
    ]
    cases.append(_case("all", runs))
    columns = {(m, p): _ratios(runs, p, m) for m in ("eager", "compiled") for p in ("float64", "float32")}
    counts = {column: Counter(map(decade, ratios)) for column, ratios in columns.items()}
    bins = sorted({b for count in counts.values() for b in count})
    histogram = [(label(b), *(str(count[b]) for count in counts.values())) for b in bins]
    settings = [_setting_row(row) for row in rows if row["kind"] == "setting"]
    found = [
        Sheet(
            "False alarms",
            ("pair", "runs", "compiled", "comparisons", "false alarms", "largest, float64", "largest, float32"),
            cases,
        ),
        Sheet("Error as a share of its allowance", ("ratio", *(f"{m}, {p}" for m, p in columns)), histogram),
        Sheet("Largest ratios", ("precision", "ratio", "phase", "item", "pair"), _largest(runs)),
    ]
    header = (
        "setting",
        "value",
        "smallest change seen",
        "not seen any more",
        "phase",
        "step",
        "first seen in",
        "ratio",
    )
    if alarmed := _alarms(runs):
        found.append(Sheet("Alarms", ("pair", "verdict", "runs", "worst phase", "item", "error", "allowed"), alarmed))
    found = found if runs else []
    return [*found, Sheet("Sensitivity", header, settings)] if settings else found


def _ratios(runs: Sequence[Row], precision: str, mode: str | None = None) -> list[float]:
    return [r for row in runs if mode in (None, row["mode"]) for r in row["ratios"].get(precision, [])]


def _case(name: str, runs: Sequence[Row]) -> tuple[str, ...]:
    compiled = sum(row["mode"] == "compiled" for row in runs)
    ratios = [_ratios(runs, p) for p in ("float64", "float32")]
    largest = (f"{max(r, default=0.0):.2g}" for r in ratios)
    return (name, str(len(runs)), str(compiled), str(sum(map(len, ratios))), _alarmed(runs), *largest)


def _alarmed(runs: Sequence[Row]) -> str:
    by_verdict = Counter(row["verdict"] for row in false_alarms(runs))
    return ", ".join(f"{n} {verdict}" for verdict, n in by_verdict.items()) or "0"


def _alarms(runs: Sequence[Row]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in false_alarms(runs):
        groups.setdefault((row["case"], row["verdict"]), []).append(row)
    found: list[tuple[str, ...]] = []
    for (case, verdict), rows in groups.items():
        measured = [worst for row in rows for worst in row["worst"].values()]
        worst = max(measured, key=lambda worst: worst["ratio"], default=None)
        place: tuple[str, ...] = ("", "", "", "")
        if worst is not None and worst["ratio"] > 1:  # an alarm without a number has no place here
            item = f"{worst['item']}, step {worst['step']}, by {worst['metric']}"
            place = (worst["phase"], item, f"{worst['error']:.2g}", f"{worst['allowed']:.2g}")
        found.append((case, verdict, str(len(rows)), *place))
    return found


def _largest(runs: Sequence[Row]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for precision in ("float64", "float32"):
        candidates = [row for row in runs if precision in row["worst"]]
        if not candidates:
            continue
        row = max(candidates, key=lambda row: row["worst"][precision]["ratio"])
        worst = row["worst"][precision]
        item = f"{worst['item']}, step {worst['step']}, by {worst['metric']}"
        found.append((precision, f"{worst['ratio']:.2g}", worst["phase"], item, f"{row['case']}; {where(row)}"))
    return found


def _setting_row(row: Row) -> tuple[str, ...]:
    start = (row["setting"], f"{row['value']:.4g}")
    if "not_compared" in row:
        return (*start, "not compared", "", "", "", row["not_compared"], "")
    smallest = "none" if row["smallest"] is None else f"{row['smallest']:.0e}"
    unseen = "" if row["unseen"] is None else f"{row['unseen']:.0e}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2g}"
    return (*start, smallest, unseen, row["phase"] or "", str(row["step"] or ""), row["item"] or "", ratio)


def summary(rows: Sequence[Row]) -> str:
    """The counts in one line."""
    runs = [row for row in rows if row["kind"] == "run"]
    compared = sum(len(r) for row in runs for r in row["ratios"].values())
    return f"{len(runs)} runs, {compared} comparisons, {len(false_alarms(runs))} false alarms"


def page(rows: Sequence[Row]) -> str:
    """The text of docs/calibration.md."""
    tables = "\n\n".join(sheet.as_markdown() for sheet in sheets(rows))
    return f"""# Calibration

An alarm that cries wolf is switched off, and one that sleeps is worse. This page measures both on small pairs: how
often two setups that are equal are called anything but EQUIVALENT, and how small a change of one side is still
called DIFFERENT. No tolerance was tuned to it.

```text
.venv/bin/python scripts/bench_calibration.py --write
```

{summary(rows)}.

- *False alarms*: {STEPS} steps per run in float64 (the semantic verdict) and in float32 (the numeric one), every
  fourth run with {FREE_STEPS} free steps besides; several seeds and batch sizes, each with one and with two threads.
  In a *compiled* run each side is compared with itself instead, in eager mode and in the others that it has: Keras as
  `tf.function`, with XLA and by `fit`, PyTorch by `torch.compile`, in both precisions.
  The pairs from *60 layers* on are hard on purpose (`scripts/calibration_extremes.py`), are run in float64 alone and
  always with free steps; where their training is chaotic the free run ends early, and says so.
  A *comparison* is one quantity of one phase of one step. A *false alarm* is any verdict but EQUIVALENT, so that
  INCONCLUSIVE counts too.
- *Ratio*: the error of a comparison divided by what rounding can explain; above 1 it is called different. In float32
  it is how many times more precision one side loses than the other, divided by the {KAPPA:.1f} times that are allowed.
- *Sensitivity*: PyTorch's setting is multiplied by 1 + change, Keras's stays. The changes are decades, from the largest
  down until one is not seen any more; the phase, step, quantity and ratio are those of the first difference that the
  smallest change makes. A setting is *not compared* where the pair is not EQUIVALENT even without a change.

{tables}

Made with Keras {keras.__version__} on {keras.backend.backend()} and PyTorch {torch.__version__.split("+")[0]}.
"""


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_const", const=QUICK, dest="extent", help="some 50 runs")
    extent.add_argument("--slow", action="store_const", const=SLOW, dest="extent", help="four times as many runs")
    parser.add_argument("--seeds", type=int, help="weights and batches per pair and batch size")
    parser.add_argument("--compiled", type=int, help="seeds that pairs are run compiled with; 0 for none")
    parser.add_argument("--only", action="append", default=[], help="a word; pairs and settings that have it")
    parser.add_argument("--reach", choices=("none", "default", "full"), default="default", help="of every run")
    parser.add_argument("--plant", action="store_true", help="add a pair that is wrong on purpose")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep each row there at once; go on from those in it")
    parser.add_argument("--write", action="store_true", help="write docs/calibration.md")
    parser.add_argument("--page", type=Path, default=PAGE, help="the file of --write")
    parser.add_argument("--part", choices=("alarms", "sensitivity"), help="run one part here, print rows as JSON")
    parser.add_argument("--keras-backend", choices=BACKENDS, help="that Keras runs on (default: tensorflow)")
    parser.add_argument("--threads", type=int, default=1, help="of both frameworks, with --part")
    parser.add_argument("--plan", type=json.loads, help=argparse.SUPPRESS)
    return parser


def plan_of(given: argparse.Namespace) -> Plan:
    """The plan that was asked for."""
    if given.plan:
        lists: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.plan.items()}
        return Plan(**lists)
    plan = replace(given.extent or DEFAULT, only=tuple(given.only), plant=given.plant, reach=given.reach)
    asked = {"seeds": given.seeds, "compiled": given.compiled}
    return replace(plan, **{name: value for name, value in asked.items() if value is not None})


def main(arguments: Sequence[str] | None = None) -> int:
    given = options().parse_args(arguments)
    plan = plan_of(given)
    if given.part:
        set_threads(given.threads)
        gc.freeze()  # the frameworks: looked through again and again, that is a sixth of the time
        for row in work(given.part, given.threads, plan, kept_rows(given.rows)):
            print(json.dumps(row), flush=True)
        return 0
    console = Console()
    rows = gather(plan, console, given.jobs, given.rows)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for sheet in sheets(rows):
        console.print(sheet.on_screen())
    seen: set[tuple[str, str]] = set()
    for row in false_alarms(rows):
        console.print(f"FALSE ALARM, {row['verdict']}: {row['case']}, {where(row)}", markup=False, soft_wrap=True)
        if (row["case"], row["verdict"]) not in seen:
            console.print("\n".join(row["report"]), markup=False, highlight=False)
        seen.add((row["case"], row["verdict"]))
    console.print(summary(rows))
    if given.write:
        given.page.write_text(page(rows), encoding="utf-8")
    return 1 if false_alarms(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
