"""Backbones of keras_hub against transformers: one row each, small and random, without a weight map or a waiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import xcheck

TOKENS, LENGTH, SHORTER = 97, 9, 6
PIXELS, PATCH = 16, 4


@dataclass(frozen=True)
class Port:
    """One backbone, the same sizes on both sides.

    Attributes:
        keras: class of keras_hub.models, without "Backbone", and its config.
        torch: class of transformers, without "Model", and its config.
        eats: key of `EATS`.
        output: of the Keras model, where it has several.
        cause: why the two are known to differ; None where they are the same.
    """

    keras: tuple[str, Mapping[str, Any]]
    torch: tuple[str, Mapping[str, Any]]
    eats: str = "masked"
    output: str | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Eaten:
    """What a kind of model is given.

    Attributes:
        batch: makes the neutral arrays of one batch.
        keras, torch: turn them into the inputs of that side.
    """

    batch: Callable[[np.random.Generator], dict[str, Any]]
    keras: Callable[[Mapping[str, Any]], Any]
    torch: Callable[[Mapping[str, Any]], Any]


def ids(rng: np.random.Generator, length: int = LENGTH) -> Any:
    return rng.integers(3, TOKENS, (2, length))


EATS = {
    "masked": Eaten(
        lambda rng: {"ids": ids(rng)},
        lambda x: {"token_ids": x["ids"], "padding_mask": np.ones_like(x["ids"])},
        lambda x: {"input_ids": x["ids"], "attention_mask": np.ones_like(x["ids"])},
    ),
    "segments": Eaten(
        lambda rng: {"ids": ids(rng), "segments": rng.integers(0, 2, (2, LENGTH))},
        lambda x: {"token_ids": x["ids"], "padding_mask": np.ones_like(x["ids"]), "segment_ids": x["segments"]},
        lambda x: {"input_ids": x["ids"], "attention_mask": np.ones_like(x["ids"]), "token_type_ids": x["segments"]},
    ),
    "unmasked": Eaten(
        lambda rng: {"ids": ids(rng), "segments": rng.integers(0, 2, (2, LENGTH))},
        lambda x: {"token_ids": x["ids"], "segment_ids": x["segments"]},
        lambda x: {"input_ids": x["ids"], "token_type_ids": x["segments"]},
    ),
    "two texts": Eaten(
        lambda rng: {"encoder": ids(rng), "decoder": ids(rng, SHORTER)},
        lambda x: {
            f"{half}_{name}": values
            for half, text in x.items()
            for name, values in (("token_ids", text), ("padding_mask", np.ones_like(text)))
        },
        lambda x: {"input_ids": x["encoder"], "decoder_input_ids": x["decoder"]},
    ),
    "sound": Eaten(
        lambda rng: {"features": rng.standard_normal((2, 24, 8)), "decoder": ids(rng, SHORTER)},
        lambda x: {
            "encoder_features": x["features"],
            "decoder_token_ids": x["decoder"],
            "decoder_padding_mask": np.ones_like(x["decoder"]),
        },
        lambda x: {"input_features": x["features"].transpose(0, 2, 1), "decoder_input_ids": x["decoder"]},
    ),
    "image": Eaten(
        lambda rng: {"image": rng.standard_normal((2, PIXELS, PIXELS, 3))},
        lambda x: x["image"],
        lambda x: x["image"].transpose(0, 3, 1, 2),
    ),
}

HUB = {"vocabulary_size": TOKENS, "num_layers": 1, "hidden_dim": 24, "intermediate_dim": 40}
HEADS, GROUPED = {**HUB, "num_heads": 4}, {**HUB, "num_query_heads": 4, "num_key_value_heads": 2}
SHORT = {**HEADS, "max_sequence_length": 16, "dropout": 0.0}
FACES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 40}
TEXT = {**FACES, "vocab_size": TOKENS, "max_position_embeddings": 16}
DECODER = {**TEXT, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "pad_token_id": 0}
DROPLESS = {**TEXT, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IMAGE = {"num_layers": 1, "hidden_dim": 24, "num_heads": 4, "image_shape": (PIXELS, PIXELS, 3)}

PORTS = {
    "llama": Port(("Llama", GROUPED), ("Llama", DECODER)),
    "qwen": Port(("Qwen", GROUPED), ("Qwen2", DECODER)),
    "phi3": Port(("Phi3", GROUPED), ("Phi3", DECODER)),
    "smollm3": Port(
        (
            "SmolLM3",
            {
                **{
                    **HUB,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "attention_bias": False,
                    "mlp_bias": False,
                },
                **{"attention_dropout": 0.0, "layer_norm_epsilon": 1e-6, "max_position_embeddings": 16},
                **{"rope_layer_enabled_list": [True], "layer_types": ["full_attention"], "rope_theta": 1e4},
                "partial_rotary_factor": 1.0,
            },
        ),
        ("SmolLM3", {**DECODER, "no_rope_layers": [1], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    ),
    "opt": Port(
        ("OPT", SHORT),
        ("OPT", {**TEXT, "ffn_dim": 40, "word_embed_proj_dim": 24, "dropout": 0.0}),
    ),
    "falcon": Port(
        ("Falcon", {**HUB, "intermediate_dim": 96, "num_attention_heads": 4}),
        ("Falcon", {**TEXT, "alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}),
    ),
    "bloom": Port(
        ("Bloom", {**HEADS, "intermediate_dim": 96}),
        ("Bloom", {"vocab_size": TOKENS, "hidden_size": 24, "n_layer": 1, "n_head": 4}),
        cause="activation",  # the root of 2 / pi in its gelu has eight digits in transformers
    ),
    "gpt_neo_x": Port(
        ("GPTNeoX", {**SHORT, "hidden_dim": 32}),
        ("GPTNeoX", {**TEXT, "hidden_size": 32}),
        cause="activation",  # gelu by tanh in keras_hub, exact in transformers
    ),
    "distilbert": Port(
        ("DistilBert", SHORT),
        (
            "DistilBert",
            {
                **{"vocab_size": TOKENS, "max_position_embeddings": 16, "dropout": 0.0, "attention_dropout": 0.0},
                **{"dim": 24, "n_layers": 1, "n_heads": 4, "hidden_dim": 40},
            },
        ),
    ),
    "deberta_v3": Port(
        ("DebertaV3", {**SHORT, "bucket_size": 8}),
        (
            "DebertaV2",
            {
                **{**DROPLESS, "position_buckets": 8, "relative_attention": True, "norm_rel_ebd": "layer_norm"},
                **{"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
                "type_vocab_size": 0,
            },
        ),
    ),
    "albert": Port(
        ("Albert", {**SHORT, "embedding_dim": 12}),
        ("Albert", {**DROPLESS, "embedding_size": 12, "hidden_act": "gelu_new"}),
        "segments",
        "sequence_output",
    ),
    "fnet": Port(
        ("FNet", {**{k: v for k, v in SHORT.items() if k != "num_heads"}}),
        ("FNet", {**TEXT, "hidden_dropout_prob": 0.0}),
        "unmasked",
        "sequence_output",
    ),
    "t5": Port(
        ("T5", {**HEADS, "dropout": 0.0, "use_gated_activation": False, "activation": "relu", "key_value_dim": 6}),
        (
            "T5",
            {
                **{"vocab_size": TOKENS, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 1, "num_heads": 4},
                "dropout_rate": 0.0,
            },
        ),
        "two texts",
        "decoder_sequence_output",
    ),
    "whisper": Port(
        ("Whisper", {**HEADS, "num_mels": 8, "max_encoder_sequence_length": 24, "max_decoder_sequence_length": 16}),
        (
            "Whisper",
            {
                **{
                    f"{half}_{name}": n
                    for half in ("encoder", "decoder")
                    for name, n in (("layers", 1), ("ffn_dim", 40))
                },
                **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": TOKENS, "d_model": 24},
                **{"num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 16, "dropout": 0.0},
                **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
            },
        ),
        "sound",
        "decoder_sequence_output",
    ),
    "swin": Port(
        (
            "SwinTransformer",
            {
                **{"image_shape": (PIXELS, PIXELS, 3), "embed_dim": 8, "depths": (2,), "num_heads": (2,)},
                **{"window_size": 2, "patch_size": PATCH, "drop_path": 0.0},
            },
        ),
        (
            "Swin",
            {
                **{"image_size": PIXELS, "patch_size": PATCH, "embed_dim": 8, "depths": [2], "num_heads": [2]},
                **{"window_size": 2, "drop_path_rate": 0.0},
            },
        ),
        "image",
    ),
    "dinov2": Port(
        (
            "DINOV2",
            {**IMAGE, "patch_size": PATCH, "position_embedding_shape": (PIXELS, PIXELS, 3)}
            | {"intermediate_dim": 96, "apply_layernorm": True},
        ),
        ("Dinov2", {**FACES, "mlp_ratio": 4, "image_size": PIXELS, "patch_size": PATCH}),
        "image",
    ),
    "deit": Port(
        ("DeiT", {**IMAGE, "patch_size": (PATCH, PATCH), "intermediate_dim": 40, "layer_norm_epsilon": 1e-12}),
        ("DeiT", {**FACES, "image_size": PIXELS, "patch_size": PATCH}),
        "image",
    ),
}


def pair(name: str) -> xcheck.Pair:
    """The two models of one row."""
    port = PORTS[name]
    eats = EATS[port.eats]

    def build_keras() -> Any:
        import keras_hub

        kind, config = port.keras
        return getattr(keras_hub.models, f"{kind}Backbone")(**config)

    def build_torch() -> Any:
        import transformers

        kind, config = port.torch
        return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(eats.batch(rng))

    picked = {} if port.output is None else {"outputs": lambda raw: raw[port.output]}
    torch = {"prepare": lambda b: (eats.torch(b.inputs), None), "outputs": lambda raw: raw.last_hidden_state}
    keras = xcheck.KerasSide(build_keras, prepare=lambda b: (eats.keras(b.inputs), None), **picked)
    return xcheck.Pair(name, xcheck.TorchSide(build_torch, **torch), keras, batches)
