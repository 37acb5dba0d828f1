"""A tied transformer under its whole training setup: decay, schedule, clipping and epsilon each count."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "weight_tied_transformer"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 16, "waived": 0, "unmatched": 0}
    (tie,) = result.ties
    assert tie.torch == ("embedding.weight", "head.weight")
    assert tie.keras == ("embedding/embeddings",)


@pytest.mark.slow
def test_the_gradient_is_the_sum_of_its_uses(checked, uses):
    assert len(uses(checked(NAME), "embedding.weight")) == 2


@pytest.mark.parametrize("variant", ["EPSILON", "DECAY_ALL", "LATE_SCHEDULE", "CLIP_EACH", "PLAIN_ADAMW"])
def test_what_goes_wrong_in_training_leaves_outputs_and_gradients_alone(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()
    assert {c.phase for c in result.checks if c.verdict == "DIFFERENT"} == {"update"}


def test_decay_of_everything_shows_in_vectors_alone(checked):
    checks = checked(f"{NAME}:DECAY_ALL", steps=1).checks
    wrong = {c.name for c in checks if c.verdict == "DIFFERENT"}
    assert "norm.weight" in wrong
    assert all(name.endswith((".bias", "norm.weight")) for name in wrong)


@pytest.mark.slow
def test_keras_forgets_what_is_excluded_from_decay_when_it_saves(checked):
    result = checked(f"{NAME}:DECAY_AFTER_SAVING", steps=1)
    assert result.expectation["held"], result.report()
    told, by_class = (load_pair(f"{NAME}:{v}").keras.optimizer() for v in ("DECAY_AFTER_SAVING", "PAIR"))
    bias = keras.Variable([1.0], name="bias")
    for optimizer, kept in ((told, False), (by_class, True)):
        assert not optimizer._use_weight_decay(bias)
        assert optimizer.from_config(optimizer.get_config())._use_weight_decay(bias) is not kept


def test_both_sides_follow_one_schedule_and_the_late_one_starts_at_zero():
    pair = load_pair(NAME)
    model = pair.torch.build()
    course = pair.torch.optimizer(model.parameters())._schedule
    rates = np.array([course(taken) for taken in range(25)])
    assert rates.argmax() in (3, 4)
    for variant, expected in (("PAIR", rates), ("LATE_SCHEDULE", [0.0, *rates[:-1]])):
        schedule = load_pair(f"{NAME}:{variant}").keras.optimizer()._learning_rate
        found = [float(schedule(taken)) for taken in range(25)]
        assert found == pytest.approx(list(expected), rel=1e-5, abs=1e-10)


def test_the_schedule_survives_its_config():
    schedule = load_pair(NAME).keras.optimizer()._learning_rate
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.training == schedule.training
