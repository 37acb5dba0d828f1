"""What `xcheck convert` writes for published ports is what keras_hub's own converters make, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import backbones
import numpy as np
import pytest

import xcheck

pytest.importorskip("keras_hub")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PREFIXES = {"albert": "albert.", "distilbert": "distilbert.", "smollm3": "model."}
"""Backbones that keras_hub converts, and what the keys of a published checkpoint begin with."""


def checkpoint(pair: Any, folder: Path, prefix: str) -> Path:
    """A folder as transformers publishes it, with other numbers in every weight."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    model = pair.torch.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file({prefix + key: tensor for key, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    return file


@pytest.mark.parametrize("name", PREFIXES)
def test_the_weights_are_those_of_the_published_converter(name: str, tmp_path: Path) -> None:
    import keras_hub
    from safetensors.torch import load_file

    pair, prefix = backbones.pair(name), PREFIXES[name]
    file = checkpoint(pair, tmp_path / "published", prefix)
    xcheck.convert(pair, file, tmp_path / "port.weights.h5", prefix=prefix)
    port = pair.keras.build()
    port.load_weights(tmp_path / "port.weights.h5")
    published = getattr(keras_hub.models, f"{backbones.PORTS[name].keras[0]}Backbone").from_preset(str(file.parent))
    ours, theirs = port.get_weights(), published.get_weights()
    assert len(ours) > 10
    assert [w for w, a, b in zip(port.weights, ours, theirs, strict=True) if not np.array_equal(a, b)] == []

    xcheck.convert(pair, tmp_path / "port.weights.h5", tmp_path / "back.safetensors")
    before, after = load_file(file), load_file(tmp_path / "back.safetensors")
    assert {prefix + key for key in after} == before.keys()
    assert all(np.array_equal(before[prefix + key], tensor) for key, tensor in after.items())
