"""BART: keras_hub against transformers, small and random; positions start at the third row in transformers."""

import numpy as np

import xcheck

SIZES = {f"{half}_{what}": n for half in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 40))}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "dropout": 0.0}


def build_torch():
    from transformers import BartConfig, BartModel

    return BartModel(BartConfig(vocab_size=97, d_model=24, max_position_embeddings=16, **SIZES, **HEADS))


def build_keras():
    from keras_hub.models import BartBackbone

    return BartBackbone(97, 2, 4, 24, 40, dropout=0.0, max_sequence_length=16)


def batches(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch({"encoder": rng.integers(3, 97, (2, 9)), "decoder": rng.integers(3, 97, (2, 6))})


def keras_inputs(b):
    every = [(f"{n}_token_ids", ids) for n, ids in b.inputs.items()]
    return dict(every + [(f"{n}_padding_mask", np.ones_like(ids)) for n, ids in b.inputs.items()]), None


TORCH = xcheck.TorchSide(
    build_torch,
    prepare=lambda b: ({"input_ids": b.inputs["encoder"], "decoder_input_ids": b.inputs["decoder"]}, None),
    outputs=lambda raw: raw.last_hidden_state,
)
KERAS = xcheck.KerasSide(build_keras, prepare=keras_inputs, outputs=lambda raw: raw["decoder_sequence_output"])
PAIR = xcheck.Pair("bart", TORCH, KERAS, batches)
