"""What several pairs need: the two builders of a folder, one optimizer for both frameworks, real data in batches.

Nothing here imports a framework before it is called, so that pairs can be listed, and one side be run, without it.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xcheck

Data = tuple[Any, Any]


def builders(pair_module: str, **sizes: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Functions that build the PyTorch and the Keras model of a pair's folder.

    Args:
        pair_module: `__name__` of the folder's pair.py.
        sizes: for the `Config` of both models.
    """

    def build(file: str) -> Any:
        module = importlib.import_module(f"{pair_module.rpartition('.')[0]}.{file}")
        return module.build(module.Config(**sizes))

    return lambda: build("torch_model"), lambda: build("keras_model")


def optimizers(name: str, **settings: Any) -> tuple[Callable[[Any], Any], Callable[[], Any]]:
    """One optimizer for PyTorch and for Keras, both by Keras's formula.

    Args:
        name: what Keras calls it, such as "Adam".
        settings: by Keras's names, such as `learning_rate`.
    """

    def for_torch(parameters: Any) -> Any:
        from xcheck.optim.torch import optimizers as like_keras

        return getattr(like_keras, f"Keras{name}")(parameters, **settings)

    def for_keras() -> Any:
        import keras

        return getattr(keras.optimizers, name)(**settings)

    return for_torch, for_keras


def affine(torch: str, keras: str) -> dict[str, str]:
    """Weight map of one layer with a weight and a bias, by its path on each side."""
    return {f"{torch}.weight": f"{keras}/kernel", f"{torch}.bias": f"{keras}/bias"}


def minibatches(
    load: Callable[[], Data], batch_size: int = 16, change: Callable[[Any], Any] | None = None
) -> Callable[[int], Iterator[xcheck.Batch]]:
    """A pair's `batches`: rows of a data set, drawn anew for each batch.

    Args:
        load: () -> (inputs, targets); inputs are one array (N, ...) or a tuple of them.
        batch_size: rows per batch.
        change: of the inputs that were drawn; for what would be too large for the whole set.
    """

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        inputs, targets = load()
        rng = np.random.default_rng(seed)
        while True:
            rows = rng.choice(len(targets), batch_size, replace=False)
            chosen = tuple(part[rows] for part in inputs) if isinstance(inputs, tuple) else inputs[rows]
            yield xcheck.Batch(change(chosen) if change else chosen, targets[rows])

    return batches


def digits(image_size: int = 8) -> Data:
    """scikit-learn's handwritten digits: images (N, H, W, 1) in 0..1, and labels (N,).

    Args:
        image_size: H and W, see `enlarged`.
    """
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    return enlarged(data.images[..., None] / 16.0, image_size), data.target.astype(np.int64)


def enlarged(images: Any, image_size: int) -> Any:
    """Images (N, 8, 8, C) as (N, H, W, C): each pixel becomes a square, and a black margin makes up the rest.

    Args:
        images: to enlarge.
        image_size: H and W.
    """
    scale, margin = divmod(image_size, 8)
    pad = (margin // 2, margin - margin // 2)
    return np.pad(images.repeat(scale, axis=1).repeat(scale, axis=2), ((0, 0), pad, pad, (0, 0)))


def flat_digits(inputs: int = 64) -> Data:
    """scikit-learn's handwritten digits as rows (N, D) of pixels in 0..1, and labels (N,).

    Args:
        inputs: D, the square of an image size.
    """
    images, labels = digits(math.isqrt(inputs))
    return images.reshape(-1, inputs), labels


def diabetes() -> Data:
    """scikit-learn's diabetes table: columns (N, 10) near -1..1, and the disease progression (N, 1) in 0..1."""
    from sklearn.datasets import load_diabetes

    data: Any = load_diabetes()
    return data.data * 10, data.target[:, None] / 350


def line_lengths(steps: int) -> Data:
    """Lengths of lines of the standard library's argparse, in units of 80: series (N, T, 1), and what is next (N, 1).

    Args:
        steps: T, lines in a row.
    """
    import argparse

    lines = Path(argparse.__file__).read_text(encoding="utf-8").splitlines()
    series = np.array([len(line) for line in lines if line.strip()]) / 80
    windows = np.lib.stride_tricks.sliding_window_view(series, steps + 1)
    return windows[:, :-1, None].copy(), windows[:, -1:].copy()


def channels_first(batch: xcheck.Batch) -> Data:
    """Images as PyTorch eats them, one array or a tuple of them: (B, H, W, C) -> (B, C, H, W)."""
    if isinstance(batch.inputs, tuple):
        return tuple(np.moveaxis(image, -1, 1) for image in batch.inputs), batch.targets
    return np.moveaxis(np.asarray(batch.inputs), -1, 1), batch.targets


def text(length: int) -> Data:
    """The source of Python's own `textwrap` module, as bytes: windows (N, length), and the byte after each (likewise).

    Args:
        length: of a window.
    """
    import inspect
    import textwrap

    data = np.frombuffer(inspect.getsource(textwrap).encode(), np.uint8).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(data, length + 1)
    return windows[:, :-1], windows[:, 1:]


def cross_entropy(ignore: int = -100) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The loss of a classifier for PyTorch and for Keras: logits (B, ..., K) against labels (B, ...), averaged.

    Args:
        ignore: label of the positions that are left out.
    """

    def for_torch(logits: Any, labels: Any) -> Any:
        from torch.nn import functional as F

        return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=ignore)

    def for_keras(labels: Any, logits: Any) -> Any:
        import keras

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignore)
        return loss(labels, logits)

    return for_torch, for_keras


def categorical_crossentropy(probabilities: Any, targets: Any) -> Any:
    """Keras's loss of this name for PyTorch, from the probabilities of a softmax.

    On TensorFlow Keras takes the logits of a softmax that it can see behind the probabilities, which is the same
    number as their logarithm. On JAX and PyTorch it scales the probabilities and clips them to 1e-7 ... 1 - 1e-7.

    Args:
        probabilities: tensor (..., C).
        targets: one-hot (..., C), or whole numbers (...).
    """
    from torch.nn import functional as F

    if keras_backend() != "tensorflow":
        probabilities = (probabilities / probabilities.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    logs = probabilities.log().reshape(-1, probabilities.shape[-1])
    if targets.is_floating_point():
        return -(targets.reshape(logs.shape) * logs).sum(-1).mean()
    return F.nll_loss(logs, targets.reshape(-1))


def keras_backend() -> str:
    """The backend that Keras runs on, or would run on: the PyTorch side may be run where there is no Keras."""
    keras = sys.modules.get("keras")
    return os.environ.get("KERAS_BACKEND", "tensorflow") if keras is None else keras.config.backend()


def one_hot(labels: Any, classes: int) -> Any:
    """Labels (N,) as rows (N, C) of zeros and a one."""
    return np.eye(classes)[labels]
