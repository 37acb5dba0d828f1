"""Planted faults in what two places share: each is found where it is, with its name and its cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from fakes import bad
from torch import nn

import xcheck

SIZE = 5


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """Gaussian inputs (8, 5) and targets (8, 5)."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((8, SIZE)), rng.standard_normal((8, SIZE)))


class Twice(nn.Module):
    """One layer in two places, and one of its own."""

    def __init__(self, second=lambda w: w) -> None:
        super().__init__()
        self.shared = nn.Linear(SIZE, SIZE)
        self.head = nn.Linear(SIZE, SIZE)
        self.second = second

    def forward(self, x):
        h = torch.tanh(self.shared(x))
        w, b = self.second(self.shared.weight), self.second(self.shared.bias)
        return self.head(torch.tanh(nn.functional.linear(h, w, b)))


class KerasTwice(keras.Model):
    """The same in Keras; `second` changes how the second place reads the weights, `first` the first one."""

    def __init__(self, second=lambda w: w, first=lambda w: w, **options) -> None:
        super().__init__(name="twice", **options)
        self.shared = keras.layers.Dense(SIZE, name="shared")
        self.head = keras.layers.Dense(SIZE, name="head")
        self.first, self.second = first, second
        self.shared.build((None, SIZE))

    def place(self, x, read):
        kernel, bias = (read(keras.ops.convert_to_tensor(v)) for v in (self.shared.kernel, self.shared.bias))
        return keras.ops.tanh(keras.ops.matmul(x, kernel) + bias)

    def call(self, x):
        return self.head(self.place(self.place(x, self.first), self.second))


MAP = {
    "shared.weight": "shared/kernel",
    "shared.bias": "shared/bias",
    "head.weight": "twice/head/kernel",
    "head.bias": "twice/head/bias",
}


def torch_loss(outputs, targets):
    return (outputs - targets).square().mean()


def keras_loss(targets, outputs):
    return keras.ops.mean(keras.ops.square(outputs - targets))


def twice(build: Any = Twice, build_keras: Any = KerasTwice, torch_parts=None, keras_parts=None, **options):
    torch_side = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), "loss": torch_loss, **(torch_parts or {})}
    keras_side = {"optimizer": lambda: keras.optimizers.SGD(0.1), "loss": keras_loss, **(keras_parts or {})}
    return xcheck.Pair(
        **{
            "name": "twice",
            "torch": xcheck.TorchSide(build, **torch_side),
            "keras": xcheck.KerasSide(build_keras, **keras_side),
            "batches": batches,
            "weight_map": MAP,
            **options,
        }
    )


def checked(pair: xcheck.Pair, steps: int = 2) -> xcheck.Result:
    return xcheck.check(pair, steps=steps, precision=("float64",), free_steps=0)


def cause(result: xcheck.Result) -> xcheck.Cause:
    assert len(result.causes) == 1, result.report()
    assert result.causes[0].confirmed
    assert result.causes[0].fix
    return result.causes[0]


def uses(result: xcheck.Result) -> dict[str, str]:
    return {c.name: c.verdict.value for c in result.checks if c.of_use}


def test_without_a_fault_each_use_is_compared():
    result = checked(twice())
    result.assert_equivalent()
    assert uses(result) == dict.fromkeys(
        [
            "uses of shared.weight sum to its gradient",
            "uses of shared/kernel sum to its gradient",
            "shared.weight via shared (call 1)",
            "shared.weight via (the model) (call 1)",
            "uses of shared.bias sum to its gradient",
            "uses of shared/bias sum to its gradient",
            "shared.bias via shared (call 1)",
            "shared.bias via (the model) (call 1)",
        ],
        "EQUIVALENT",
    )
    assert result.causes == ()


# Uses ------------------------------------------------------------------------------------------------------------


def stopped(w):
    return keras.ops.stop_gradient(w)


def constant(w):
    return keras.ops.convert_to_tensor(keras.ops.convert_to_numpy(w))


def doubled(w):
    return 2 * w - stopped(w)


def halved(w):
    return 0.5 * w + 0.5 * stopped(w)


SECOND = "(the model) (call 1)"


def test_a_use_behind_stop_gradient_is_named():
    result = checked(twice(build_keras=lambda: KerasTwice(second=stopped)))
    assert bad(result)[0] == ("gradient", 1, "shared.weight", "DIFFERENT")
    assert uses(result)[f"shared.weight via {SECOND}"] == "DIFFERENT"
    assert uses(result)["shared.weight via shared (call 1)"] == "EQUIVALENT"
    found = cause(result)
    assert (found.id, found.phase) == ("lost_use", "gradient")
    assert (found.torch, found.keras) == (f"shared.weight via {SECOND}", "shared/kernel")
    assert found.evidence["parameters"] == ["shared/kernel", "shared/bias"]
    assert found.evidence["before"] > 1e-3
    assert found.evidence["after"] < 1e-14
    assert SECOND in found.summary


def test_the_first_use_can_be_the_one_that_is_lost():
    result = checked(twice(build_keras=lambda: KerasTwice(first=stopped)))
    assert cause(result).id == "lost_use"
    assert cause(result).torch == "shared.weight via shared (call 1)"


class OnceMore(keras.layers.Layer):
    """Uses the donor's weights without letting a gradient back."""

    def __init__(self, donor, **options):
        super().__init__(**options)
        self.donor = donor

    def call(self, x):
        kernel, bias = keras.ops.stop_gradient(self.donor.kernel), keras.ops.stop_gradient(self.donor.bias)
        return keras.ops.matmul(x, kernel) + bias


def test_a_layer_that_reads_the_weight_without_its_gradient_is_named():
    def build():
        x = keras.Input((SIZE,))
        shared = keras.layers.Dense(SIZE, name="shared")
        h = keras.ops.tanh(OnceMore(shared, name="again")(keras.ops.tanh(shared(x))))
        return keras.Model(x, keras.layers.Dense(SIZE, name="head")(h))

    plain = {**MAP, "head.weight": "head/kernel", "head.bias": "head/bias"}
    found = cause(checked(twice(build_keras=build, weight_map=plain)))
    assert found.id == "detached_use"
    assert "again (call 1) reads the weight there, but no gradient comes back" in found.summary


@pytest.mark.parametrize("detach", [lambda w: w.detach(), lambda w: w.data, lambda w: w.clone().data])
def test_a_use_that_the_torch_side_detaches_is_named(detach):
    found = cause(checked(twice(lambda: Twice(second=detach))))
    assert (found.id, found.torch) == ("detached_use", "shared.weight")
    assert found.keras == "shared/kernel via (the model) (call 1, use 2)"
    assert found.fix.startswith("torch:")


def test_a_use_that_counts_twice_is_named():
    result = checked(twice(build_keras=lambda: KerasTwice(second=doubled)))
    assert bad(result)[0] == ("gradient", 1, "shared.weight", "DIFFERENT")
    assert (cause(result).id, cause(result).torch) == ("doubled_use", f"shared.weight via {SECOND}")


def test_uses_that_are_averaged_are_named():
    result = checked(twice(build_keras=lambda: KerasTwice(first=halved, second=halved)))
    assert cause(result).id == "averaged_uses"
    assert cause(result).evidence["uses"] == ["shared (call 1)", SECOND]


def test_a_factor_on_every_gradient_is_no_average():
    def scaled(targets, outputs):
        return keras_loss(targets, outputs) / 2

    result = checked(twice(keras_parts={"loss": scaled}))
    assert result.verdict == "DIFFERENT"
    assert [c.id for c in result.causes] == ["loss_formula"]  # it is half the squared error


def test_a_penalty_that_counts_a_tied_weight_twice_is_named():
    def penalty(model):
        return sum(0.01 * w.square().sum() for w in (model.shared.weight, model.shared.weight))

    def build():
        model = KerasTwice()
        model.shared.kernel.regularizer = keras.regularizers.L2(0.01)
        return model

    result = checked(twice(build_keras=build, torch_parts={"penalty": penalty}))
    assert bad(result)[0][0] == "loss"
    found = cause(result)
    assert (found.id, found.torch, found.keras) == ("doubled_use", "shared.weight", "shared/kernel via penalty")
    assert found.fix == "torch: add the use through penalty to the loss once"


def test_a_use_that_is_cut_off_in_part_is_neither_detached_nor_doubled():
    result = checked(twice(build_keras=lambda: KerasTwice(second=lambda w: 0.7 * w + 0.3 * stopped(w))))
    assert result.verdict == "DIFFERENT"
    assert uses(result)[f"shared.weight via {SECOND}"] == "DIFFERENT"
    assert [found.id for found in result.causes] == ["stopped_gradient"]


# Ties ------------------------------------------------------------------------------------------------------------


class TwoModules(nn.Module):
    """Two modules with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(SIZE, SIZE, bias=False), nn.Linear(SIZE, SIZE, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def two_layers(initializer=None, copy=False):
    kinds = {} if initializer is None else {"kernel_initializer": initializer}
    a = keras.layers.Dense(SIZE, use_bias=False, name="a", **kinds)
    b = keras.layers.Dense(SIZE, use_bias=False, name="b", **kinds)
    x = keras.Input((SIZE,))
    model = keras.Model(x, b(keras.ops.tanh(a(x))))
    if copy:
        b.set_weights(a.get_weights())
    return model


AB = {"a.weight": ["a/kernel", "b/kernel"]}


@pytest.mark.parametrize(
    ("build", "status", "name"),
    [
        (lambda: two_layers(copy=True), "equal_but_untied", "equal_but_untied"),
        (lambda: two_layers(keras.initializers.HeNormal(seed=3)), "equal_but_untied", "equal_but_untied"),
        (two_layers, "missing", "tie_missing"),
        (lambda: two_layers("ones"), "missing", "tie_missing"),  # every fresh constant is equal to every other
    ],
)
def test_two_variables_in_the_place_of_one_are_no_tie_even_where_they_are_equal(build, status, name):
    result = checked(twice(TwoModules, build, weight_map=AB), steps=1)
    assert bad(result)[0] == ("inventory", None, "tie of a.weight", "DIFFERENT")
    assert [(t.torch, t.keras, t.status) for t in result.ties] == [
        (("a.weight", "b.weight"), ("a/kernel", "b/kernel"), status)
    ]
    found = next(c for c in result.causes if c.phase == "inventory")
    assert (found.id, found.confirmed) == (name, True)
    assert found.fix.startswith("keras: use the layer itself")
    assert ("equal initial values" in found.summary) == (name == "equal_but_untied")


def test_a_tie_that_only_the_port_has_is_named():
    def build():
        x, dense = keras.Input((SIZE,)), keras.layers.Dense(SIZE, use_bias=False, name="a")
        return keras.Model(x, dense(keras.ops.tanh(dense(x))))

    def untied():
        model = TwoModules()
        model.b.weight = nn.Parameter(model.b.weight.detach().clone())
        return model

    both = {"a.weight": "a/kernel", "b.weight": "a/kernel"}
    result = checked(twice(untied, build, weight_map=both), steps=1)
    assert [t.status for t in result.ties] == ["extra"]
    assert result.causes[0].id == "tie_extra"


def test_variables_that_hold_one_value_are_a_tie_by_effect():
    """Two variable objects over one piece of memory, which no list of the model tells."""

    def build():
        model = two_layers()
        model.get_layer("b").kernel._value = model.get_layer("a").kernel._value
        return model

    result = checked(twice(TwoModules, build, weight_map=AB), steps=1)
    assert [t.status for t in result.ties] == ["same"]


def test_a_step_that_separates_a_tie_is_named_and_ends_the_run():
    def after_step(model):
        model.b.weight = nn.Parameter(model.b.weight.detach().clone())

    def build():
        x, dense = keras.Input((SIZE,)), keras.layers.Dense(SIZE, use_bias=False, name="a")
        return keras.Model(x, dense(keras.ops.tanh(dense(x))))

    pair = twice(TwoModules, build, {"after_step": after_step}, weight_map={"a.weight": "a/kernel"})
    result = checked(pair, steps=3)
    assert bad(result) == [("update", 1, "tie of a.weight", "DIFFERENT")]
    assert result.checks[-1].detail == "the step separated them: a.weight | b.weight"
    assert "the run ended with step 1, which changed what is tied" in result.notes


# The optimizer's side of a tie -----------------------------------------------------------------------------------


def one_dense():
    x, dense = keras.Input((SIZE,)), keras.layers.Dense(SIZE, use_bias=False, name="a")
    return keras.Model(x, dense(keras.ops.tanh(dense(x))))


def tied_late(replace_first: bool):
    """A model and an optimizer that was made before the tie."""
    made: dict[str, Any] = {}

    def build():
        model = TwoModules()
        model.b.weight = nn.Parameter(torch.randn(SIZE, SIZE))
        made["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
        if replace_first:
            model.a.weight = nn.Parameter(torch.randn(SIZE, SIZE))
        model.b.weight = model.a.weight
        return model

    return build, {"optimizer": lambda _: made["optimizer"]}


def test_a_tie_made_after_the_optimizer_leaves_an_orphan_in_it():
    build, parts = tied_late(replace_first=False)
    result = checked(twice(build, one_dense, parts, weight_map={"a.weight": "a/kernel"}))
    assert bad(result) == [("inventory", None, "optimizer of the torch side", "INCONCLUSIVE")]
    assert (cause(result).id, cause(result).phase) == ("optimizer_orphan", "inventory")
    assert cause(result).evidence == {"orphans": [[SIZE, SIZE]], "not_trained": []}


def test_a_weight_that_replaced_the_optimizers_own_is_not_trained():
    build, parts = tied_late(replace_first=True)
    result = checked(twice(build, one_dense, parts, weight_map={"a.weight": "a/kernel"}), steps=1)
    assert bad(result)[:2] == [
        ("inventory", None, "optimizer of a.weight", "DIFFERENT"),
        ("inventory", None, "optimizer of the torch side", "INCONCLUSIVE"),
    ]
    assert ("update", 1, "a.weight", "DIFFERENT") in bad(result)
    assert cause(result).evidence["not_trained"] == ["a.weight"]


def test_a_parameter_that_is_listed_twice_is_named():
    made: list[TwoModules] = []

    def build():
        made.append(TwoModules())
        return made[-1]

    parts = {"optimizer": lambda _: torch.optim.SGD([made[-1].a.weight, made[-1].b.weight], lr=0.1, foreach=False)}
    result = checked(twice(build, one_dense, parts, weight_map={"a.weight": "a/kernel"}), steps=1)
    assert bad(result)[0] == ("inventory", None, "optimizer of a.weight", "DIFFERENT")
    assert ("update", 1, "a.weight", "DIFFERENT") in bad(result)
    found = next(c for c in result.causes if c.phase == "inventory")
    assert (found.id, found.torch, found.evidence) == (
        "parameter_listed_twice",
        "a.weight",
        {"listed": {"a.weight": 2}},
    )


def test_a_keras_optimizer_built_for_other_variables_is_named():
    def build():
        model = one_dense()
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build([keras.Variable(np.zeros((SIZE, SIZE)), name="old"), *model.trainable_variables])
        model.compile(optimizer=optimizer, loss=keras_loss)
        return model

    pair = twice(TwoModules, build, keras_parts={"optimizer": None, "loss": None}, weight_map={"a.weight": "a/kernel"})
    result = checked(pair, steps=1)
    assert ("inventory", None, "optimizer of the keras side", "INCONCLUSIVE") in bad(result)
    assert cause(result).id == "optimizer_orphan"


def test_what_neither_optimizer_has_is_trained_by_neither():
    def optimizer(parameters):
        return torch.optim.SGD(parameters[:2], lr=0.1)

    def build():
        model = KerasTwice()
        model.head.trainable = False
        return model

    found = [c.detail for c in checked(twice(build_keras=build, torch_parts={"optimizer": optimizer})).checks]
    assert not [detail for detail in found if "not in the optimizer" in detail]


# Declared copies -------------------------------------------------------------------------------------------------


class Copied(keras.Model):
    """Two layers that the training step keeps equal.

    Args:
        together: the gradient of one is the sum of both; else each keeps its own part, and the first is copied.
    """

    def __init__(self, together: bool, frozen: bool = False) -> None:
        super().__init__(name="copied")
        self.a, self.b = (keras.layers.Dense(SIZE, use_bias=False, name=name) for name in "ab")
        self.together = together
        self.b.trainable = not frozen

    def call(self, x):
        return self.b(keras.ops.tanh(self.a(x)))

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.compute_loss(data[0], data[1], self(data[0]))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        if self.together:
            gradients = [sum(gradients[1:], gradients[0])] * len(variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.b.kernel.assign(self.a.kernel)
        return {"loss": loss}


COPIES = {"a.weight": xcheck.copies("copied/a/kernel", "copied/b/kernel")}


def test_copies_that_train_as_one_are_equivalent():
    result = checked(twice(TwoModules, lambda: Copied(together=True), weight_map=COPIES))
    result.assert_equivalent()
    assert [t.status for t in result.ties] == ["duplicated"]
    tie = next(c for c in result.checks if c.name == "tie of a.weight")
    assert (tie.verdict, tie.detail) == ("EQUIVALENT", "declared as copies; judged by effect")


@pytest.mark.parametrize("frozen", [True, False])
def test_weights_that_are_copied_after_the_step_learn_from_one_use(frozen):
    result = checked(twice(TwoModules, lambda: Copied(together=False, frozen=frozen), weight_map=COPIES))
    assert bad(result)[0] == ("gradient", 1, "a.weight", "DIFFERENT")
    found = cause(result)
    assert (found.id, found.phase) == ("transferred_copy", "gradient")
    assert found.torch == "a.weight via a (call 1)"
    assert found.keras == "copied/a/kernel = copied/b/kernel"
    assert found.evidence["uses"] == ["a (call 1)", "b (call 1)"]


def test_copies_that_nothing_keeps_equal_have_no_whole_gradient():
    class Plain(Copied):
        train_step = keras.Model.train_step

    result = checked(twice(TwoModules, lambda: Plain(together=False), weight_map=COPIES), steps=1)
    assert bad(result)[0] == ("gradient", 1, "a.weight", "DIFFERENT")
    assert {c.keras for c in result.checks if c.phase == "update" and c.verdict == "DIFFERENT"} == {
        "copied/a/kernel",
        "copied/b/kernel",
    }


def test_a_plain_list_of_paths_is_judged_by_identity():
    paths = {"a.weight": ["copied/a/kernel", "copied/b/kernel"]}
    result = checked(twice(TwoModules, lambda: Copied(together=True), weight_map=paths), steps=1)
    assert bad(result)[0] == ("inventory", None, "tie of a.weight", "DIFFERENT")
