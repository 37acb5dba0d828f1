"""Where the gradients part though all that is computed agrees: at which calls, and what is passed back there."""

from __future__ import annotations

from typing import Any

import pytest
from matching_models import pair, run, vectors

import xcheck


def torch_net(detached: bool = False) -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(8, 12)
            self.norm = nn.LayerNorm(12)
            self.act = nn.GELU()
            self.down = nn.Linear(12, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.norm(self.up(x))
            h = self.down(self.act(h.detach() if detached else h))
            return self.head(torch.tanh(h + x))

    return Net()


def keras_net(passed: str) -> Any:
    """With an operation after the norm that gives what it takes, and passes something else back."""
    import keras
    from keras import layers, ops

    class Passes(layers.Layer):
        def call(self, x: Any) -> Any:
            if passed == "nothing":
                return ops.stop_gradient(x)

            @ops.custom_gradient
            def limited(value: Any) -> Any:
                if passed == "noise":
                    return 1.0 * value, lambda upstream: upstream + ops.sin(100.0 * upstream)
                if passed == "half":
                    return 1.0 * value, lambda upstream: 0.5 * upstream
                return 1.0 * value, lambda upstream: ops.clip(upstream, -0.01, 0.01)

            return limited(x)

    inputs = keras.Input((8,))
    h = layers.LayerNormalization(epsilon=1e-5, name="b")(layers.Dense(12, name="a")(inputs))
    if passed != "all":
        h = Passes(name="own")(h)
    h = layers.Dense(8, name="d")(layers.Activation("gelu", name="c")(h))
    return keras.Model(inputs, layers.Dense(3, name="e")(ops.tanh(h + inputs)))


def checked(passed: str, reference: str = "torch") -> xcheck.Result:
    return run(pair(torch_net, lambda: keras_net(passed), batches=vectors, reference=reference))


def test_gradients_that_agree_are_not_looked_into():
    result = checked("all")
    assert result.verdict == "EQUIVALENT", result.report()
    assert "explain" not in result.timings


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize(
    ("passed", "cause", "words"),
    [
        ("nothing", "stopped_gradient", "stops the gradient at own: stop_gradient"),
        ("half", "scaled_gradient", "keras passes on 0.5 times what torch does"),
        ("clipped", "clipped_gradient", "at most 0.01 of what"),
    ],
)
def test_the_call_that_passes_something_else_back_is_found(passed, cause, words, reference):
    result = checked(passed, reference)
    found = result.first_divergence
    assert found is not None
    assert all(c.verdict == "EQUIVALENT" for c in result.checks if c.phase in ("forward", "loss"))
    assert (found.phase, found.torch) == ("gradient", "act"), result.report()
    assert found.keras is not None
    assert found.keras.startswith("own"), result.report()
    assert found.local_error is not None
    assert found.allowed is not None
    assert found.local_error > 1e6 * found.allowed
    assert "gradients of torch act" in found.agreed
    assert [(c.id, c.confirmed) for c in result.causes] == [(cause, True)], result.report()
    assert words in result.causes[0].summary


def test_a_value_that_torch_detaches_is_found_where_it_is():
    result = run(pair(lambda: torch_net(detached=True), lambda: keras_net("all"), batches=vectors))
    found = result.first_divergence
    assert found is not None
    assert (found.phase, found.torch, found.keras) == ("gradient", "(the model): detach", "c"), result.report()
    assert [(c.id, c.confirmed) for c in result.causes] == [("stopped_gradient", True)], result.report()


def test_no_cause_is_confirmed_where_something_else_is_passed_back():
    result = checked("noise")
    assert result.first_divergence is not None
    assert result.first_divergence.torch == "act"
    assert [c for c in result.causes if c.confirmed] == []
