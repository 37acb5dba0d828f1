"""Tables that depend on no input, used in several places: another one is the cause, and its numbers are read off it."""

from __future__ import annotations

from typing import Any

from matching_models import WIDTH, keras_model, pair, run, sequences, torch_model

LENGTH, HALF = 5, WIDTH // 2


def attended(turn: Any, product: Any, softmax: Any) -> Any:
    def call(model: Any, x: Any) -> Any:
        q, k = turn(model.q(x)), turn(model.k(x))
        return product("bqk,bkd->bqd", softmax(product("bqd,bkd->bqk", q, k)), model.v(x))

    return call


def rotary(keras_base: float, factor: float = 1.0) -> Any:
    """Attention with rotary positions; `factor`: of the turned half on the Keras side."""

    def forward(model: Any, x: Any) -> Any:
        import torch

        def turn(q: Any) -> Any:
            speed = 100.0 ** (-torch.arange(HALF, dtype=q.dtype) / HALF)
            at = torch.outer(torch.arange(LENGTH, dtype=q.dtype), speed).repeat(1, 2)
            return q * at.cos() + torch.cat([-q[..., HALF:], q[..., :HALF]], -1) * at.sin()

        return attended(turn, torch.einsum, lambda s: s.softmax(-1))(model, x)

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        def turn(q: Any) -> Any:
            speed = keras_base ** (-ops.arange(HALF, dtype=q.dtype) / HALF)
            at = ops.tile(ops.outer(ops.arange(LENGTH, dtype=q.dtype), speed), (1, 2))
            turned = ops.concatenate([-q[..., HALF:], q[..., :HALF]], -1)
            return q * ops.cos(at) + factor * turned * ops.sin(at)

        return attended(turn, ops.einsum, lambda s: ops.softmax(s, axis=-1))(model, x)

    torch = torch_model(lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH) for n in "qkv"}, forward)
    keras = keras_model(lambda keras: {n: keras.layers.Dense(WIDTH, name=n) for n in "qkv"}, call)
    weights = {
        f"{n}.{mine}": f"m/{n}/{theirs}" for n in "qkv" for mine, theirs in (("weight", "kernel"), ("bias", "bias"))
    }
    return pair(torch, keras, sequences, weight_map=weights)


def test_another_base_of_rotary_angles_is_the_cause_with_its_numbers():
    result = run(rotary(1000.0))
    (cause,) = result.causes
    assert (cause.id, cause.confirmed) == ("other_table", True)
    assert cause.summary == "the base of the rotary angles is 100 in torch and 1000 in keras"
    assert (result.first_divergence.torch, result.first_divergence.keras) == (cause.torch, cause.keras)
    assert cause.torch.endswith("cos")


def test_it_is_not_where_the_tables_are_the_same_and_used_otherwise():
    assert "other_table" not in [c.id for c in run(rotary(100.0, factor=0.5)).causes]
