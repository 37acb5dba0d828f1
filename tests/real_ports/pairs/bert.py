"""BERT: keras_hub against transformers, small and random, with both of its outputs."""

import numpy as np

import xcheck

NAMES = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}


def build_torch():
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(vocab_size=97, max_position_embeddings=16, **SIZES))


def build_keras():
    from keras_hub.models import BertBackbone

    return BertBackbone(97, 2, 4, 24, 40, max_sequence_length=16)


def batches(seed, shape=(2, 9)):
    rng = np.random.default_rng(seed)
    while True:
        ids, segments = rng.integers(3, 97, shape), rng.integers(0, 2, shape)
        yield xcheck.Batch({"token_ids": ids, "padding_mask": np.ones(shape, int), "segment_ids": segments})


TORCH = {
    "prepare": lambda b: ({NAMES[n]: a for n, a in b.inputs.items()}, None),
    "outputs": lambda raw: {"sequence_output": raw.last_hidden_state, "pooled_output": raw.pooler_output},
}
PAIR = xcheck.Pair("bert", xcheck.TorchSide(build_torch, **TORCH), xcheck.KerasSide(build_keras), batches)
