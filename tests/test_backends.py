"""Keras on each of its backends: the same faults are found and named, and what is right passes.

Keras takes its backend once, so that the checks of each backend run in a process of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HELPERS = Path(__file__).parent / "helpers"
FAULTS = {
    "epsilon": ("forward", "epsilon"),
    "momentum": ("state", "momentum"),
    "padding": ("forward", "padding"),
    "scaled kernel": ("forward", "scaled_weight"),
    "late bias": ("forward", ""),  # has no name; above all it is no bias that is left out
    "attention scale": ("forward", "constant_factor"),
    "gate order": ("forward", "gate_order"),
    "label smoothing": ("loss", "label_smoothing"),
    "optimizer epsilon": ("update", "optimizer_setting"),
    "weight decay": ("update", "weight_decay"),
    "clipping": ("update", "clipping"),
    "lost tie": ("inventory", "equal_but_untied"),
    "dropout rate": ("forward", "dropout_rate"),
    "frozen layer": ("inventory", "frozen_parameters"),
}


@cache
def told(backend: str) -> dict[str, Any]:
    """Name of a fault -> what is found of it, and of its healthy partner."""
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, str(HELPERS / "backend_faults.py")],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(FAULTS), done.stderr[-2000:]
    return {name: (fault, healthy) for name, fault, healthy in lines}


@pytest.mark.slow  # a minute for each backend
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_planted_fault_is_found_and_named_on_each_backend(backend: str, fault: str) -> None:
    phase, cause = FAULTS[fault]
    found, healthy = told(backend)[fault]
    assert healthy == ["EQUIVALENT", "", []]
    assert found == ["DIFFERENT", phase, [cause] if cause else []]


def test_what_is_asked_of_jax_by_name_stays_in_float64() -> None:
    pytest.importorskip("jax")
    code = """
import jax, keras, numpy as np
import jax.numpy as jnp
from xcheck.frameworks.keras.patches.precision import float64_throughout, layer_of
from xcheck.records.islands import Islands

x = np.random.default_rng(0).standard_normal((2, 5, 3, 4))
s = np.einsum("btnh,bsnh->bnts", x, x) / 2
p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)
compiled = jax.jit(lambda x: x.astype(jnp.float32) / 3 + jnp.asarray(0.1, jnp.float32))
before = compiled(np.float32(x)).dtype, jnp.ones(3).dtype
islands = Islands(layer_of)
with float64_throughout(islands):
    y = keras.ops.dot_product_attention(x, x, x)
    assert np.abs(np.asarray(y) - np.einsum("bnts,bsnh->btnh", p, x)).max() < 1e-14, y
    assert np.abs(np.asarray(compiled(x)) - (x / 3 + 0.1)).max() < 1e-15
    assert np.abs(np.asarray(jax.lax.convert_element_type(x, jnp.float32)) - x).max() == 0
    assert jax.random.normal(jax.random.key(0), (2,), jnp.float32).dtype == "float64"
assert {o for _, o in islands.casts} >= {"astype=float32", "asarray=float32"}, islands.casts
assert before == (compiled(np.float32(x)).dtype, jnp.ones(3).dtype) == ("float32", "float32")
assert not jax.config.jax_enable_x64
"""
    in_process("jax", code)


def in_process(backend: str, code: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    environment |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_model_that_does_not_hand_training_on_is_called_on_jax_as_its_step_calls_it() -> None:
    """There `stateless_call` runs `call` by itself, and a batch norm inside trains with its running statistics."""
    pytest.importorskip("jax")
    code = """
import keras, numpy as np
from xcheck.frameworks.keras.patches.as_trained import called

class Model(keras.Model):
    def __init__(self, hands_on):
        super().__init__()
        self.norm, self.hands_on = keras.layers.BatchNormalization(), hands_on

    def call(self, x, training=None):
        return self.norm(x, training=training) if self.hands_on else self.norm(x)

x = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(3.0, 2.0, (8, 4)))
for hands_on in (False, True):
    model = Model(hands_on)
    model(x)
    state = [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]
    step, _ = model.stateless_call(*state, x, training=True)
    here = called(model, x, training=True)
    assert np.allclose(step, here, rtol=1e-5), hands_on
    assert (abs(np.mean(here)) < 0.1) == hands_on
"""
    in_process("jax", code)


def test_a_convolution_with_one_filter_has_its_gradient_in_float64_on_pytorch() -> None:
    code = """
import keras, torch
from xcheck.frameworks.keras.patches.precision import float64_throughout

def gradient():
    layer = keras.layers.Conv2D(1, 3, dtype="float64")
    x = torch.randn(2, 8, 8, 3, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    return x.grad

with float64_throughout():
    assert gradient().shape == (2, 8, 8, 3)
try:
    gradient()
except RuntimeError as error:  # once this is mended in PyTorch, the interception can go
    assert "must be contiguous" in str(error)
else:
    raise AssertionError("PyTorch has this gradient by now")
"""
    in_process("torch", code)
