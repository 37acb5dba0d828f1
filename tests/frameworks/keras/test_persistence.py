"""Every way of saving and loading a Keras model, with models that lose something on each."""

from __future__ import annotations

from functools import cache
from itertools import islice
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from persisting import Found, persisted
from ports import FEATURES, batches, keras_loss

import xcheck
from xcheck.frameworks.keras.runner import KerasRunner

ROUTES = {".keras", ".weights.h5", "clone_model", "from_config"}
REBUILT = {".keras", "clone_model", "from_config"}
register = keras.saving.register_keras_serializable("tests")


def adam():
    return keras.optimizers.Adam(0.01)


def runner_of(build, **parts):
    side = xcheck.KerasSide(build, **{"loss": keras_loss, "optimizer": adam, **parts})
    return KerasRunner(side, precision="float64", device="cpu", seed=0)


def saved(build, data=batches, tied=(), **parts) -> Found:
    runner, two = runner_of(build, **parts), list(islice(data(0), 2))
    runner.prime(two[0])
    return persisted(runner, two, tied)


def stack(*layers):
    """Builds a chain of freshly made layers and a head."""
    return lambda: keras.Sequential([keras.Input((FEATURES,)), *(make() for make in layers), keras.layers.Dense(3)])


def causes(found: Found):
    return {(c.id, c.keras, c.confirmed) for c in found.causes}


# What comes back ---------------------------------------------------------------------------------------------------


@register
class Block(keras.layers.Layer):
    """Makes layers of its own, whose names depend on how many there are already."""

    def __init__(self, units=FEATURES, **options):
        super().__init__(**options)
        self.units = units
        self.first, self.second = keras.layers.Dense(units, activation="tanh"), keras.layers.Dense(units)

    def call(self, x):
        return self.second(self.first(x))


@register
class Subclassed(keras.Model):
    """Built at its first call."""

    def __init__(self, units=FEATURES, **options):
        super().__init__(**options)
        self.block, self.head = Block(units), keras.layers.Dense(3)

    def call(self, x):
        return self.head(self.block(x))


@register
class OwnCompile(keras.Model):
    """Compiles in a way that no file knows of."""

    def compile(self, *args, **options):
        super().compile(*args, **options)


def functional(kind=keras.Model):
    x = keras.Input((FEATURES,))
    shared = keras.layers.Dense(FEATURES, activation="tanh", name="shared")
    return kind(x, keras.layers.Dense(3, name="head")(shared(shared(x))))


def compiled():
    model = functional()
    model.compile(adam(), keras_loss, metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True)])
    return model


def halving():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    return keras.optimizers.SGD(rate, momentum=0.9, clipnorm=0.1)


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (functional, {}),
        (stack(lambda: keras.layers.Dense(FEATURES), Block, Block), {}),
        (Subclassed, {}),
        (compiled, {"loss": None, "optimizer": None}),
        (functional, {"loss": None}),
        (stack(keras.layers.BatchNormalization), {"optimizer": halving}),
        (stack(lambda: keras.layers.Dropout(0.5)), {"optimizer": keras.optimizers.SGD}),
    ],
)
def test_what_keras_knows_how_to_save_comes_back_by_every_route(build, parts):
    found = saved(build, **parts)
    assert found.wrong() == []
    steps = [c for c in found.checks if "step after" in c.name]
    assert {c.name.rpartition(" ")[2] for c in steps} == ROUTES
    assert all(c.error == 0 for c in steps)


def test_the_optimizer_comes_back_from_files_and_not_from_configs():
    found = saved(functional)
    assert {c.name.rpartition(" ")[2] for c in found.checks if "optimizer after" in c.name} == {".keras", ".weights.h5"}
    assert found.notes == ["keras: the optimizer's state does not come back, by design, after clone_model, from_config"]


def test_a_layer_that_is_used_twice_is_one_after_every_route():
    found = saved(functional, tied=["shared/kernel"])
    ties = [c for c in found.checks if "tie of" in c.name]
    assert [c.name for c in ties] == [
        f"keras: tie of shared/kernel after {route}"
        for route in (".keras", ".weights.h5", "clone_model", "from_config")
    ]
    assert {c.verdict for c in ties} == {"EQUIVALENT"}


def test_a_loss_of_the_pair_is_handed_to_load_model_and_that_is_said():
    check = saved(functional).after(".keras")[".keras"]
    assert "keras_loss given to load_model as custom_objects" in check.detail


def test_two_losses_of_one_name_are_not_taken_for_each_other():
    def loss_of(factor):
        def loss(targets, outputs):
            return factor * keras_loss(targets, outputs)

        return loss

    def two():
        x = keras.Input((FEATURES,))
        return keras.Model(x, {"a": keras.layers.Dense(3, name="a")(x), "b": keras.layers.Dense(3, name="b")(x)})

    def both(batch):
        return batch.inputs, {"a": batch.targets, "b": batch.targets}

    found = saved(two, loss={"a": loss_of(1.0), "b": loss_of(2.0)}, prepare=both)
    assert found.routes("INCONCLUSIVE") == REBUILT
    assert "called 'loss'" in found.wrong()[0].detail


def test_a_compile_of_its_own_costs_the_optimizer_and_nothing_else():
    found = saved(lambda: functional(OwnCompile))
    assert found.wrong() == []
    assert ".keras, clone_model" in found.notes[0]
    assert "does not contain the compile settings" in found.after(".keras")[".keras"].detail


# What a layer forgets ----------------------------------------------------------------------------------------------


@register
class Forgetful(keras.layers.Layer):
    """Divides by its size, but for an epsilon that its config leaves out."""

    def __init__(self, epsilon=1e-3, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, x):
        return x / keras.ops.sqrt(keras.ops.mean(x * x, -1, keepdims=True) + self.epsilon)

    def get_config(self):
        return super().get_config()


def test_an_argument_that_the_config_leaves_out_is_named():
    found = saved(stack(lambda: Forgetful(1e-6)))
    assert causes(found) == {("setting_not_saved", "forgetful.epsilon", True)}
    assert found.causes[0].evidence["found"] == "1e-06 before, 0.001 after"
    assert found.routes("DIFFERENT") == REBUILT
    assert {c.name.partition(":")[0] for c in found.wrong()} == {"keras"}
    assert all("step after" in c.name for c in found.wrong())


def test_an_argument_that_is_left_out_at_its_default_is_no_loss():
    assert saved(stack(Forgetful)).wrong() == []


@register
class Hidden(keras.layers.Layer):
    """Holds a variable in a list that Keras does not track."""

    def build(self, shape):
        start = np.random.default_rng(next(self.seeds)).uniform(1, 2, shape[-1])
        self.box = SimpleNamespace(variables=[keras.Variable(start, trainable=False)])

    def call(self, x):
        return x * self.box.variables[0]


def test_a_variable_in_a_list_that_nobody_tracks_is_named():
    Hidden.seeds = iter(range(100))
    found = saved(stack(Hidden))
    assert causes(found) == {("state_not_saved", "hidden.box.variables.0", True)}
    assert found.routes("DIFFERENT") == ROUTES
    assert found.wrong()[0].name == "keras: step after .keras: total loss"


@register
class Partial(keras.layers.Dense):
    """Saves its bias alone."""

    def save_own_variables(self, store):
        store["0"] = self.bias.numpy()

    def load_own_variables(self, store):
        self.bias.assign(store["0"])


def test_a_variable_that_a_layer_does_not_save_is_named():
    found = saved(stack(lambda: Partial(FEATURES, name="partial")))
    assert causes(found) == {("value_not_saved", "sequential/partial/kernel", True)}
    assert found.routes("DIFFERENT") == {".keras", ".weights.h5"}


@register
class Amnesiac(keras.optimizers.SGD):
    """Saves none of its memory."""

    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


def test_an_optimizer_that_does_not_save_its_memory_is_named():
    found = saved(functional, optimizer=lambda: Amnesiac(0.1, momentum=0.9))
    assert causes(found) == {("optimizer_state_not_saved", "optimizer", True)}
    assert found.wrong()[0].name == "keras: optimizer after .keras"


# Ties --------------------------------------------------------------------------------------------------------------


def tokens(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.integers(0, 7, (3, 5)), rng.integers(0, 7, (3, 5)))


@register
class Tied(keras.layers.Layer):
    """The embedding again, transposed; the donor is in the config as an object."""

    def __init__(self, donor, **options):
        super().__init__(**options)
        self.donor = donor

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.donor.input_dim,), name="bias", initializer="zeros")

    def call(self, x):
        return x @ keras.ops.transpose(self.donor.embeddings) + self.bias

    def get_config(self):
        return {**super().get_config(), "donor": keras.saving.serialize_keras_object(self.donor)}

    @classmethod
    def from_config(cls, config):
        donor = keras.saving.deserialize_keras_object(config["donor"])
        return cls(**{**config, "donor": donor})


@register
class Rebuilding(Tied):
    """Likewise, but makes the donor anew: a layer of its own, which no file has a place for."""

    def get_config(self):
        return {**keras.layers.Layer.get_config(self), "donor": self.donor.get_config()}

    @classmethod
    def from_config(cls, config):
        donor = keras.layers.Embedding.from_config(config["donor"])
        donor.build(None)
        return cls(**{**config, "donor": donor})


@register
class Borrowing(Rebuilding):
    """Likewise, but takes the donor's variable for its own, so that the file holds it twice."""

    def __init__(self, donor, **options):
        super().__init__(None, **options)
        self.of = lambda: donor

    def build(self, shape):
        self.table = self.of().embeddings
        self.bias = self.add_weight(shape=(self.of().input_dim,), name="bias", initializer="zeros")

    def call(self, x):
        return x @ keras.ops.transpose(self.table) + self.bias

    def get_config(self):
        return {**keras.layers.Layer.get_config(self), "donor": self.of().get_config()}


def language_model(kind):
    def build():
        ids = keras.Input((5,), dtype="int32")
        embedding = keras.layers.Embedding(7, 4, name="emb")
        return keras.Model(ids, kind(embedding, name="head")(embedding(ids)))

    return build


def test_a_donor_in_the_config_stays_one_in_files_and_becomes_two_in_clones_as_documented():
    found = saved(language_model(Tied), tokens, tied=["emb/embeddings"])
    assert found.wrong() == []
    lost = [c.name for c in found.checks if c.detail.startswith("by design")]
    assert lost == [f"keras: tie of emb/embeddings after {route}" for route in ("clone_model", "from_config")]
    assert "set_weights refuses 2 weights for 3" in found.after("clone_model")["clone_model"].detail
    assert "gradients" in found.after("clone_model")["step after clone_model"].detail
    assert "(emb/embeddings): tie again after loading" in found.notes[0]


def test_a_config_that_rebuilds_the_donor_loses_the_tie_in_a_file():
    found = saved(language_model(Borrowing), tokens)
    assert found.wrong()[0].name == "keras: tie of emb/embeddings after .keras"
    assert found.wrong()[0].detail.startswith("equal but untied")
    assert causes(found) == {("tie_lost_on_save", "emb/embeddings = head/embeddings", True)}
    assert found.routes("DIFFERENT") == {".keras"}


def test_a_rebuilt_donor_that_keras_itself_refuses_is_told_with_the_remedy():
    found = saved(language_model(Rebuilding), tokens)
    assert [(c.name, c.verdict.value) for c in found.wrong()] == [("keras: .keras", "INCONCLUSIVE")]
    assert "deserialize_keras_object" in found.wrong()[0].detail


def patched():
    """Two layers made one by patching what Keras keeps private."""
    x = keras.Input((FEATURES,))
    a, b = (keras.layers.Dense(FEATURES, name=name) for name in "ab")
    y = keras.layers.Dense(3)(b(keras.ops.tanh(a(x))))
    b._tracker.unlock()
    b._kernel, b.bias = a._kernel, a.bias
    b._trainable_variables = [a._kernel, a.bias]
    b._tracker.lock()
    return keras.Model(x, y)


def test_a_tie_by_patched_lists_is_lost_in_a_file():
    found = saved(patched)
    assert [c.name for c in found.wrong()] == [
        "keras: tie of a/kernel after .keras",
        "keras: tie of a/bias after .keras",
    ]
    assert {c.id for c in found.causes} == {"tie_lost_on_save"}
    assert {c.confirmed for c in found.causes} == {True}


# What does not run -------------------------------------------------------------------------------------------------


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return 2 * x


class NoConfig(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("build", "routes", "said"),
    [
        (stack(Unregistered), {".keras", "from_config"}, "register_keras_serializable"),
        (lambda: NoConfig(keras.layers.Dense(3)), REBUILT, "give the class a get_config"),
        (stack(lambda: keras.layers.Lambda(lambda x: 2 * x)), REBUILT, "give the function a name"),
    ],
)
def test_what_keras_does_not_save_is_one_message_with_the_remedy(build, routes, said):
    found = saved(build)
    assert {c.name for c in found.wrong()} == {f"keras: {route}" for route in routes}
    assert {c.verdict for c in found.wrong()} == {"INCONCLUSIVE"}
    assert all(said in c.detail for c in found.wrong())
    assert len([c for c in found.checks if "step after" in c.name]) == len(ROUTES - routes)


def test_a_build_that_gives_the_same_model_again_has_no_fresh_one_to_load_into():
    found = saved(cache(functional))
    assert [(c.name, c.verdict.value) for c in found.wrong()] == [("keras: .weights.h5", "INCONCLUSIVE")]
    assert "build must return a new model" in found.wrong()[0].detail
