"""Every way of saving and loading a PyTorch model, with models that lose something on each."""

from __future__ import annotations

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from persisting import Found, persisted
from ports import FEATURES, batches, torch_loss
from torch import nn

import xcheck
from xcheck.frameworks.torch.runner import TorchRunner

ROUTES = {"state_dict", "assign=True", "safetensors", "deepcopy", "to(dtype)"}


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def runner_of(build, **parts):
    side = xcheck.TorchSide(build, **{"loss": torch_loss, "optimizer": adam, **parts})
    return TorchRunner(side, precision="float64", device="cpu", seed=0)


def saved(build, **parts) -> Found:
    return persisted(runner_of(build, **parts), islice(batches(0), 2))


class Net(nn.Module):
    """Two layers with one weight, and a running mean."""

    def __init__(self, tied=True, persistent=True):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, 3)
        if tied:
            self.b.weight = self.a.weight
        self.register_buffer("seen", torch.zeros(FEATURES), persistent=persistent)

    def forward(self, x):
        if self.training:
            self.seen.copy_(0.9 * self.seen + 0.1 * x.mean(0))
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x - self.seen)))))


class Assigning(Net):
    """Loads as a user does who has read that it saves memory."""

    def load_state_dict(self, state_dict, strict=True, assign=False):
        return super().load_state_dict(state_dict, strict, assign=True)


def causes(found: Found):
    return {(c.id, c.torch, c.confirmed) for c in found.causes}


def test_a_tied_model_comes_back_by_every_route_and_only_assign_unties_it():
    found = saved(Net)
    assert found.wrong() == []
    assert {c.name.rpartition(" ")[2] for c in found.checks if "step after" in c.name} == ROUTES
    assert all(c.error == 0 for c in found.checks if "step after" in c.name and "assign" not in c.name)
    lost = [c.name for c in found.checks if c.detail.startswith("by design")]
    assert lost == ["torch: tie of a.weight after assign=True"]
    assert found.notes == [
        "torch: after assign=True, by design, one parameter comes back as several over one memory, and an optimizer "
        "steps each of them (a.weight): tie again after loading",
        "torch: the optimizer's state does not come back, by design, after assign=True, safetensors",
    ]


def test_the_optimizer_comes_back_where_the_route_keeps_it():
    kept = {c.name.rpartition(" ")[2] for c in saved(Net).checks if "optimizer after" in c.name}
    assert kept == {"state_dict", "deepcopy", "to(dtype)"}


def test_a_scheduler_on_the_optimizer_comes_back_with_it():
    def scheduled(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        optimizer.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return optimizer

    def step(model, optimizer, batch):
        optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        loss.backward()
        optimizer.step()
        optimizer.scheduler.step()
        return loss

    assert saved(Net, loss=None, optimizer=scheduled, step=step).wrong() == []


@pytest.mark.parametrize("optimizer", [adam, lambda parameters: torch.optim.SGD(parameters, lr=0.1)])
def test_a_model_that_loads_with_assign_is_untied_by_name(optimizer):
    found = saved(Assigning, optimizer=optimizer)
    assert found.wrong()[0].name == "torch: tie of a.weight after state_dict"
    assert "over one memory" in found.wrong()[0].detail
    first, second = found.causes
    assert (first.id, first.torch, first.confirmed) == ("tie_lost_by_assign", "a.weight = b.weight", True)
    assert first.evidence["routes"] == "state_dict"
    # The file of safetensors holds a tied weight once; assigned, it replaces one of the two.
    assert (second.id, second.evidence["routes"], second.confirmed) == ("tie_lost_on_save", "safetensors", True)


def test_without_ties_loading_with_assign_leaves_the_optimizer_behind():
    found = saved(lambda: Assigning(tied=False))
    assert causes(found) == {("optimizer_left_behind", "optimizer", True)}
    assert found.routes("DIFFERENT") == {"state_dict", "safetensors"}


def test_a_buffer_that_changes_and_is_not_persistent_is_lost_on_every_file():
    found = saved(lambda: Net(persistent=False))
    assert causes(found) == {("buffer_not_persistent", "seen", True)}
    assert found.causes[0].evidence["routes"] == "state_dict, assign=True, safetensors"
    assert found.wrong()[0].name == "torch: seen after state_dict"


def test_a_buffer_that_is_not_persistent_and_stays_as_built_is_no_loss():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(FEATURES, 3)
            self.register_buffer("table", torch.arange(float(FEATURES)) / 3, persistent=False)

        def forward(self, x):
            return self.layer(x + self.table)

    assert saved(Table).wrong() == []


def test_a_tensor_in_a_plain_list_is_named():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.boxes = nn.Linear(FEATURES, 3), [torch.rand(FEATURES)]

        def forward(self, x):
            return self.layer(x * self.boxes[0])

    found = saved(Hidden)
    assert causes(found) == {("state_not_saved", "boxes.0", True)}
    assert found.routes("DIFFERENT") == ROUTES - {"deepcopy"}


def test_a_setting_that_the_next_build_does_not_have_is_named():
    scales = iter([2.0, 3.0, 3.0, 3.0, 3.0])

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.scale = nn.Linear(FEATURES, 3), next(scales)

        def forward(self, x):
            return self.layer(x) * self.scale

    assert causes(saved(Scaled)) == {("setting_not_saved", "scale", True)}


def test_views_of_one_memory_are_parted_by_what_is_known_to_part_them():
    class View(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.randn(FEATURES, FEATURES) * 0.1)
            self.b = nn.Parameter(self.a.data.t())
            self.head = nn.Linear(FEATURES, 3)

        def forward(self, x):
            return self.head(torch.tanh(x @ self.a) @ self.b)

    found = saved(View)
    assert [(c.name, c.verdict.value) for c in found.wrong()] == [("torch: safetensors", "INCONCLUSIVE")]
    lost = [c.name for c in found.checks if c.detail.startswith("by design")]
    assert lost == ["torch: tie of a after deepcopy", "torch: tie of a after to(dtype)"]


def test_a_build_that_gives_the_same_model_again_has_no_fresh_one_to_load_into():
    model = Net().double()
    found = saved(lambda: model)
    assert found.routes("INCONCLUSIVE") == ROUTES - {"deepcopy"}
    assert "same model every time" in found.wrong()[0].detail


def test_a_model_that_is_given_as_such_is_copied():
    assert saved(Net()).wrong() == []


def test_what_a_model_raises_on_a_route_is_its_message():
    class Stubborn(Net):
        def __deepcopy__(self, memo):
            raise RuntimeError("there can be only one")

    found = saved(Stubborn)
    assert [(c.name, c.verdict.value) for c in found.wrong()] == [("torch: deepcopy", "INCONCLUSIVE")]
    assert "there can be only one" in found.wrong()[0].detail


def test_saving_changes_nothing_about_the_side():
    runner = runner_of(Net)
    list(persisted(runner, islice(batches(0), 2)).checks)
    other = runner_of(Net)
    batch = next(batches(1))
    for one in (runner, other):
        one.write(xcheck.frameworks.protocol.State({p: np.full_like(v, 0.1) for p, v in one.read().parameters.items()}))
    fresh = copy.deepcopy(other.read().buffers)
    runner.write(xcheck.frameworks.protocol.State(buffers=fresh))
    losses = [one.step(1, batch).losses["total"] for one in (runner, other)]
    assert losses[0] == losses[1]


# In the pair's own build and step ----------------------------------------------------------------------------------


def tied_pair(build=Net, **torch_parts):
    """The model above against one Keras layer that is called twice."""

    def build_keras():
        import keras

        class Biased(keras.layers.Layer):
            def build(self, shape):
                self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")

            def call(self, x):
                return x + self.bias

        x = keras.Input((FEATURES,))
        shared = keras.layers.Dense(FEATURES, use_bias=False, name="shared")
        y = x
        for name in "ab":
            y = keras.ops.tanh(Biased(name=name)(shared(y)))
        return keras.Model(x, keras.layers.Dense(3, name="head")(y))

    from ports import keras_loss, keras_sgd, torch_sgd

    return xcheck.Pair(
        name="tied",
        torch=xcheck.TorchSide(build, **{"loss": torch_loss, "optimizer": torch_sgd, **torch_parts}),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=lambda: keras_sgd(0.1)),
        batches=batches,
        weight_map={
            "a.weight": "shared/kernel",
            "a.bias": "a/bias",
            "b.bias": "b/bias",
            "head.weight": "head/kernel",
            "head.bias": "head/bias",
        },
    )


class Plain(Net):
    """Without the running mean, which the Keras side does not have."""

    def __init__(self):
        super().__init__()
        del self.seen

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


def test_a_tied_pair_passes_with_its_persistence():
    result = xcheck.check(tied_pair(Plain), steps=2, precision=("float64",), free_steps=0, phases=["persistence"])
    assert result.failure is None
    assert {c.name.partition(":")[0] for c in result.checks} == {"torch", "keras"}
    assert not [c for c in result.checks if c.name.startswith("torch") and c.verdict != "EQUIVALENT"], result.report()


def causes_of(result):
    return [(c.id, c.torch, c.confirmed) for c in result.causes if c.id != "same_random_stream"]


def test_a_build_that_loads_with_assign_is_found_before_anything_is_saved():
    def build():
        model, source = Plain(), Plain()
        model.load_state_dict({k: v.clone() for k, v in source.state_dict().items()}, assign=True)
        return model

    result = xcheck.check(tied_pair(build), steps=2, precision=("float64",), free_steps=0)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.phase == "inventory"
    assert [c for c in causes_of(result) if c[2]] == [("tie_extra", "a.weight = b.weight", True)]


def test_a_build_that_loads_its_own_state_with_assign_has_two_parameters_over_one_memory():
    def build():
        model, source = Plain(), Plain()
        model.load_state_dict(source.state_dict(), assign=True)
        return model

    result = xcheck.check(tied_pair(build), steps=2, precision=("float64",), free_steps=0)
    assert (result.verdict, result.first_divergence.phase) == ("DIFFERENT", "gradient")
    assert causes_of(result) == [
        ("tie_lost_by_assign", "a.weight = b.weight", True),
        ("lost_use", "a.weight", True),  # what comes of it
    ]
    assert "assign=False" in result.causes[0].fix


def test_a_step_that_loads_with_assign_is_found_in_the_update():
    def step(model, optimizer, batch):
        optimizer.zero_grad()
        loss = torch_loss(model(batch.inputs), batch.targets)
        loss.backward()
        optimizer.step()
        model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
        return loss

    result = xcheck.check(tied_pair(Plain, loss=None, step=step), steps=2, precision=("float64",), free_steps=0)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase in ("inventory", "gradient", "update")
    assert causes_of(result) == [("tie_lost_in_step", "a.weight = b.weight", True)]
