"""A user's schedule without `get_config`, as scripts have them: it is read like any other."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

from xcheck.frameworks.keras.optimizer import facts


class Bare(keras.optimizers.schedules.LearningRateSchedule):
    """TensorFlow's functions need a tensor, and a float."""

    def __call__(self, step: Any) -> Any:
        return tf.math.rsqrt(tf.cast(step, "float64") + 4.0)


class Broken(keras.optimizers.SGD):
    def get_config(self) -> Any:
        raise TypeError("no config")


@pytest.mark.parametrize("kind", [keras.optimizers.AdamW, keras.optimizers.SGD, Broken])
def test_an_optimizer_whose_config_cannot_be_written_is_read_from_its_attributes(kind: Any) -> None:
    optimizer = kind(Bare(), weight_decay=0.125, global_clipnorm=0.5)
    with pytest.raises((NotImplementedError, TypeError)):
        optimizer.get_config()
    found = facts(optimizer)
    numbers = {name: found["optimizer_settings"][name] for name in ("weight_decay", "global_clipnorm", "learning_rate")}
    assert numbers == {"weight_decay": 0.125, "global_clipnorm": 0.5, "learning_rate": 0.5}
    assert found["schedule"][:2] == pytest.approx([0.5, 5**-0.5])
