"""One filter at four rotations: a turned image moves the rotations on by one, on both sides."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

from xcheck.pairs.loading import load_pair

NAME = "rotation_equivariant_conv"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 6, "waived": 0, "unmatched": 0}


@pytest.mark.slow
def test_the_gradient_is_the_sum_of_its_uses(checked, uses):
    assert len(uses(checked(NAME), "rotated.weight")) == 4


@pytest.mark.parametrize("variant", ["TORCH_AXES", "OTHER_WAY"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def moved_on(maps):
    """Maps (1, H, H, 4F) of an image, as they should be for the image turned by a quarter."""
    return np.roll(np.rot90(maps, axes=(1, 2)), maps.shape[-1] // 4, axis=-1)


@pytest.mark.parametrize(("variant", "equivariant"), [("PAIR", True), ("TORCH_AXES", False)])
def test_a_turned_image_moves_the_rotations_on(variant, equivariant):
    layer = load_pair(f"{NAME}:{variant}").keras.build().get_layer("rotated")
    image = np.random.default_rng(0).random((1, 6, 6, 6)).astype(np.float32)
    maps, turned = (keras.ops.convert_to_numpy(layer(x)) for x in (image, np.rot90(image, axes=(1, 2))))
    assert np.allclose(turned, moved_on(maps), atol=1e-5) is equivariant


def test_and_so_it_does_in_pytorch():
    layer = load_pair(NAME).torch.build().rotated
    image = np.random.default_rng(0).random((1, 6, 6, 6)).astype(np.float32)
    found = [
        layer(torch.from_numpy(np.moveaxis(x, -1, 1).copy())).detach().numpy()
        for x in (image, np.rot90(image, axes=(1, 2)))
    ]
    maps, turned = (np.moveaxis(x, 1, -1) for x in found)
    assert np.allclose(turned, moved_on(maps), atol=1e-5)
