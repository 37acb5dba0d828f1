"""Roles of optimizer slots: both tables speak of the same things in the same units."""

import numpy as np
import pytest

from xcheck.slots import KERAS, ROLES, TORCH, find


def test_every_slot_has_a_known_role_and_every_role_has_a_slot():
    named = {slot.role for slot in (*TORCH.values(), *KERAS.values())}
    assert named == set(ROLES)


@pytest.mark.parametrize(
    ("classes", "attribute", "role", "times_lr"),
    [
        (("SGD", "Optimizer"), "momentums", "momentum", -1),
        (("RMSprop", "Optimizer"), "_momentums", "momentum", 1),
        (("Adam", "Optimizer"), "_momentums", "first_moment", 0),
        (("RMSprop",), "_velocities", "second_moment", 0),
        (("Adadelta",), "_accumulated_grads", "second_moment", 0),
    ],
)
def test_one_attribute_means_another_thing_in_another_class(classes, attribute, role, times_lr):
    slot = find(KERAS, classes, attribute)
    assert (slot.role, slot.times_lr) == (role, times_lr)


def test_a_subclass_is_known_by_its_nearest_base():
    assert find(KERAS, ("MySGD", "SGD", "Optimizer", "object"), "momentums").times_lr == -1
    assert find(KERAS, ("Mine", "RMSprop", "Adam"), "_momentums").role == "momentum"


@pytest.mark.parametrize("attribute", ["momentums", "_accumulated_grads", "_secrets"])
def test_an_attribute_that_another_class_has_is_not_guessed(attribute):
    assert find(KERAS, ("Lion", "Optimizer"), attribute) is None


@pytest.mark.parametrize(("classes", "times_lr"), [(("KerasSGD", "Optimizer"), -1), (("KerasRMSprop", "Optimizer"), 1)])
def test_the_velocity_of_a_torch_optimizer_has_the_unit_of_the_keras_optimizer_it_follows(classes, times_lr):
    assert find(TORCH, classes, "velocity").times_lr == times_lr
    assert find(KERAS, (classes[0].removeprefix("Keras"),), {-1: "momentums", 1: "_momentums"}[times_lr]) == find(
        TORCH, classes, "velocity"
    )
    assert find(TORCH, ("SGD", "Optimizer"), "velocity") is None


def test_the_momentum_of_both_frameworks_is_one_number_in_canonical_units():
    gradients, lr, decay = np.array([0.5, -2.0, 3.0]), 0.1, 0.9
    torch = keras = 0.0
    for g in gradients:
        torch = decay * torch + g
        keras = decay * keras - lr * g  # Keras keeps what it adds to the weight
    slot = find(KERAS, ("SGD",), "momentums")
    assert keras * slot.times_lr / lr == pytest.approx(torch)
    assert torch * slot.times_lr * lr == pytest.approx(keras)
    assert find(TORCH, ("SGD",), "momentum_buffer").times_lr == 0


def test_the_momentum_of_rmsprop_is_kept_with_the_learning_rate_and_the_sign_of_the_gradient():
    normalized, lr, decay = np.array([0.5, -2.0, 3.0]), 0.1, 0.9
    torch = keras = 0.0
    for g in normalized:
        torch = decay * torch + g
        keras = decay * keras + lr * g
    slot = find(KERAS, ("RMSprop",), "_momentums")
    assert keras * slot.times_lr / lr == pytest.approx(torch)
