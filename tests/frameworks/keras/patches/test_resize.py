"""Bilinear and bicubic resizing of float64 images: what TensorFlow gives, without its rounding to float32."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.frameworks.keras.patches.precision import float64_throughout, layer_of
from xcheck.frameworks.keras.patches.resize import KERNELS, resizing_weights
from xcheck.records.islands import Islands

IMAGES = np.random.default_rng(0).standard_normal((2, 7, 6, 3))


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(14, 9), (3, 4), (7, 6)])
def test_it_is_the_same_but_for_the_rounding(size, antialias, method):
    import tensorflow as tf

    theirs = tf.image.resize(IMAGES, size, method, antialias=antialias)
    islands = Islands(layer_of)
    with float64_throughout(islands):
        ours = tf.image.resize(tf.constant(IMAGES), size, method, antialias=antialias)
    assert ours.dtype == tf.float64
    assert np.abs(ours.numpy() - theirs.numpy()).max() < 1e-5
    assert ("outside of any layer", "tf.image.resize") in islands.casts
    assert tf.image.resize(IMAGES, size).dtype == tf.float32  # put back


def test_what_it_does_not_know_is_left_to_tensorflow():
    import tensorflow as tf

    islands = Islands(layer_of)
    with float64_throughout(islands):
        other = tf.image.resize(tf.constant(IMAGES), (9, 9), method="lanczos3")
        narrow = tf.image.resize(tf.constant(IMAGES.astype("float32")), (9, 9))
    assert (other.dtype, narrow.dtype) == (tf.float64, tf.float32)
    assert any("ScaleAndTranslate" in place for place in islands.places())  # it has no float64, and is noted


@pytest.mark.parametrize("method", KERNELS)
def test_weights_of_a_row_are_shares(method):
    for wanted in (1, 3, 5, 12):
        for antialias in (False, True):
            weights = resizing_weights(method, 5, wanted, antialias=antialias)
            assert weights.shape == (wanted, 5)
            np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_array_equal(resizing_weights(method, 5, 5, antialias=False), np.eye(5))
