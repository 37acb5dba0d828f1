"""A custom layer called twice is one weight; sizes that cannot be called twice are told apart by their shapes."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.cli import main
from xcheck.pairs.loading import load_pair

NAME = "shared_dense_custom_layer"


@pytest.mark.parametrize("variant", ["PAIR", "THREE_USES"])
def test_the_square_form_trains_as_one_weight(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 4, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize(("variant", "calls"), [("PAIR", 2), ("THREE_USES", 3)])
def test_the_gradient_is_split_by_use(checked, uses, variant, calls):
    for part in ("weight", "bias"):
        found = uses(checked(f"{NAME}:{variant}"), f"shared.{part}")
        assert found == [f"shared (call {i + 1})" for i in range(calls)]


def test_as_written_the_error_names_both_shapes(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XCHECK_MODELS", "models")
    with pytest.raises(SystemExit) as ended:
        main(["run", NAME, "--set", "inputs=784", "--out", str(tmp_path)])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "torch model, called with this batch, raised ValueError" in said
    assert "weight is (784, 64)" in said
    assert "called on (16, 64)" in said
    assert "as many inputs as units" in said


def test_as_written_pytorch_says_the_same():
    import torch

    model = load_pair(NAME, {"inputs": 784}).torch.build()
    with pytest.raises(ValueError, match=r"weight is \(784, 64\).*called on \(2, 64\).*as many inputs as units"):
        model(torch.zeros(2, 784))


def test_the_custom_layer_goes_through_its_config_and_a_file(tmp_path):
    import keras

    model = load_pair(NAME).keras.build()
    layer = model.get_layer("shared")
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.name, again.units) == ("shared", 64)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    rows = next(load_pair(NAME).batches(0)).inputs
    assert len(loaded.weights) == 4
    assert np.allclose(loaded(rows), model(rows), atol=1e-6)
