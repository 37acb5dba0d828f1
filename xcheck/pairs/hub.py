"""`xcheck hub`: a pair of a keras_hub backbone and its model in transformers, both built from one configuration.

keras_hub converts published checkpoints with one module for each architecture, which turns a configuration of
transformers into that of the backbone. That function is what makes the two models the same size here.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from ..errors import FileError, PairError
from .pair import Batch, KerasSide, Pair, TorchSide

CONVERTERS, CLASSES = "keras_hub.src.utils.transformers", "keras_hub.src.models"

EXAMPLES, LENGTH, PIXELS = 2, 9, 224
"""Of a batch: examples, tokens of each, and the side of an image where the configuration does not say it."""

TINY: Mapping[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 32),
    **dict.fromkeys(("embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads",), 2),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok",), 2),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 97),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 32),
    **dict.fromkeys(("head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("sliding_window",), 5),
    **dict.fromkeys(("patch_size",), 4),
    **dict.fromkeys(("image_size",), 16),
}
"""Sizes that `tiny` gives a configuration, where it has them and they are larger."""

DERIVED = frozenset({"stage_names", "out_features", "out_indices"})
"""Settings that follow from the number of layers."""

ARRAYS: Mapping[str, tuple[str, str]] = {
    "token_ids": ("ids", "input_ids"),
    "encoder_token_ids": ("ids", "input_ids"),
    "decoder_token_ids": ("decoder ids", "decoder_input_ids"),
    "padding_mask": ("mask", "attention_mask"),
    "encoder_padding_mask": ("mask", "attention_mask"),
    "decoder_padding_mask": ("decoder mask", "decoder_attention_mask"),
    "segment_ids": ("segments", "token_type_ids"),
    "images": ("image", "pixel_values"),
    "pixel_values": ("image", "pixel_values"),
}
"""Input of a backbone -> the array of the batch that it is, and what transformers calls it."""

OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "last_hidden_state": ("sequence_output", "decoder_sequence_output", "last_hidden_state"),
    "encoder_last_hidden_state": ("encoder_sequence_output",),
}
"""Output of transformers -> what backbones call it."""


def hub_pair(backbone: str, config: str, *, tiny: bool = False) -> Pair:
    """The pair of a backbone of keras_hub and the model of transformers that is converted to it.

    Args:
        backbone: class of keras_hub.models, with or without "Backbone".
        config: path of a config.json of transformers; or the name of a configuration class of transformers, such as
            "GPT2Config", whose default sizes are taken.
        tiny: with sizes that a check takes seconds for. What is not a size stays.

    Raises:
        PairError: keras_hub converts nothing to this backbone, or has inputs that this function does not know, or its
            converter does not take the configuration.
        FileError: the configuration cannot be read.
        SetupError: keras_hub or transformers is not installed.
    """
    converter = _converter(backbone)
    kind: type[Any] = converter.backbone_cls
    settings = shrunk(_settings(config)) if tiny else _settings(config)
    names = _inputs(kind, settings)
    size = _sizes(settings)

    def build_torch() -> Any:
        transformers = importlib.import_module("transformers")
        return transformers.AutoModel.from_config(_configuration(settings))

    def build_keras() -> Any:
        try:
            arguments = converter.convert_backbone_config(settings)
        except KeyError as error:
            raise PairError(
                f"The converter of {kind.__name__} needs a setting that the configuration does not have.",
                where=converter.__name__,
                numbers=f"{error} is not in {config}",
                todo="give a config.json as it is published: --config FILE",
            ) from error
        return kind(**arguments)

    def batches(seed: int) -> Iterator[Batch]:
        rng = np.random.default_rng(seed)
        arrays = dict.fromkeys(ARRAYS[name][0] for name in names)
        while True:
            yield Batch({array: _drawn(rng, array, *size) for array in arrays})

    def for_torch(batch: Batch) -> Any:
        given: Any = batch.inputs
        arrays: dict[str, Any] = {ARRAYS[name][1]: given[ARRAYS[name][0]] for name in names}
        if "pixel_values" in arrays:
            arrays["pixel_values"] = np.moveaxis(arrays["pixel_values"], -1, 1)
        return arrays, None

    def for_keras(batch: Batch) -> Any:
        given: Any = batch.inputs
        arrays: dict[str, Any] = {name: given[ARRAYS[name][0]] for name in names}
        return arrays if len(arrays) > 1 or "token_ids" in arrays else next(iter(arrays.values())), None

    return Pair(
        kind.__name__.removesuffix("Backbone").lower(),
        TorchSide(build_torch, prepare=for_torch, outputs=_of_torch),
        KerasSide(build_keras, prepare=for_keras, outputs=_of_keras),
        batches,
    )


def write_hub_pair(backbone: str, config: str, tiny: bool, folder: Path) -> Path:
    """Write a pair file that calls `hub_pair`, to be run or edited; returns its path.

    Args:
        backbone, config, tiny: as for `hub_pair`.
        folder: is created.

    Raises:
        PairError: a different file is there, such as one that was edited.
        FileError: the file cannot be written.
    """
    file = Path(config)
    config = str(file.resolve()) if file.suffix == ".json" else config
    name = re.sub(r"\W", "_", backbone.removesuffix("Backbone").lower())
    path = folder / f"{name}.py"
    text = f'''"""{backbone} of keras_hub against transformers, both from {Path(config).name}."""

from xcheck.pairs.hub import hub_pair


def pair(config={config!r}, tiny={tiny}):
    return hub_pair({backbone!r}, config, tiny=tiny)


PAIR = pair()
'''
    try:
        if path.exists() and path.read_text() != text:
            raise PairError(
                "A different pair file is there already.",
                where=str(path),
                todo=f"run it: xcheck run {path}; or remove it, or choose another --folder",
            )
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise FileError("The pair file cannot be written.", where=str(path), cause=str(error)) from error
    return path


def _converter(backbone: str) -> ModuleType:
    """The module of keras_hub that converts checkpoints to a backbone."""
    package = importlib.import_module(CONVERTERS)
    wanted = backbone.removesuffix("Backbone") + "Backbone"
    found: dict[str, ModuleType] = {}
    missing: list[str] = []
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("convert_"):
            try:
                converter = importlib.import_module(f"{CONVERTERS}.{module.name}")
            except ModuleNotFoundError as error:  # a converter may need a tokenizer's package
                missing.append(f"{module.name} needs {error.name}")
                continue
            found.setdefault(converter.backbone_cls.__name__, converter)
    if wanted not in found:
        raise PairError(
            f"keras_hub converts no model of transformers to {wanted}.",
            numbers=f"it converts to: {', '.join(sorted(name.removesuffix('Backbone') for name in found))}",
            cause=f"not importable here: {'; '.join(missing)}" if missing else None,
        )
    return found[wanted]


def _settings(config: str) -> dict[str, Any]:
    """A configuration as a published config.json holds it."""
    if Path(config).suffix == ".json":
        try:
            settings: Any = json.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError("The configuration cannot be read.", where=config, cause=str(error)) from error
        if not isinstance(settings, dict) or "model_type" not in settings:
            raise FileError(
                "This is not a configuration of transformers: it has no model_type.",
                where=config,
                todo="pass the config.json of a model in transformers, or the name of a configuration class",
            )
        return cast(dict[str, Any], settings)
    kind = getattr(importlib.import_module("transformers"), config, None)
    if kind is None or not hasattr(kind, "model_type"):
        raise PairError(
            f"transformers has no configuration class {config}.",
            todo="give a name such as GPT2Config, or the path of a config.json",
        )
    made = kind()
    return {**made.to_dict(), **_earlier_names(made)}


def _earlier_names(config: Any) -> dict[str, Any]:
    """What published files call otherwise than the class does now."""
    found = {name: getattr(config, own) for name, own in config.attribute_map.items() if hasattr(config, own)}
    rope: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    return found | ({"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {})


def shrunk(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with small sizes; what is not a size stays, and tokens are those of the small vocabulary.

    Args:
        settings: of a config.json.
    """
    found: dict[str, Any] = {}
    layers = next((n for name, n in TINY.items() if "layer" in name and name in settings), 0)
    for name, value in settings.items():
        if name in DERIVED:
            continue
        if isinstance(value, dict) and name.endswith("_config"):
            value = shrunk(cast(dict[str, Any], value))
        elif isinstance(value, int) and not isinstance(value, bool) and name in TINY and value > TINY[name]:
            over = value % TINY[name] if "position" in name else 0  # rows that are no positions, as in RoBERTa's 514
            value = TINY[name] + (over if over <= 2 else 0)
        elif isinstance(value, int) and name.endswith("_token_id") and value >= TINY["vocab_size"]:
            value = 1
        elif isinstance(value, list) and name in ("layer_types", "no_rope_layers", "mlp_layer_types"):
            value = cast(list[Any], value)[:layers]
        found[name] = value
    if "num_key_value_heads" in settings and settings["num_key_value_heads"] == settings.get("num_attention_heads"):
        found["num_key_value_heads"] = found["num_attention_heads"]
    return found


def _configuration(settings: Mapping[str, Any]) -> Any:
    transformers = importlib.import_module("transformers")
    given = {name: value for name, value in settings.items() if name != "model_type"}
    return transformers.AutoConfig.for_model(settings["model_type"], **given)


def _inputs(kind: type[Any], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the inputs of a backbone, as its source declares them: it is built only when it is run."""
    sources = (inspect.getsource(sys.modules[base.__module__]) for base in kind.__mro__ if CLASSES in base.__module__)
    declared = (re.findall(r'Input\((?:[^()]|\([^()]*\))*?name="(\w+)"', source) for source in sources)
    names = next(filter(None, declared), ["images"] if "image_size" in settings else [])
    if "vision_config" not in settings and "token_ids" in names:  # a model of text that could see
        names = [name for name in names if name in ARRAYS and ARRAYS[name][0] != "image"]
    unknown = [name for name in names if name not in ARRAYS]
    if unknown or not names:
        raise PairError(
            f"{kind.__name__} has inputs that xcheck hub does not know.",
            numbers=f"inputs: {', '.join(names) or 'none that its source names'}",
            todo="write a pair file: xcheck new NAME",
        )
    return tuple(dict.fromkeys(names))


def _sizes(settings: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Size of the vocabulary, number of segments, height of an image, and its channels."""
    words, segments = settings.get("vocab_size") or 2, settings.get("type_vocab_size") or 1
    seen = settings.get("vision_config") or settings
    image: Any = seen.get("image_size") or PIXELS
    side = image if isinstance(image, int) else image[0]
    return int(words), int(segments), int(side), int(seen.get("num_channels") or 3)


def _drawn(rng: np.random.Generator, array: str, words: int, segments: int, side: int, channels: int) -> Any:
    """One array of a batch, by its name in `ARRAYS`."""
    tokens = EXAMPLES, LENGTH
    if "mask" in array:
        return np.ones(tokens, np.int64)
    if array == "image":
        return rng.standard_normal((EXAMPLES, side, side, channels))
    return rng.integers(0, segments, tokens) if array == "segments" else rng.integers(min(3, words - 1), words, tokens)


def _of_torch(raw: Any) -> dict[str, Any]:
    return {name: raw[name] for name in OUTPUTS if raw.get(name) is not None}


def _of_keras(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        return {"last_hidden_state": raw}
    raw = cast(Mapping[str, Any], raw)
    found: dict[str, Any] = {
        name: next((raw[own] for own in owns if own in raw), None) for name, owns in OUTPUTS.items()
    }
    return {name: value for name, value in found.items() if value is not None}
