"""Live models and loaders of either framework, as pairs and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xcheck


def models(slope: float = 0.2) -> tuple[Any, Any]:
    import keras
    from torch import nn

    torch_model = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2))
    given = keras.Input((3,))
    x = keras.layers.LeakyReLU(negative_slope=slope)(keras.layers.Dense(4)(given))
    return torch_model, keras.Model(given, keras.layers.Dense(2)(x))


X = np.random.default_rng(0).standard_normal((5, 3))


def test_two_live_models_are_compared_and_left_as_they_are() -> None:
    torch_model, keras_model = models()
    before = [p.detach().clone() for p in torch_model.parameters()], keras_model.get_weights()
    result = xcheck.compare(torch_model, keras_model, X)
    assert result.verdict == "EQUIVALENT", result.report()
    assert {c.phase for c in result.checks} >= {"forward", "gradient"}
    assert all((a == b).all() for a, b in zip(before[0], torch_model.parameters(), strict=True))
    assert all((a == b).all() for a, b in zip(before[1], keras_model.get_weights(), strict=True))


def test_what_differs_between_live_models_has_its_place_and_cause() -> None:
    result = xcheck.compare(*models(slope=0.3), X)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "forward"
    assert [c.id for c in result.causes if c.confirmed] == ["activation"]


def test_a_notebook_shows_the_first_lines_and_the_rest_on_demand() -> None:
    html = xcheck.compare(*models(slope=0.3), X)._repr_html_()
    assert html.startswith("<pre><b>DIFFERENT")
    assert "<details>" in html
    assert "<script" not in html


def test_batches_come_from_a_loader_of_either_framework() -> None:
    import tensorflow as tf
    import torch

    y = np.arange(5)
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(y))
    of_torch = list(xcheck.batches_from(torch.utils.data.DataLoader(data, batch_size=2)))
    of_keras = list(xcheck.batches_from(tf.data.Dataset.from_tensor_slices((X, y)).batch(2)))
    assert len(of_torch) == len(of_keras) == 3
    for a, b in zip(of_torch, of_keras, strict=True):
        assert isinstance(a.inputs, np.ndarray)
        assert (a.inputs == b.inputs).all()
        assert (a.targets == b.targets).all()


def test_a_loader_of_dicts_is_split_by_the_user() -> None:
    loader = [{"image": X, "label": [1, 2, 3, 4, 5]}]
    (batch,) = xcheck.batches_from(loader, split=lambda item: (item["image"], item["label"]))
    assert (batch.targets == [1, 2, 3, 4, 5]).all()


def test_what_is_no_number_is_said() -> None:
    with pytest.raises(xcheck.BadInput, match="not an array of numbers"):
        list(xcheck.batches_from([("text", 1)]))
