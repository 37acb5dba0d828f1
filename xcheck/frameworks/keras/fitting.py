"""One training step by `fit`, as the other modes make it by `train_on_batch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from ..protocol import Prepared
from .patches.untracked import replaced_method


def fitted(model: Any, ready: Prepared) -> Mapping[str, Any]:
    """Train on one batch with `fit`; returns its last logs.

    At its end `fit` writes the averages of an optimizer with `use_ema` over the weights. That belongs to the end of a
    training, not to its steps, so it is left out here: the weights of the step are compared.
    """
    size = len(keras.tree.flatten(ready.inputs)[0])
    weights = {} if ready.sample_weight is None else {"sample_weight": ready.sample_weight}
    with replaced_method(model.optimizer, "finalize_variable_values", lambda _: None):
        history = model.fit(ready.inputs, ready.targets, **weights, batch_size=size, shuffle=False, verbose=0)
    return {name: values[-1] for name, values in history.history.items()}
