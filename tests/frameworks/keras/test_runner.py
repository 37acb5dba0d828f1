"""The Keras runner: inventory by variable, the model's own training step, state that goes in and comes out."""

from __future__ import annotations

from itertools import islice
from typing import Any

import keras
import numpy as np
import pytest
from ports import batches, keras_loss, keras_mlp, mlp

import xcheck
from xcheck.frameworks.keras.patches.precision import float64_throughout
from xcheck.frameworks.keras.runner import KerasRunner
from xcheck.frameworks.keras.variables import inventory


def runner(side: xcheck.KerasSide | None = None, **parts: Any) -> KerasRunner:
    made = KerasRunner(side or mlp(keras=parts).keras, precision="float64", device="cpu", seed=0)
    made.prime(next(batches(0)))
    return made


def test_paths_are_the_same_on_every_build() -> None:
    paths = [[e.path for e in runner().inventory().entries] for _ in range(2)]
    assert paths[0] == paths[1] == [
        "sequential/hidden/kernel",
        "sequential/hidden/bias",
        "sequential/head/kernel",
        "sequential/head/bias",
    ]  # fmt: skip


def test_a_reused_layer_is_one_variable() -> None:
    x = keras.Input((3,))
    shared = keras.layers.Dense(3, name="shared")
    model = keras.Model(x, shared(shared(x)))
    assert [e.path for e in inventory(model).entries] == ["shared/kernel", "shared/bias"]


def test_a_borrowed_variable_is_a_tie() -> None:
    class Borrower(keras.layers.Layer):
        def __init__(self, donor: keras.layers.Dense) -> None:
            super().__init__(name="borrower")
            self.kernel = donor.kernel

        def call(self, x: Any) -> Any:
            return x @ keras.ops.transpose(self.kernel)

    x = keras.Input((3,))
    donor = keras.layers.Dense(4, name="donor")
    model = keras.Model(x, Borrower(donor)(donor(x))) if donor(x) is not None else None
    groups = [g for g in inventory(model).tie_groups() if len(g) > 1]
    assert groups == [("donor/kernel", "borrower/kernel")]


def test_two_layers_of_one_name_keep_two_paths() -> None:
    class Twins(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = keras.layers.Dense(3, name="same"), keras.layers.Dense(3, name="same")

        def call(self, x: Any) -> Any:
            return self.a(self.b(x))

    model = Twins()
    model(np.zeros((1, 3)))
    paths = [e.path for e in inventory(model).entries]
    assert len(set(paths)) == 4
    assert any(p.endswith("#2") for p in paths)


def test_frozen_kernels_are_parameters_and_statistics_are_buffers() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.trainable = False
    by_role = {e.role: e for e in inventory(model).entries}
    assert not by_role["kernel"].buffer
    assert not by_role["kernel"].trainable
    assert by_role["moving_mean"].buffer


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: keras.optimizers.Adam(amsgrad=True),
        lambda: keras.optimizers.RMSprop(centered=True, momentum=0.5),
        lambda: keras.optimizers.Adagrad(),
        lambda: keras.optimizers.Adadelta(),
        lambda: keras.optimizers.Adamax(),
        lambda: keras.optimizers.Nadam(),
        lambda: keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9),
    ],
)
def test_state_written_back_gives_the_same_step_again(optimizer: Any) -> None:
    side, (first, second) = runner(optimizer=optimizer), islice(batches(0), 2)
    side.step(1, first)
    snapshot, state = side.snapshot(), side.read()
    assert state.slots or "SGD" not in type(side.model.optimizer).__name__
    assert not side.unmapped_slots()
    wanted = side.step(2, second)
    side.restore(snapshot)
    side.write(state)
    again = side.step(2, second)
    # The slots pass through canonical units, momentum over its learning rate: one rounding each way.
    for (key, value), (other, got) in zip(wanted.items(), again.items(), strict=True):
        assert key == other
        np.testing.assert_allclose(got, value, rtol=1e-13, atol=1e-16, err_msg=str(key))


def test_penalties_stand_apart_by_variable_and_add_loss_by_order() -> None:
    class Busy(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(keras.ops.mean(x**2))
            return x

    def build() -> keras.Model:
        return keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(3, kernel_regularizer="l2", name="head"), Busy()], name="net"
        )

    record = runner(build=build).step(1, next(batches(0)))
    assert set(record.losses) == {"data", "penalty", "penalty/add_loss_0", "penalty/net/head/kernel", "total"}
    kernel = record.before.parameters["net/head/kernel"]
    assert record.losses["penalty/net/head/kernel"] == pytest.approx(0.01 * (kernel**2).sum(), rel=1e-14)


def test_a_compiled_model_keeps_its_own_training_step() -> None:
    class Doubled(keras.Model):
        def call(self, x: Any) -> Any:
            return 2 * x * self.scale

        def build(self, _: Any) -> None:
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
            return 3 * keras.ops.mean(y_pred**2)

    def build() -> keras.Model:
        model = Doubled(name="doubled")
        model.compile(optimizer=keras.optimizers.SGD(0.5))
        return model

    record = runner(xcheck.KerasSide(build)).step(1, xcheck.Batch(np.ones((2, 6))))
    assert record.losses["total"] == 12.0
    assert record.gradients["doubled/scale"] == 24.0
    assert record.updates()["doubled/scale"] == -12.0


def test_sample_weights_reach_the_loss() -> None:
    weights = np.arange(10.0)
    record = runner(loss="sparse_categorical_crossentropy", prepare=lambda b: (b.inputs, b.targets, weights)).step(
        1, next(batches(0))
    )
    plain = runner(loss="sparse_categorical_crossentropy").step(1, next(batches(0)))
    assert record.losses["data"] != plain.losses["data"]


def test_a_loss_object_made_before_the_run_computes_in_float64() -> None:
    made_in_float32 = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    record = runner(loss=made_in_float32).step(1, next(batches(0)))
    logits, labels = record.outputs["output"], next(batches(0)).targets
    exact = np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(10), labels])
    assert record.losses["data"] == pytest.approx(exact, rel=1e-14)


def test_python_floats_keep_their_digits_in_the_run_and_only_there() -> None:
    import tensorflow as tf

    assert tf.cast(0.9, "float64").numpy() != 0.9
    with float64_throughout():
        assert tf.cast(0.9, "float64").numpy() == 0.9
        assert keras.ops.cast(0.9, "float64").numpy() == 0.9
        assert keras.ops.convert_to_tensor(0.9).dtype == "float64"
        assert tf.cast(np.float32(0.9), "float64").numpy() == np.float32(0.9)  # already rounded: not ours to mend
    assert tf.cast(0.9, "float64").numpy() != 0.9
    assert keras.config.floatx() == "float32"


def test_the_wrappers_are_gone_after_the_step() -> None:
    side = runner()
    side.step(1, next(batches(0)))
    assert "compute_loss" not in vars(side.model)
    assert "apply" not in vars(side.model.optimizer)
    assert type(side.model._compile_loss).__name__ == "CompileLoss"


def test_a_raising_step_also_takes_the_wrappers_off() -> None:
    def loss(targets: Any, outputs: Any) -> Any:
        raise RuntimeError("no loss today")

    side = runner(loss=loss)
    with pytest.raises(xcheck.BadInput, match="RuntimeError"):
        side.step(1, next(batches(0)))
    assert "compute_loss" not in vars(side.model)


def test_a_frozen_model_trains_nothing_and_warns_nobody() -> None:
    def build() -> keras.Model:
        model = keras_mlp()
        model.trainable = False
        return model

    record = runner(build=build, loss=keras_loss).step(1, next(batches(0)))
    assert record.gradients == {}
    assert all((update == 0).all() for update in record.updates().values())


@pytest.mark.parametrize("before", [None, "float32", "mixed_float16"])
def test_the_run_sets_the_policy_of_layers_and_puts_it_back(before: str | None) -> None:
    from keras.src.backend.common import global_state

    kept = global_state.get_global_attribute("dtype_policy")
    global_state.set_global_attribute("dtype_policy", before and keras.dtype_policies.get(before))
    try:
        side = runner()
        side.step(1, next(batches(0)))
        assert {str(v.dtype) for v in side.model.variables} == {"float64"}
        after = global_state.get_global_attribute("dtype_policy")
        assert (after and after.name) == before
    finally:
        global_state.set_global_attribute("dtype_policy", kept)


def test_layers_of_one_path_keep_what_each_promises() -> None:
    """Two towers, whose layers have the same names."""

    class Tower(keras.layers.Layer):
        def __init__(self, stddev: float) -> None:
            super().__init__(name="tower")
            drawn = keras.initializers.RandomNormal(stddev=stddev)
            self.inner = keras.layers.Dense(3, kernel_initializer=drawn, name="inner")

        def call(self, x: Any) -> Any:
            return self.inner(x)

    def build() -> keras.Model:
        x = keras.Input((6,))

        class Both(keras.layers.Layer):
            def __init__(self) -> None:
                super().__init__(name="both")
                self.one, self.two = Tower(0.1), Tower(0.5)

            def call(self, x: Any) -> Any:
                return self.one(x) + self.two(x)

        return keras.Model(x, Both()(x))

    made = runner(build=build)
    widths = {path: p.width for path, p in made.promises().items() if "kernel" in path}
    assert sorted(widths.values()) == [0.1, 0.5]
    assert all(0.5 < made.read().parameters[path].std() / width < 2 for path, width in widths.items())
