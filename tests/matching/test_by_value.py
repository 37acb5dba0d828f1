"""Matching without a map: every parameter finds its counterpart, and what values cannot tell apart is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matching_models import WIDTH, keras_model, matched, pair, run, sequences, torch_model

import xcheck
from xcheck.matching.search import Repairs


def linears(torch: Any, *names: str) -> dict[str, Any]:
    return {name: torch.nn.Linear(WIDTH, WIDTH) for name in names}


def denses(keras: Any, *names: str, **options: Any) -> dict[str, Any]:
    return {name: keras.layers.Dense(WIDTH, name=name, **options) for name in names}


def tanh(x: Any) -> Any:
    """Of either framework."""
    if hasattr(x, "tanh"):
        return x.tanh()
    import keras

    return keras.ops.tanh(x)


def chain(*names: str) -> Any:
    """Calls layers one after the other."""

    def forward(model: Any, x: Any) -> Any:
        for name in names[:-1]:
            x = tanh(getattr(model, name)(x))
        return getattr(model, names[-1])(x)

    return forward


def torch_chain(*names: str) -> Any:
    return torch_model(lambda torch: linears(torch, *names), chain(*names))


def keras_chain(*names: str, made: tuple[str, ...] | None = None) -> Any:
    return keras_model(lambda keras: denses(keras, *(made or dict.fromkeys(names))), chain(*names))


def torch_attention(model: Any, x: Any) -> Any:
    q, k, v = model.q(x), model.k(x), model.v(x)
    return model.o((q @ k.transpose(1, 2) / WIDTH**0.5).softmax(-1) @ v)


def keras_attention(q: str, k: str, v: str, o: str, order: tuple[str, ...] = ()) -> Any:
    """Attention whose layers have these names and are called in this order."""

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        made = {name: getattr(model, name)(x) for name in order or (q, k, v)}
        scores = ops.softmax(ops.matmul(made[q], ops.swapaxes(made[k], 1, 2)) / WIDTH**0.5, axis=-1)
        return getattr(model, o)(ops.matmul(scores, made[v]))

    return keras_model(lambda keras: denses(keras, q, k, v, o), call)


ATTENTION = torch_model(lambda torch: linears(torch, "q", "k", "v", "o"), torch_attention)


def weights(result: xcheck.Result) -> dict[str, str]:
    return {t: k for t, k in matched(result).items() if not t.endswith("bias")}


def doubts(result: xcheck.Result) -> list[str]:
    return [c.detail for c in result.checks if c.name.startswith("match of ")]


def test_layers_in_a_row_are_matched_by_their_order_of_use_and_not_of_creation():
    made = pair(torch_chain("a", "b", "c"), keras_chain("one", "two", "three", made=("three", "one", "two")))
    result = run(made)
    assert result.verdict == "EQUIVALENT", result.report()
    assert weights(result) == {"a.weight": "m/one/kernel", "b.weight": "m/two/kernel", "c.weight": "m/three/kernel"}
    assert "matched without a map: 6 by value, 0 only by structure" in result.notes


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_query_key_and_value_are_told_apart_by_what_comes_of_them(reference):
    keras = keras_attention("l2", "l1", "l3", "l4", order=("l3", "l1", "l2"))
    result = run(pair(ATTENTION, keras, sequences, reference=reference))
    assert result.verdict in ("EQUIVALENT", "INCONCLUSIVE"), result.report()
    found = {"q.weight": "m/l2/kernel", "k.weight": "m/l1/kernel", "v.weight": "m/l3/kernel", "o.weight": "m/l4/kernel"}
    assert weights(result) == found
    assert doubts(result) == []


@pytest.mark.parametrize("different", ["an activation", "a layer of several kernels"])
def test_they_are_told_apart_behind_a_difference_too(different, monkeypatch):
    replaced: list[str] = []
    repaired = Repairs.run

    def watched(repairs: Repairs) -> Any:
        look = repaired(repairs)
        replaced.extend(repairs.matcher.forced)
        return look

    monkeypatch.setattr(Repairs, "run", watched)
    whole = different == "a layer of several kernels"

    def forward(model: Any, x: Any) -> Any:
        return torch_attention(model, model.p(x)[0] if whole else tanh(model.p(x)))

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        x = model.p(x) if whole else ops.relu(model.p(x))
        v, k, q = model.l3(x), model.l1(x), model.l2(x)
        scores = ops.softmax(ops.matmul(q, ops.swapaxes(k, 1, 2)) / WIDTH**0.5, axis=-1)
        return model.l4(ops.matmul(scores, v))

    def modules(torch: Any) -> dict[str, Any]:
        gru = {"p": torch.nn.GRU(WIDTH, WIDTH, batch_first=True)} if whole else {}
        return linears(torch, "q", "k", "v", "o", "p") | gru

    def layers(keras: Any) -> dict[str, Any]:
        gru = {"p": keras.layers.GRU(WIDTH, return_sequences=True, reset_after=False, name="p")} if whole else {}
        return denses(keras, "l1", "l2", "l3", "l4", "p") | gru

    result = run(pair(torch_model(modules, forward), keras_model(layers, call), sequences))
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward")
    found = {"q.weight": "m/l2/kernel", "k.weight": "m/l1/kernel", "v.weight": "m/l3/kernel", "o.weight": "m/l4/kernel"}
    assert found.items() <= weights(result).items()
    assert set(replaced) == {"m/p"} if whole else "m/p" not in replaced  # what it makes, whatever is inside of it


@pytest.mark.parametrize("transposed", [False, True])
def test_parameters_of_a_layer_nobody_knows_are_matched_by_value(transposed):
    def torch(torch: Any) -> dict[str, Any]:
        made = {name: torch.nn.Parameter(torch.randn(WIDTH, WIDTH)) for name in ("u", "w")}
        return {**linears(torch, "a"), **made}

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        two = ops.transpose(model.two) if transposed else model.two
        return ops.matmul(ops.tanh(ops.matmul(model.a(x), two)), model.one)

    shapes = dict.fromkeys(("one", "two"), (WIDTH, WIDTH))
    made = pair(
        torch_model(torch, lambda m, x: tanh(m.a(x) @ m.w) @ m.u.T),
        keras_model(lambda keras: denses(keras, "a"), call, shapes),
    )
    result = run(made)
    assert result.verdict == "EQUIVALENT", result.report()
    assert weights(result) == {"a.weight": "m/a/kernel", "u": "m/one", "w": "m/two"}
    layouts = {c.torch: c.detail for c in result.checks if c.phase == "inventory"}
    assert layouts["u"] == "transpose, by value"
    assert layouts["w"] == ("transpose, by value" if transposed else "identity, by value")


def test_a_packed_parameter_of_a_layer_nobody_knows_is_cut_where_the_values_say():
    def forward(model: Any, x: Any) -> Any:
        gate, up = (x @ model.both.T).chunk(2, dim=-1)
        return up * gate.sigmoid()

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        return ops.matmul(x, model.up) * ops.sigmoid(ops.matmul(x, model.gate))

    made = pair(
        torch_model(lambda torch: {"both": torch.nn.Parameter(torch.randn(6, WIDTH))}, forward),
        keras_model(lambda keras: {}, call, {"up": (WIDTH, 3), "gate": (WIDTH, 3)}),
    )
    result = run(made)
    assert result.verdict == "EQUIVALENT", result.report()
    assert weights(result) == {"both[0:3]": "m/gate", "both[3:6]": "m/up"}


def test_a_norm_that_stores_its_scale_less_one_is_found():
    def norm(x: Any, scale: Any) -> Any:
        return x * scale / (x * x).mean(-1, keepdim=True).sqrt()

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        return model.a(x / ops.sqrt(ops.mean(x * x, axis=-1, keepdims=True)) * (1 + model.less))

    made = pair(
        torch_model(
            lambda torch: {**linears(torch, "a"), "scale": torch.nn.Parameter(1 + 0.1 * torch.randn(WIDTH))},
            lambda m, x: m.a(norm(x, m.scale)),
        ),
        keras_model(lambda keras: denses(keras, "a"), call, {"less": (WIDTH,)}),
    )
    result = run(made)
    assert result.verdict == "EQUIVALENT", result.report()
    assert "identity + -1, by value" in {c.detail for c in result.checks if c.torch == "scale"}


def test_a_map_of_one_line_is_kept_and_the_rest_is_matched():
    wrong = {"b.weight": "m/one/kernel"}
    made = pair(torch_chain("a", "b", "c"), keras_chain("one", "two", "three"), weight_map=wrong)
    result = run(made)
    assert result.verdict == "DIFFERENT"  # the map says so
    assert {c.torch: c.keras for c in result.checks if c.phase == "sync"}["b.weight"] == "m/one/kernel"
    right = {"b.weight": "m/two/kernel", "b.bias": "m/two/bias"}
    result = run(pair(torch_chain("a", "b", "c"), keras_chain("one", "two", "three"), weight_map=right))
    assert result.verdict == "EQUIVALENT", result.report()


# Traps: each has the right answer, and none is EQUIVALENT --------------------------------------------------------


def test_trap_two_equal_layers_swapped():
    result = run(pair(torch_chain("a", "b", "c"), keras_chain("b", "a", "c")))
    assert result.verdict == "INCONCLUSIVE", result.report()
    assert weights(result)["a.weight"] == "m/b/kernel"  # which computes the same
    assert len(doubts(result)) == 2
    assert any("the name suggests m/a" in doubt for doubt in doubts(result))


def test_trap_query_and_key_swapped():
    result = run(pair(ATTENTION, keras_attention("k", "q", "v", "o"), sequences))
    assert result.verdict == "INCONCLUSIVE"
    assert ["the name suggests" in d for d in doubts(result)] == [True, True]


def test_trap_a_square_kernel_used_the_other_way_round():
    def make(keras: Any) -> dict[str, Any]:
        class Turned(keras.layers.Dense):
            def call(self, x: Any) -> Any:
                return keras.ops.matmul(x, keras.ops.transpose(self.kernel)) + self.bias

        return {**denses(keras, "a"), "b": Turned(WIDTH, name="b")}

    result = run(pair(torch_chain("a", "b"), keras_model(make, chain("a", "b"))))
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward")
    assert weights(result) == {"a.weight": "m/a/kernel", "b.weight": "m/b/kernel"}


@pytest.mark.parametrize("both", [True, False])
def test_trap_a_layer_that_is_never_used(both):
    torch = torch_model(lambda torch: linears(torch, "a", "b", "never"), chain("a", "b"))

    def make(keras: Any) -> dict[str, Any]:
        made = denses(keras, "a", "b", *(["never"] if both else []))
        for layer in made.values():
            layer.build((None, WIDTH))
        return made

    result = run(pair(torch, keras_model(make, chain("a", "b"))))
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"]["unused"] == 2
    if both:
        assert weights(result)["never.weight"] == "never/kernel"
        assert any(c.torch == "never.weight" and c.detail == "transpose, by structure" for c in result.checks)
    else:
        details = [c.detail for c in result.checks if c.torch == "never.weight"]
        assert details[0].startswith("unused: it has no counterpart")
        assert result.coverage["gradients"]["compared"] > 0  # the steps were run all the same


def test_trap_several_layers_that_are_never_used_are_not_told_apart():
    torch = torch_model(lambda torch: linears(torch, "a", "b", "x", "y"), chain("a", "b"))

    def make(keras: Any) -> dict[str, Any]:
        made = denses(keras, "a", "b", "spare", "other")
        for layer in made.values():
            layer.build((None, WIDTH))
        return made

    result = run(pair(torch, keras_model(make, chain("a", "b"))))
    assert result.verdict == "INCONCLUSIVE"
    assert len(doubts(result)) == 2
    assert "never used, so by value it could be" in doubts(result)[0]


@pytest.mark.parametrize(("torch_names", "keras_names"), [("aa", "ab"), ("ab", "aa")])
def test_trap_one_layer_used_twice_against_two(torch_names, keras_names):
    result = run(pair(torch_chain(*torch_names), keras_chain(*keras_names)))
    assert result.verdict == "DIFFERENT", result.report()
    assert [t.status for t in result.ties] == (["missing"] * 2 if torch_names == "aa" else ["extra"] * 2)


def test_trap_a_layer_is_missing():
    result = run(pair(torch_chain("a", "b", "c"), keras_chain("a", "c")))
    assert result.verdict == "DIFFERENT"  # the follower has all of its own: a step shows what it lacks
    assert not any(c.confirmed for c in result.causes)
    lonely = {c.torch for c in result.checks if c.phase == "inventory" and c.keras is None and c.torch}
    assert lonely == {"b.weight", "b.bias"}


def test_trap_a_bias_is_missing():
    def make(keras: Any) -> dict[str, Any]:
        return {**denses(keras, "a", "c"), **denses(keras, "b", use_bias=False)}

    result = run(pair(torch_chain("a", "b", "c"), keras_model(make, chain("a", "b", "c"))))
    assert result.verdict == "DIFFERENT"
    assert {c.torch for c in result.checks if c.phase == "inventory" and c.keras is None} == {"b.bias"}
    assert [(c.id, c.torch) for c in result.causes if c.confirmed] == [("bias", "b")]


def test_matching_leaves_both_sides_as_they_were():
    made = pair(torch_chain("a", "b"), keras_chain("one", "two"))
    by_value = xcheck.check(made, steps=2, free_steps=0, precision=("float64",))
    names = {c.torch: c.keras for c in by_value.checks if c.phase == "sync"}
    by_map = xcheck.check(
        pair(torch_chain("a", "b"), keras_chain("one", "two"), weight_map=names),
        steps=2, free_steps=0, precision=("float64",),
    )  # fmt: skip
    numbers = [[(c.phase, c.step, c.name, c.error, c.allowed) for c in r.checks] for r in (by_value, by_map)]
    assert numbers[0] == numbers[1]


def test_a_lone_number_and_an_array_of_one_are_trained_alike():
    """A temperature, of shape (1,) on one side and () on the other: its momentum goes over, too."""
    import keras
    import torch

    made = pair(
        torch_model(
            lambda t: {**linears(t, "a"), "heat": t.nn.Parameter(t.full((1,), 1.5))}, lambda m, x: m.a(x) * m.heat
        ),
        keras_model(lambda k: denses(k, "a"), lambda m, x: m.a(x) * m.heat, {"heat": ()}),
    )
    made = replace(
        made,
        torch=replace(made.torch, optimizer=lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        keras=replace(made.keras, optimizer=lambda: keras.optimizers.SGD(0.1, momentum=0.9)),
    )
    result = run(made)
    assert result.verdict == "EQUIVALENT", result.report()


def test_one_head_has_one_layout_whatever_its_name():
    def call(model, x):
        return model.mha(x, x)

    def torch_call(model, x):
        q, kv = model.q(x), model.kv(x)
        k, v = kv.chunk(2, -1)
        return model.o((q @ k.transpose(1, 2) / WIDTH**0.5).softmax(-1) @ v)

    torch = torch_model(lambda t: {**linears(t, "q", "o"), "kv": t.nn.Linear(WIDTH, 2 * WIDTH)}, torch_call)
    keras = keras_model(lambda k: {"mha": k.layers.MultiHeadAttention(1, WIDTH, name="mha")}, call)
    result = run(pair(torch, keras, sequences))
    assert result.verdict == "EQUIVALENT", result.report()


@pytest.mark.parametrize("named", [True, False])
def test_layers_that_are_alike_are_told_apart_by_the_names_of_the_outputs(named):
    """The port has another factor behind one of them, so that nothing that is made of it tells which it is."""

    def torch_call(model, x):
        mean, scale = model.to_mean(x), model.to_scale(x)
        made = {"z": mean + (0.5 * scale).exp()}
        return {**made, "mean": mean, "scale": scale} if named else made["z"]

    def call(model, x):
        from keras import ops

        mean, scale = model.second(x), model.first(x)
        made = {"z": mean + ops.exp(scale)}
        return {**made, "mean": mean, "scale": scale} if named else made["z"]

    torch = torch_model(lambda t: linears(t, "to_mean", "to_scale"), torch_call)
    result = run(pair(torch, keras_model(lambda k: denses(k, "first", "second"), call)))
    assert result.verdict == "DIFFERENT"
    if named:
        assert weights(result) == {"to_mean.weight": "m/second/kernel", "to_scale.weight": "m/first/kernel"}
        assert [(c.id, c.confirmed) for c in result.causes] == [("constant_factor", True)], result.report()
    assert bool(doubts(result)) is not named


def test_a_doubt_about_parameters_of_no_layer_names_them():
    """A square matrix that only a penalty reads: which way round it lies is not seen."""

    def torch_call(model, x):
        return model.only(x) + 0.0 * (model.matrix @ model.matrix.T).sum()

    def call(model, x):
        from keras import ops

        return model.only(x) + 0.0 * ops.sum(ops.matmul(model.matrix, ops.transpose(model.matrix)))

    torch = torch_model(lambda t: {**linears(t, "only"), "matrix": t.nn.Parameter(t.randn(3, 3))}, torch_call)
    keras = keras_model(lambda k: {**denses(k, "only"), "matrix": k.Variable(np.ones((3, 3)), name="matrix")}, call)
    result = run(pair(torch, keras))
    assert [c.name for c in result.checks if c.name.startswith("match of ")] == ["match of matrix"], result.report()


def test_experts_that_are_stacked_on_one_side_and_layers_of_their_own_on_the_other():
    many, wide = 3, 6

    def torch_call(model, x):
        import torch

        hidden = torch.tanh(torch.einsum("bd,edh->beh", x, model.w1) + model.b1)
        made = torch.einsum("beh,ehd->bed", hidden, model.w2) + model.b2
        return (model.gate(x).softmax(-1)[..., None] * made).sum(1)

    def make(t):
        shapes = {"w1": (many, WIDTH, wide), "b1": (many, wide), "w2": (many, wide, WIDTH), "b2": (many, WIDTH)}
        return {name: t.nn.Parameter(t.randn(shape)) for name, shape in shapes.items()} | {
            "gate": t.nn.Linear(WIDTH, many)
        }

    def call(model, x):
        from keras import ops

        share = ops.softmax(model.router(x))
        made = [getattr(model, f"down{e}")(ops.tanh(getattr(model, f"up{e}")(x))) for e in range(many)]
        return sum(share[:, e : e + 1] * made[e] for e in range(many))

    def layers(k):
        ups = {f"up{e}": k.layers.Dense(wide, name=f"up{e}") for e in range(many)}
        downs = {f"down{e}": k.layers.Dense(WIDTH, name=f"down{e}") for e in range(many)}
        return {**ups, **downs, "router": k.layers.Dense(many, name="router")}

    result = run(pair(torch_model(make, torch_call), keras_model(layers, call)))
    assert result.verdict == "EQUIVALENT", result.report()
    assert matched(result)["w2[1]"] == "m/down1/kernel"
