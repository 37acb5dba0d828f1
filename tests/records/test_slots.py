"""Roles of optimizer slots: both tables speak of the same things in the same units."""

import numpy as np
import pytest

from xcheck.records.slots import KERAS, ROLES, TORCH, Slot, find


def test_every_slot_has_a_known_role_and_every_role_has_a_slot():
    named = {slot.role for slot in (*TORCH.values(), *KERAS.values())}
    assert named == set(ROLES)


@pytest.mark.parametrize(
    ("classes", "attribute", "slot"),
    [
        (("SGD", "Optimizer"), "momentums", Slot("momentum")),
        (("RMSprop", "Optimizer"), "_momentums", Slot("momentum", -1)),
        (("Adam", "Optimizer"), "_momentums", Slot("first_moment")),
        (("RMSprop",), "_velocities", Slot("second_moment")),
        (("Adadelta",), "_accumulated_grads", Slot("second_moment")),
    ],
)
def test_one_attribute_means_another_thing_in_another_class(classes, attribute, slot):
    assert find(KERAS, classes, attribute) == slot


def test_a_subclass_is_known_by_its_nearest_base():
    assert find(KERAS, ("MySGD", "SGD", "Optimizer", "object"), "momentums") == Slot("momentum")
    assert find(KERAS, ("Mine", "RMSprop", "Adam"), "_momentums").role == "momentum"


@pytest.mark.parametrize("attribute", ["momentums", "_accumulated_grads", "_secrets"])
def test_an_attribute_that_another_class_has_is_not_guessed(attribute):
    assert find(KERAS, ("Lion", "Optimizer"), attribute) is None


@pytest.mark.parametrize(("follower", "attribute"), [("KerasSGD", "momentums"), ("KerasRMSprop", "_momentums")])
def test_the_velocity_of_a_torch_optimizer_has_the_unit_of_the_keras_optimizer_it_follows(follower, attribute):
    original = find(KERAS, (follower.removeprefix("Keras"),), attribute)
    assert find(TORCH, (follower, "Optimizer"), "velocity") == original
    assert find(TORCH, ("SGD", "Optimizer"), "velocity") is None


@pytest.mark.parametrize(("keras_class", "attribute", "sign"), [("SGD", "momentums", -1), ("RMSprop", "_momentums", 1)])
def test_the_momentum_of_both_frameworks_is_one_number_in_canonical_units(keras_class, attribute, sign):
    gradients, lr, decay = np.array([0.5, -2.0, 3.0]), 0.1, 0.9
    torch = keras = np.zeros(())
    for g in gradients:
        torch = decay * torch + g
        keras = decay * keras + sign * lr * g  # SGD keeps what it adds to the weight, RMSprop what it takes away
    torch_slot = find(TORCH, (keras_class,), "momentum_buffer")
    keras_slot = find(KERAS, (keras_class,), attribute)
    assert torch_slot.canonical(torch, lr) == pytest.approx(keras_slot.canonical(keras, lr))
    assert torch_slot.stored(keras_slot.canonical(keras, lr), lr) == pytest.approx(torch)
    assert keras_slot.stored(torch_slot.canonical(torch, lr), lr) == pytest.approx(keras)


def test_a_rate_of_zero_makes_a_momentum_of_zero_that_cannot_be_turned_back():
    slot = find(TORCH, ("SGD",), "momentum_buffer")
    assert slot.canonical(np.ones(2), 0.0).tolist() == [0.0, 0.0]
    assert slot.stored(np.zeros(2), 0.0) is None
