"""What the layers of transformers bring: fused and split heads, longer tables, heads that are not compared."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matching_models import WIDTH, keras_model, matched, pair, run, sequences, torch_model

import xcheck
from xcheck.matching.matcher import Matcher

pytestmark = pytest.mark.slow

HEADS, SIZE = 2, WIDTH // 2


def open_checks(result: xcheck.Result) -> dict[str, str]:
    return {c.name: c.detail for c in result.checks if c.verdict != "EQUIVALENT"}


def tokens(seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.integers(0, 9, (3, 5)))


def torch_attended(torch: Any, q: Any, k: Any, v: Any) -> Any:
    """(B, L, heads, size) three times -> (B, L, heads * size)."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / SIZE**0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)


def keras_attended(q: Any, k: Any, v: Any) -> Any:
    from keras import ops

    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) / SIZE**0.5, axis=-1)
    return ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, 5, WIDTH))


def fused(by_head: bool, scale: float = 1.0) -> Any:
    def forward(model: Any, x: Any) -> Any:
        import torch

        made = model.qkv(x)
        parts = (HEADS, 3, SIZE) if by_head else (3, HEADS, SIZE)
        q, k, v = made.unflatten(-1, parts).unbind(-2 if by_head else -3)
        return model.dense(torch_attended(torch, scale * q, k, v)) + x

    return torch_model(
        lambda torch: {"qkv": torch.nn.Linear(WIDTH, 3 * WIDTH), "dense": torch.nn.Linear(WIDTH, WIDTH)}, forward
    )


def split(order: str, equation: str = "bli,ihd->blhd", bias: str | None = "hd") -> Any:
    def make(keras: Any) -> dict[str, Any]:
        made = {
            n: keras.layers.EinsumDense(
                equation, (None, HEADS, SIZE), bias_axes=bias, name=n, bias_initializer="normal"
            )
            for n in "qkv"
        }
        return {**made, "out": keras.layers.Dense(WIDTH, name="out")}

    def call(model: Any, x: Any) -> Any:
        made = {n: getattr(model, n)(x) for n in order}
        return model.out(keras_attended(made["q"], made["k"], made["v"])) + x

    return keras_model(make, call)


@pytest.mark.parametrize(("by_head", "order"), [(True, "qkv"), (True, "vkq"), (False, "kqv")])
def test_one_layer_for_query_key_and_value_is_split_by_block_or_by_head(by_head, order):
    result = run(pair(fused(by_head), split(order), sequences))
    assert result.verdict == "EQUIVALENT", result.report()
    every = SIZE * 3 if by_head else None
    starts = [0, SIZE, 2 * SIZE] if by_head else [0, WIDTH, 2 * WIDTH]
    step, of = (SIZE, f" of {every}") if by_head else (WIDTH, "")
    found = matched(result)
    assert {found[f"qkv.weight[{s}:{s + step}{of}]"] for s in starts} == {f"m/{n}/kernel" for n in "qkv"}
    assert found[f"qkv.weight[{starts[1]}:{starts[1] + step}{of}]"] == "m/k/kernel"
    assert found["dense.weight"] == "m/out/kernel"


def blocks_in_keras() -> Any:
    def call(model: Any, x: Any) -> Any:
        from keras import ops

        q, k, v = (ops.reshape(t, (-1, 5, HEADS, SIZE)) for t in ops.split(model.qkv(x), 3, axis=-1))
        return model.dense(keras_attended(q, k, v)) + x

    return keras_model(
        lambda keras: {n: keras.layers.Dense(w, name=n) for n, w in (("qkv", 3 * WIDTH), ("dense", WIDTH))}, call
    )


def test_a_port_that_takes_fused_heads_for_blocks_is_found():
    """The same shapes, another order of elements: Linear and Dense promise one layout, and no other is taken."""
    wrong = pair(fused(by_head=True), blocks_in_keras(), sequences)
    result = run(wrong)
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward"), result.report()
    assert (result.first_divergence.torch, result.first_divergence.keras) == ("qkv", "m/qkv")
    (cause,) = result.causes
    assert (cause.id, cause.confirmed) == ("permuted_axes", True)
    assert f"(a={HEADS} b=3 c) in torch" in cause.summary
    (layouts,) = re.findall(r"weight_map=(.*)", cause.fix)
    mended = run(replace(wrong, weight_map=ast.literal_eval(layouts)))
    assert mended.verdict == "EQUIVALENT", mended.report()


def test_a_wrong_scale_behind_fused_heads_is_not_blamed_on_their_order():
    result = run(pair(fused(by_head=False, scale=2.0), blocks_in_keras(), sequences))
    assert result.verdict == "DIFFERENT", result.report()
    assert "permuted_axes" not in {cause.id for cause in result.causes}


def test_heads_may_come_first_in_a_kernel():
    def forward(model: Any, x: Any) -> Any:
        import torch

        q, k, v = (getattr(model, n)(x).unflatten(-1, (HEADS, SIZE)) for n in "qkv")
        return model.out(torch_attended(torch, q, k, v)) + x

    torch = torch_model(
        lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH, bias=n == "out") for n in ("q", "k", "v", "out")}, forward
    )
    result = run(pair(torch, split("vkq", "bli,hid->blhd", bias=None), sequences))
    assert result.verdict == "EQUIVALENT", result.report()
    assert {c.detail for c in result.checks if c.name in ("q.weight", "k.weight")} >= {"heads_first, by value"}


def table(rows: int, start: int) -> Any:
    def forward(model: Any, x: Any) -> Any:
        import torch

        return model.out(model.word(x) + model.pos(torch.arange(start, start + 5)))

    return torch_model(
        lambda torch: {
            "word": torch.nn.Embedding(9, WIDTH),
            "pos": torch.nn.Embedding(rows, WIDTH),
            "out": torch.nn.Linear(WIDTH, 3),
        },
        forward,
    )


def keras_table(rows: int, start: int) -> Any:
    def call(model: Any, x: Any) -> Any:
        from keras import ops

        return model.out(model.word(x) + model.pos(ops.arange(start, start + 5)))

    return keras_model(
        lambda keras: {
            "word": keras.layers.Embedding(9, WIDTH, name="word"),
            "pos": keras.layers.Embedding(rows, WIDTH, name="pos"),
            "out": keras.layers.Dense(3, name="out"),
        },
        call,
    )


def test_a_longer_table_is_matched_where_it_is_used():
    made = pair(table(8, 2), keras_table(6, 0), tokens)
    result = run(made)
    assert matched(result)["pos.weight[2:8]"] == "m/pos/embeddings"
    assert result.verdict == "EQUIVALENT", result.report()  # no input reads the first two rows
    assert result.coverage["parameters"]["unused"] == 1
    waived = pair(table(8, 2), keras_table(6, 0), tokens, weight_map={"pos.weight[0:2]": xcheck.waive("never used")})
    assert run(waived).verdict == "EQUIVALENT", run(waived).report()


def test_the_last_rows_of_a_longer_table_stay_open_since_longer_inputs_may_read_them():
    result = run(pair(table(8, 0), keras_table(6, 0), tokens))
    assert result.verdict == "INCONCLUSIVE"
    (only,) = open_checks(result).items()
    assert only[0] == "pos.weight"
    assert 'weight_map={"pos.weight[6:8]": xcheck.waive("why")}' in only[1]


def test_the_longer_table_may_be_that_of_the_port():
    waived = pair(table(6, 0), keras_table(8, 0), tokens, weight_map={"m/pos/embeddings[6:8]": xcheck.waive("filler")})
    result = run(waived)
    assert result.verdict == "EQUIVALENT", result.report()
    assert matched(result)["pos.weight"] == "m/pos/embeddings[0:6]"


def test_a_table_that_is_read_from_another_row_is_found():
    result = run(pair(table(8, 2), keras_table(8, 0), tokens))
    assert result.verdict == "DIFFERENT", result.report()


def test_what_only_an_output_needs_that_is_not_compared_keeps_no_step_from_being_made():
    torch = torch_model(lambda torch: {"a": torch.nn.Linear(WIDTH, WIDTH)}, lambda m, x: m.a(x))
    keras = keras_model(
        lambda keras: {n: keras.layers.Dense(WIDTH, name=n) for n in ("a", "pooled")},
        lambda m, x: {"main": m.a(x), "pooled": m.pooled(m.a(x))},
    )
    made = pair(torch, keras)
    made = xcheck.Pair("p", made.torch, xcheck.KerasSide(keras, outputs=lambda raw: raw["main"]), made.batches)
    result = run(made)
    assert result.verdict == "EQUIVALENT", result.report()
    unused = {c.name for c in result.checks if c.detail.startswith("unused: it has no counterpart")}
    assert unused == {"m/pooled/kernel", "m/pooled/bias"}
    assert result.coverage["gradients"]["compared"] == 2


def test_a_layer_whose_settings_cannot_be_asked_for_is_run_all_the_same():
    def make(keras: Any) -> dict[str, Any]:
        class Broken(keras.layers.Dense):
            def get_config(self) -> Any:
                return {"units": self.no_such_thing}

        return {"a": Broken(WIDTH, name="a")}

    torch = torch_model(lambda torch: {"a": torch.nn.Linear(WIDTH, WIDTH)}, lambda m, x: m.a(x))
    assert run(pair(torch, keras_model(make, lambda m, x: m.a(x)))).verdict == "EQUIVALENT"


def parallel(torch_act: str, keras_act: str, width: int) -> xcheck.Pair:
    """Two norms of one input, each before a layer of its own."""

    def forward(model: Any, x: Any) -> Any:
        import torch

        act = getattr(torch, torch_act)
        return model.out(torch.cat([act(model.one(model.n1(x))), act(model.two(model.n2(x)))], -1))

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        act = getattr(ops, keras_act)
        return model.out(ops.concatenate([act(model.b(model.y(x))), act(model.a(model.x(x)))][::-1], -1))

    torch = torch_model(
        lambda torch: {
            **{n: torch.nn.LayerNorm(WIDTH, eps=1e-3) for n in ("n1", "n2")},
            "one": torch.nn.Linear(WIDTH, WIDTH),
            "two": torch.nn.Linear(WIDTH, width),
            "out": torch.nn.Linear(WIDTH + width, 3),
        },
        forward,
    )
    keras = keras_model(
        lambda keras: {
            **{n: keras.layers.LayerNormalization(name=n) for n in ("x", "y")},
            "a": keras.layers.Dense(WIDTH, name="a"),
            "b": keras.layers.Dense(width, name="b"),
            "out": keras.layers.Dense(3, name="out"),
        },
        call,
    )
    return pair(torch, keras, sequences)


def test_norms_of_one_input_are_told_apart_by_the_layers_behind_them():
    result = run(parallel("tanh", "relu", WIDTH + 1))
    assert result.verdict == "DIFFERENT"
    assert not [c.detail for c in result.checks if c.name.startswith("match of ")], result.report()
    assert matched(result)["n1.weight"] == "m/x/gamma"


def test_they_are_not_where_those_layers_are_alike():
    result = run(parallel("tanh", "relu", WIDTH))
    assert result.verdict == "DIFFERENT"
    found = matched(result)
    assert found["n1.weight"] == "m/x/gamma" or [c for c in result.checks if c.name.startswith("match of ")]


def test_dropout_in_another_number_of_places_says_where_it_is_more():
    torch = torch_model(
        lambda torch: {"a": torch.nn.Linear(WIDTH, WIDTH), "d": torch.nn.Dropout(0.5)}, lambda m, x: m.d(m.a(m.d(x)))
    )

    def keras() -> Any:
        import keras

        return keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(WIDTH), keras.layers.Dropout(0.5)])

    result = run(pair(torch, keras))
    assert result.verdict == "DIFFERENT"
    assert "torch drops out 2 times at 0.5; keras drops out 1 times at 0.5" in open_checks(result)["dropout rates"]
    (cause,) = result.causes
    assert (cause.id, cause.torch, cause.keras, cause.confirmed) == ("dropout_missing", "d", None, True)
    assert "applies dropout to its input: 0.5 in torch and 0 in keras" in cause.summary


def test_dropout_within_an_attention_that_is_one_function_is_found_on_the_other_side():
    """Beside an activation that differs; PyTorch does not drop what the attention gives."""

    def forward(model: Any, x: Any) -> Any:
        import torch

        q, k, v = (getattr(model, n)(x)[:, None] for n in "qkv")
        rate = 0.25 if model.training else 0.0
        made = torch.nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)[:, 0]
        return torch.nn.functional.silu(model.out(made))

    def make(keras: Any) -> dict[str, Any]:
        kept = {n: keras.layers.Dense(WIDTH, name=n) for n in ("q", "k", "v", "out")}
        return {**kept, "inner": keras.layers.Dropout(0.25, name="inner"), "after": keras.layers.Dropout(0.25)}

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        q, k, v = (getattr(model, n)(x) for n in "qkv")
        scores = ops.softmax(ops.einsum("bqd,bkd->bqk", q, k) / WIDTH**0.5, axis=-1)
        return ops.gelu(model.out(model.after(ops.einsum("bqk,bkd->bqd", model.inner(scores), v))))

    torch = torch_model(lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH) for n in ("q", "k", "v", "out")}, forward)
    result = run(pair(torch, keras_model(make, call), sequences))
    told = [(c.id, c.torch, c.keras, c.evidence.get("places")) for c in result.causes]
    assert told[0][0] == "activation"
    assert told[1:] == [("dropout_missing", None, "dropout", 1)]


def test_layers_that_are_alike_are_told_apart_before_an_activation_that_nearly_is_the_same():
    """Two gated layers, of which gelu is exact on one side and by tanh on the other: one order comes close."""

    def forward(model: Any, x: Any) -> Any:
        import torch

        x = x + model.out(torch.nn.functional.gelu(model.w0(x)) * model.w1(x))
        return x + model.out2(torch.nn.functional.gelu(model.w2(x)) * model.w3(x))

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        def gate(up: Any, down: Any, x: Any) -> Any:
            first = down(x)
            return ops.gelu(up(x), approximate=True) * first

        x = x + model.out(gate(model.b, model.a, x))
        return x + model.out2(gate(model.d, model.c, x))

    torch = torch_model(
        lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH) for n in ("w0", "w1", "out", "w2", "w3", "out2")}, forward
    )
    keras = keras_model(
        lambda keras: {n: keras.layers.Dense(WIDTH, name=n) for n in ("a", "b", "out", "c", "d", "out2")}, call
    )
    result = run(pair(torch, keras, sequences))
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward")
    found = matched(result)
    assert [found[f"w{i}.weight"] for i in range(4)] == [f"m/{n}/kernel" for n in "badc"]
    assert not [c.detail for c in result.checks if c.name.startswith("match of ")], result.report()


def test_what_comes_behind_an_activation_that_nearly_is_the_same_is_settled_by_value(monkeypatch):
    """The order of query, key and value is, and little of it is tried."""
    looks: list[int] = []
    look = Matcher.look
    monkeypatch.setattr(Matcher, "look", lambda self: looks.append(1) or look(self))

    def forward(model: Any, x: Any) -> Any:
        import torch

        x = torch.nn.functional.gelu(model.up(x)) ** 9  # so that what is nearly the same is so no more
        q, k, v = (getattr(model, n)(x).unflatten(-1, (HEADS, SIZE)) for n in "qkv")
        return model.out(torch_attended(torch, q, k, v)) + x

    def make(keras: Any) -> dict[str, Any]:
        up = keras.layers.Dense(WIDTH, activation=lambda x: keras.ops.gelu(x, approximate=True), name="up")
        return {"up": up, **{n: keras.layers.Dense(WIDTH, name=n) for n in ("a", "b", "c", "out")}}

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        x = model.up(x) ** 9
        v, k, q = (ops.reshape(getattr(model, n)(x), (-1, 5, HEADS, SIZE)) for n in "abc")
        return model.out(keras_attended(q, k, v)) + x

    names = ("up", "q", "k", "v", "out")
    torch = torch_model(lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH) for n in names}, forward)
    result = run(pair(torch, keras_model(make, call), sequences))
    assert [(c.id, c.confirmed) for c in result.causes] == [("activation", True)]
    found = matched(result)
    assert [found[f"{n}.weight"] for n in names] == [f"m/{n}/kernel" for n in ("up", "c", "b", "a", "out")]
    assert "matched without a map: 10 by value, 0 only by structure" in result.notes
    assert len(looks) <= 10


@pytest.mark.parametrize("order", ["qkv", "kvq"])
def test_three_layers_may_be_one_beside_a_fourth_of_the_same_shape(order):
    def forward(model: Any, x: Any) -> Any:
        import torch

        q, k, v = (getattr(model, n)(x).unflatten(-1, (HEADS, SIZE)) for n in "qkv")
        return model.out(torch_attended(torch, q, k, v)) + x

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        parts = dict(zip(order, ops.split(model.qkv(x), 3, axis=-1), strict=True))
        q, k, v = (ops.reshape(parts[n], (-1, 5, HEADS, SIZE)) for n in "qkv")
        return model.proj(keras_attended(q, k, v)) + x

    torch = torch_model(lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH) for n in ("q", "k", "v", "out")}, forward)
    keras = keras_model(
        lambda keras: {n: keras.layers.Dense(w, name=n) for n, w in (("qkv", 3 * WIDTH), ("proj", WIDTH))}, call
    )
    result = run(pair(torch, keras, sequences))
    assert result.verdict == "EQUIVALENT", result.report()
    at = order.index("q") * WIDTH
    assert matched(result)["q.weight"] == f"m/qkv/kernel[:, {at}:{at + WIDTH}]"


def test_a_norm_of_an_input_with_other_axes_is_explained_all_the_same():
    torch = torch_model(
        lambda torch: {"n": torch.nn.LayerNorm(WIDTH, eps=1e-2), "a": torch.nn.Linear(WIDTH, 3)},
        lambda m, x: m.a(m.n(x.flatten(0, 1)).unflatten(0, x.shape[:2])),
    )
    keras = keras_model(
        lambda keras: {"n": keras.layers.LayerNormalization(name="n"), "a": keras.layers.Dense(3, name="a")},
        lambda m, x: m.a(m.n(x)),
    )
    result = run(pair(torch, keras, sequences))
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.torch == "n"


def test_what_a_parameter_without_a_counterpart_does_is_said():
    torch = torch_model(
        lambda torch: {"table": torch.nn.Embedding(9, WIDTH), "kind": torch.nn.Embedding(1, WIDTH)},
        lambda m, x: m.table(x) + m.kind(x * 0),
    )
    keras = keras_model(lambda keras: {"table": keras.layers.Embedding(9, WIDTH)}, lambda m, x: m.table(x))
    result = run(pair(torch, keras, tokens))
    assert result.verdict == "DIFFERENT"
    assert open_checks(result)["kind.weight"] == (
        "no counterpart on the keras side; used by kind: embedding, which returns the same 8 numbers at every "
        "position, an input of (the model): add together with the output of table: embedding; "
        'weight_map={"kind.weight": "PATH"} '
        'with its Keras path, or, to leave it out, {"kind.weight": xcheck.waive("why")}'
    )


def test_a_frozen_table_that_the_port_makes_by_itself_keeps_no_step_from_being_made():
    waves = np.sin(np.arange(5 * WIDTH).reshape(5, WIDTH) ** 1.5)

    def make(torch: Any) -> dict[str, Any]:
        return {
            "dense": torch.nn.Linear(WIDTH, WIDTH),
            "waves": torch.nn.Parameter(torch.tensor(waves, dtype=torch.float32), requires_grad=False),
        }

    torch = torch_model(make, lambda m, x: m.dense(x + m.waves))
    table = np.asarray(waves, "float32")
    keras = keras_model(lambda keras: {"d": keras.layers.Dense(WIDTH, name="d")}, lambda m, x: m.d(x + table))
    result = run(pair(torch, keras, sequences))
    assert result.verdict == "INCONCLUSIVE", result.report()
    assert "it is not trained" in open_checks(result)["waves"]
    assert {c.verdict for c in result.checks if c.phase == "update"} == {"EQUIVALENT"}
