"""One detection head for all levels of a pyramid, on scikit-learn's digits scattered over a canvas."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import xcheck

from ..common import builders, channels_first, digits, optimizers

GROWTH = 2**0.5
"""Each anchor of a place is this much larger than the one before."""


def anchors_of(image_size: int, levels: int, anchors: int):
    """Centres and size (N, 3) of all anchors in pixels, in the order of the heads: level, row, column, anchor."""
    rows = []
    for level in range(levels):
        stride = 4 * 2**level
        centres = np.arange(stride / 2, image_size, stride)
        y, x, a = np.meshgrid(centres, centres, np.arange(anchors), indexing="ij")
        rows.append(np.stack([y, x, 2 * stride * GROWTH**a], axis=-1).reshape(-1, 3))
    return np.concatenate(rows)


def overlap(a, b):
    """Intersection over union of squares given as centre and size, broadcast."""
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    return common / (a[..., 2] ** 2 + b[..., 2] ** 2 - common)


def scattered_digits(image_size: int, levels: int, anchors: int, classes: int, batch_size: int, objects: int = 2):
    """Batches of images (B, H, W, 1) and per anchor the labels (B, N, K) and the box with its presence (B, N, 5)."""
    grid = anchors_of(image_size, levels, anchors)

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        small, labels = digits(8)
        large, _ = digits(16)
        rng = np.random.default_rng(seed)
        while True:
            images = np.zeros((batch_size, image_size, image_size, 1))
            wanted = np.zeros((batch_size, len(grid), classes))
            boxes = np.zeros((batch_size, len(grid), 5))
            for b in range(batch_size):
                for i in rng.choice(len(labels), objects, replace=False):
                    digit = (small, large)[rng.integers(2)][i]
                    size = len(digit)
                    top, left = rng.integers(0, image_size - size + 1, 2)
                    images[b, top : top + size, left : left + size] = digit
                    box = np.array([top + size / 2, left + size / 2, size])
                    near = overlap(grid, box)
                    there = near >= min(0.5, near.max())
                    wanted[b, (near >= 0.4) & ~there] = -1
                    wanted[b, there] = np.eye(classes)[labels[i] % classes]
                    shift = (box[:2] - grid[there, :2]) / grid[there, 2:]
                    growth = np.log(size / grid[there, 2:])
                    boxes[b, there] = np.hstack([shift, growth, growth, np.ones_like(growth)])
            yield xcheck.Batch(images, {"classes": wanted, "boxes": boxes})

    return batches


def pair(
    image_size: int = 32,
    filters: int = 8,
    levels: int = 3,
    anchors: int = 2,
    classes: int = 10,
    depth: int = 1,
    batch_size: int = 2,
    keras_head_per_level: bool = False,
    keras_channels_first: bool = False,
) -> xcheck.Pair:
    """The pair at any size; the original has image_size=640, filters=256, levels=5, anchors=9, classes=80, depth=4.

    `keras_head_per_level` and `keras_channels_first` (in the order of what is flattened) are what goes wrong in a port.
    """
    sizes = {"filters": filters, "levels": levels, "anchors": anchors, "classes": classes, "depth": depth}
    wrong = {"head_per_level": keras_head_per_level, "channels_first": keras_channels_first}
    build_torch, _ = builders(__name__, **sizes)
    _, build_keras = builders(__name__, **sizes, **wrong)
    torch_optimizer, keras_optimizer = optimizers("SGD", learning_rate=0.01, momentum=0.9)

    def torch_loss(outputs, targets):
        from .torch_model import box_loss, focal_loss

        return {
            "classes": focal_loss(outputs["classes"], targets["classes"]),
            "boxes": box_loss(outputs["boxes"], targets["boxes"]),
        }

    def loss_of(name: str):
        def keras_loss(targets, outputs):
            from .keras_model import LOSSES

            return LOSSES[name](targets, outputs)

        keras_loss.__name__ = f"{name}_loss"  # a saved model knows its losses by their names
        return keras_loss

    weight_map: dict[str, str | list[str]] = {}

    def conv(torch: str, *keras: str) -> None:
        for torch_role, keras_role in (("weight", "kernel"), ("bias", "bias")):
            copies = [f"{name}/{keras_role}" for name in keras]
            weight_map[f"{torch}.{torch_role}"] = copies if len(copies) > 1 else copies[0]

    conv("stem", "stem")
    for i in range(levels):
        conv(f"stages.{i}", f"stage_{i}")
        conv(f"laterals.{i}", f"lateral_{i}")
    for name in ("classes", "boxes"):
        heads = [f"{name}_{i}" for i in range(levels)] if keras_head_per_level else [name]
        for i in range(depth):
            conv(f"{name}.tower.{i}", *(f"{head}_tower_{i}" for head in heads))
        conv(f"{name}.last", *(f"{head}_last" for head in heads))

    expect = None
    if keras_head_per_level:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "inventory", "tie_missing")
    elif keras_channels_first:
        expect = xcheck.Expectation(xcheck.Verdict.DIFFERENT, "forward", "permuted_axes")
    variant = "_head_per_level" * keras_head_per_level + "_channels_first" * keras_channels_first
    return xcheck.Pair(
        name="shared_detection_head" + variant,
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer, prepare=channels_first),
        keras=xcheck.KerasSide(
            build_keras, loss={name: loss_of(name) for name in ("classes", "boxes")}, optimizer=keras_optimizer
        ),
        batches=scattered_digits(image_size, levels, anchors, classes, batch_size),
        weight_map=weight_map,
        also=("persistence", "export"),
        expect=expect,
    )


PAIR = pair()
HEAD_PER_LEVEL = pair(keras_head_per_level=True)
CHANNELS_FIRST = pair(keras_channels_first=True)
