"""A plan is proven or open: like branches, like heads, square weights, and what one side alone has."""

from __future__ import annotations

from typing import Any

import pytest
from matching_models import WIDTH, keras_model, matched, pair, run, torch_model

from xcheck.errors import MatchError
from xcheck.phases.match import match


def tanh(x: Any) -> Any:
    if hasattr(x, "tanh"):
        return x.tanh()
    import keras

    return keras.ops.tanh(x)


def names(lengths: tuple[int, ...]) -> list[str]:
    return [f"l{b}_{n}" for b, length in enumerate(lengths) for n in range(length)]


def sides(lengths: tuple[int, ...], called: Any = None, *, named: bool = False) -> tuple[Any, Any]:
    """Branches of like layers side by side, which are added up, or named: names of layers say nothing.

    Args:
        lengths: layers of each branch.
        called: order in which Keras calls the branches.
        named: what comes of each is an output of its own.
    """

    def forward(order: Any) -> Any:
        def call(model: Any, x: Any) -> Any:
            made: dict[str, Any] = {}
            for b in order:
                y = x
                for n in range(lengths[b]):
                    y = tanh(getattr(model, f"l{b}_{n}")(y))
                made[f"out{b}"] = y * (b + 1.0)
            return made if named else sum(made.values())

        return call

    every = names(lengths)
    torch = torch_model(lambda torch: {n: torch.nn.Linear(WIDTH, WIDTH) for n in every}, forward(range(len(lengths))))
    anon = {n: f"x{chr(97 + 7 * i % 26)}" for i, n in enumerate(every)}
    make = lambda keras: {n: keras.layers.Dense(WIDTH, name=anon[n]) for n in every}  # noqa: E731
    return torch, keras_model(make, forward(called or range(len(lengths))))


@pytest.mark.parametrize(
    ("lengths", "called"), [((1, 2, 3), (2, 0, 1)), ((2, 1), (1, 0)), ((3, 2, 1, 4), (3, 1, 0, 2))]
)
def test_branches_of_other_lengths_are_told_apart_whatever_order_they_run_in(lengths, called):
    result = run(pair(*sides(lengths, called=called)))
    assert result.verdict == "EQUIVALENT", result.report()
    assert any(note.startswith("the match is proven") for note in result.notes)


@pytest.mark.parametrize("called", [(1, 0), (0, 1)])
def test_like_heads_follow_the_names_of_the_outputs(called):
    result = run(pair(*sides((2, 2), called=called, named=True)))
    assert result.verdict == "EQUIVALENT", result.report()


@pytest.mark.parametrize("called", [(1, 0), (0, 1)])
def test_twins_that_only_a_factor_tells_apart_are_told_apart(called):
    plan = match(pair(*sides((1, 1), called=called)))
    assert plan.proven, plan.unproven
    assert [m.evidence for m in plan.parameters] == ["by value"] * 4


def test_what_differs_is_not_proven_and_its_twins_are_not_claimed():
    made, _ = sides((1, 1))
    plan = match(pair(made, keras_model(
        lambda keras: {n: keras.layers.Dense(WIDTH, name=f"d{i}") for i, n in enumerate(names((1, 1)))},
        lambda m, x: tanh(m.l0_0(x)) * 1.5 + tanh(m.l1_0(x)) * 2.5,
    )))  # fmt: skip
    assert plan.proven is False
    assert "rounding explains" in plan.unproven
    assert plan.tried > 0  # the other order was tried, and does not help
    assert "by value" not in {m.evidence for m in plan.parameters}


def test_a_planted_fault_is_no_fault_of_the_matching():
    made, _ = sides((1, 2))

    def call(model: Any, x: Any) -> Any:
        return tanh(model.l0_0(x)) + 2.0 * tanh(0.9 * model.l1_1(tanh(model.l1_0(x))))

    ported = keras_model(lambda keras: {n: keras.layers.Dense(WIDTH, name=n) for n in names((1, 2))}, call)
    result = run(pair(made, ported))
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward")


def weights_in_a_list(sizes: tuple[tuple[int, int], ...]) -> Any:
    def make(torch: Any) -> dict[str, Any]:
        layers = [torch.nn.Linear(i, o) for i, o in sizes]
        return {"weights": torch.nn.ParameterList([p for layer in layers for p in layer.parameters()])}

    def forward(model: Any, x: Any) -> Any:
        import torch

        weights = list(model.weights)
        for n in range(len(sizes)):
            x = torch.tanh(torch.nn.functional.linear(x, weights[2 * n], weights[2 * n + 1]))
        return x

    return torch_model(make, forward)


@pytest.mark.parametrize("sizes", [((8, 8), (8, 8)), ((8, 6), (6, 6), (6, 8)), ((8, 8), (8, 8), (8, 3))])
def test_bare_weights_are_those_of_the_functions_that_take_them(sizes):
    def call(model: Any, x: Any) -> Any:
        for n in range(len(sizes)):
            x = tanh(getattr(model, f"d{n}")(x))
        return x

    ported = keras_model(
        lambda keras: {f"d{n}": keras.layers.Dense(o, name=f"d{n}") for n, (_, o) in enumerate(sizes)}, call
    )
    result = run(pair(weights_in_a_list(sizes), ported))
    assert result.verdict == "EQUIVALENT", result.report()
    assert matched(result)["weights.2"] == "m/d1/kernel"


@pytest.mark.parametrize("kernel", [(3, 3), (3, 5), (1, 3)])
def test_a_port_that_holds_time_before_frequency_exchanges_the_axes_of_its_kernels(kernel):
    shape = (1, 4, 8)  # of the picture, as both make it: channels, frequency, time
    torch = torch_model(
        lambda t: {
            "dense": t.nn.Linear(WIDTH, 32),
            "conv": t.nn.Conv2d(1, 3, kernel, padding="same"),
            "out": t.nn.Linear(3, 2),
        },
        lambda m, x: m.out(m.conv(m.dense(x).reshape(-1, *shape)).relu().flatten(2).max(-1).values),
    )

    def call(model: Any, x: Any) -> Any:
        from keras import ops

        image = ops.transpose(ops.reshape(model.dense(x), (-1, *shape)), (0, 3, 2, 1))
        return model.out(ops.max(ops.relu(model.conv(image)), axis=(1, 2)))

    def make(keras: Any) -> dict[str, Any]:
        conv = keras.layers.Conv2D(3, kernel[::-1], padding="same", name="conv")
        return {"dense": keras.layers.Dense(32, name="dense"), "conv": conv, "out": keras.layers.Dense(2, name="out")}

    plan = match(pair(torch, keras_model(make, call)))
    assert plan.proven, plan.unproven
    assert {m.torch: m.layout.name for m in plan.parameters}["conv.weight"] == "o i x y -> y x i o"


@pytest.mark.parametrize("lone", ["scale", "shift"])
def test_what_the_reference_alone_computes_with_is_the_difference(lone):
    def forward(model: Any, x: Any) -> Any:
        x = model.a(x)
        return model.b((x * model.extra if lone == "scale" else x + model.extra).tanh())

    torch = torch_model(
        lambda t: {n: t.nn.Linear(WIDTH, WIDTH) for n in "ab"} | {"extra": t.nn.Parameter(t.randn(WIDTH))}, forward
    )
    ported = keras_model(
        lambda keras: {n: keras.layers.Dense(WIDTH, name=n) for n in "ab"}, lambda m, x: m.b(tanh(m.a(x)))
    )
    result = run(pair(torch, ported))
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "forward"), result.report()
    assert any("with extra set to a neutral value" in note for note in result.notes)


@pytest.mark.parametrize(("layout", "axes"), [("o (c h w) -> (h w c) o", "c, h, w"), ("o (a b) -> (b a) o", "a, b")])
def test_a_layout_without_sizes_asks_for_them_by_name(layout, axes):
    torch = torch_model(lambda t: {"a": t.nn.Linear(WIDTH, 2)}, lambda m, x: m.a(x))
    ported = keras_model(lambda keras: {"a": keras.layers.Dense(2, name="a")}, lambda m, x: m.a(x))
    with pytest.raises(MatchError, match=f"sizes of the axes {axes} are not determined"):
        match(pair(torch, ported, weight_map={"a.weight": ("m/a/kernel", layout)}))
