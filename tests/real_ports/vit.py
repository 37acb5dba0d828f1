"""ViT: keras_hub against transformers, small and random."""

import numpy as np

import xcheck


def build_torch():
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    return ViTModel(ViTConfig(image_size=16, patch_size=4, **sizes), add_pooling_layer=False)


def build_keras():
    from keras_hub.models import ViTBackbone

    return ViTBackbone((16, 16, 3), (4, 4), 3, 4, 24, 48)


def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((2, 16, 16, 3)))


PAIR = xcheck.Pair(
    "vit",
    xcheck.TorchSide(
        build_torch,
        prepare=lambda b: (b.inputs.transpose(0, 3, 1, 2), None),
        outputs=lambda raw: raw.last_hidden_state,
    ),
    xcheck.KerasSide(build_keras),
    batches,
)
