"""ViT: keras_hub against transformers, small and random."""

import numpy as np

import xcheck

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}


def build_torch():
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(image_size=16, patch_size=4, **SIZES), add_pooling_layer=False)


def build_keras():
    from keras_hub.models import ViTBackbone

    return ViTBackbone((16, 16, 3), (4, 4), 3, 4, 24, 48)


def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((2, 16, 16, 3)))


TORCH = {"prepare": lambda b: (b.inputs.transpose(0, 3, 1, 2), None), "outputs": lambda raw: raw.last_hidden_state}
PAIR = xcheck.Pair("vit", xcheck.TorchSide(build_torch, **TORCH), xcheck.KerasSide(build_keras), batches)
