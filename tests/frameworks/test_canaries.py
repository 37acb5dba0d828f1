"""A canary for each interception: it fails once the interception is broken, the run then says so, nothing is left."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src.backend.common import global_state
from ports import mlp

from xcheck import Verdict, check
from xcheck.frameworks import sides
from xcheck.frameworks.canary import NUMPY, Outcome
from xcheck.frameworks.keras import canaries as of_keras
from xcheck.frameworks.torch import canaries as of_torch
from xcheck.phases import AVAILABLE
from xcheck.records import tested_versions

TP, KP = "xcheck.frameworks.torch.patches", "xcheck.frameworks.keras.patches"


def unseen(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """A mode that PyTorch still enters and that no longer does anything."""
    return func(*args, **(kwargs or {}))


@contextmanager
def idle(*_: Any, **__: Any) -> Generator[Any]:
    """An interception that no longer reaches what it replaces."""
    yield []


def no_hook(self: Any, hook: Any, **_: Any) -> Any:
    return torch.nn.Identity().register_forward_hook(hook)


BREAKS: tuple[tuple[str, str, str, Any], ...] = (
    ("torch", "float64 kept", f"{TP}.precision.Float64Throughout.__torch_function__", unseen),
    ("torch", "calls seen", f"{TP}.calls.Watch.recording", idle),
    ("torch", "calls seen", f"{TP}.calls._Functions.__torch_function__", unseen),
    ("torch", "dropout off", f"{TP}.dropout._DROPOUTS", set()),
    ("torch", "dropout off", f"{TP}.dropout._calls_what_draws", lambda _: False),
    ("torch", "random draws seen", f"{TP}.dropout._draws", lambda _: False),
    ("torch", "rounding errors added", f"{TP}.rounding.rounding", idle),
    ("torch", "training step seen", f"{TP}.training_step.Observer._gradient", lambda *_: None),
    ("torch", "training step seen", f"{TP}.training_step.Observer._forward", lambda *_: None),
    ("torch", "gradients split by use", f"{TP}.uses._ToldApart.__torch_function__", unseen),
    ("torch", "stopped gradients seen", f"{TP}.stops._Stops.__torch_function__", unseen),
    ("torch", NUMPY.name, "xcheck.frameworks.numpy_precision._MAKERS", ()),
    ("keras", "float64 kept", f"{KP}.precision._names", idle),
    ("keras", "layer names repeated", f"{KP}.layer_names.naming", idle),
    ("keras", "calls seen", f"{KP}.calls.Watch.recording", idle),
    ("keras", "calls seen", f"{KP}.calls.functions_shown", idle),
    ("keras", "dropout off", f"{KP}.dropout.dropout_off", idle),
    ("keras", "random draws seen", f"{KP}.dropout.drawn_by", lambda *_: "?"),
    ("keras", "rounding errors added", f"{KP}.rounding.rounding", idle),
    ("keras", "training step seen", f"{KP}.training_step.observed", idle),
    ("keras", "training step seen", f"{KP}.training_step._penalties", lambda _: {}),
    ("keras", "gradients split by use", f"{KP}.uses._ToldApart.get_current_value", lambda *_: None),
    ("keras", "stopped gradients seen", f"{KP}.stops.stops", idle),
    ("keras", "constructions seen", f"{KP}.construction.constructions", idle),
    ("torch", "constructions seen", f"{TP}.construction.constructions", idle),
    ("keras", "TensorFlow in float64", f"{KP}.precision.operations_in_float64", idle),
    ("keras", "resizing in float64", f"{KP}.precision.resizing_in_float64", idle),
    ("keras", "random states seen", f"{KP}.tf_operations._signature", lambda _: ((), (), ())),
)
"""(framework, its canary, what is broken, what comes in its place)."""

OF = {"torch": of_torch, "keras": of_keras}


@pytest.fixture(autouse=True)
def _fresh() -> Generator[None]:
    sides._tried.cache_clear()
    yield
    sides._tried.cache_clear()


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_every_canary_answers_ok_here(framework: str) -> None:
    assert [(o.name, o.reason) for o in OF[framework].canaries() if o.reason] == []


class Inner(keras.Model):
    """A model whose layer is built by tracing its call; for that Keras keeps a list of variables yet to be made."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.inner(x)


def test_canaries_leave_no_variable_behind_for_the_next_model() -> None:
    for _ in range(3):
        Inner()(np.ones((1, 2)))
        assert [o.reason for o in of_keras.canaries() if o.reason] == []


@pytest.mark.parametrize(("framework", "name", "place", "instead"), BREAKS)
def test_a_broken_interception_is_noticed(
    framework: str, name: str, place: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, instead)
    assert name in [o.name for o in OF[framework].canaries() if o.reason]


def test_every_canary_is_broken_by_one_of_these() -> None:
    broken = {(framework, name) for framework, name, *_ in BREAKS} | {("keras", NUMPY.name)}
    assert {("torch", c.name) for c in of_torch.CANARIES} <= broken
    assert {("keras", c.name) for c in (*of_keras.CANARIES, *of_keras.TENSORFLOW)} <= broken


def test_canaries_name_phases_that_there_are() -> None:
    named = {p for module in OF.values() for c in module.CANARIES for p in c.phases}
    assert named == set(AVAILABLE)


@pytest.mark.parametrize(
    ("place", "instead", "lacking"),
    [
        (f"{TP}.precision.Float64Throughout.__torch_function__", unseen, set(AVAILABLE)),
        (f"{KP}.training_step._penalties", lambda _: {}, {"forward", "loss", "gradient", "update", "state"}),
        (f"{KP}.stops.stops", idle, {"gradient", "update"}),
    ],
)
def test_a_run_does_not_judge_what_it_cannot_watch(
    place: str, instead: Any, lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, instead)
    phases = ("inventory", "initialization", "sync", "forward", "loss", "gradient", "update", "state")
    wrong = mlp(keras={"optimizer": lambda: keras.optimizers.SGD(0.3)})
    result = check(wrong, steps=1, precision=("float64",), phases=phases)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert {c.phase for c in result.checks if c.verdict is not Verdict.EQUIVALENT} == lacking & set(phases)
    said = next(c for c in result.checks if c.name.startswith("canary: "))
    assert torch.__version__ in said.name or keras.__version__ in said.name
    assert "cannot observe" in said.detail
    assert "cannot observe" in result.report()


def streams() -> list[Any]:
    """What the random streams, and what Keras and PyTorch keep globally, stand at."""
    kept = dict(vars(global_state.GLOBAL_STATE_TRACKER))
    counts = {key: dict(value) if isinstance(value, dict) else value for key, value in kept.items()}
    settings = keras.config.floatx(), str(torch.get_default_dtype()), torch.is_grad_enabled()
    drawn = random.getstate(), [str(part) for part in np.random.get_state()], torch.get_rng_state().tolist()
    return [counts, settings, drawn]


def test_nothing_is_left_behind() -> None:
    import tensorflow as tf

    random.seed(3), np.random.seed(3), torch.manual_seed(3), keras.layers.Dense(1)
    before = streams()
    tf.random.set_seed(3)
    wanted = tf.random.uniform((2,)).numpy().tolist()
    tf.random.set_seed(3)
    for module in OF.values():
        module.canaries()
    assert streams() == before
    assert tf.random.uniform((2,)).numpy().tolist() == wanted
    assert tf.constant(0.1).dtype == tf.float32


def test_they_are_tried_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    sung: list[int] = []

    def once() -> tuple[Outcome, ...]:
        sung.append(1)
        return ()

    monkeypatch.setattr(of_torch, "canaries", once)
    for _ in range(3):
        assert sides.canaries(mlp(), "torch") == ()
    assert len(sung) == 1


@pytest.mark.parametrize(
    ("name", "version", "inside"),
    [
        ("torch", "2.13.0+cpu", True),
        ("torch", "2.9.0", False),
        ("torch", "2.13.1", False),
        ("keras", "3.14.1", False),
        ("keras", "3.15.0", True),
    ],
)
def test_a_version_outside_of_the_tested_range_is_said(name: str, version: str, inside: bool) -> None:
    assert tested_versions.within(name, version) is inside
    assert len(tested_versions.untested({name: version, "device": "cpu"})) == (not inside)


def test_a_report_says_that_a_version_was_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tested_versions.TESTED, "keras", ("3.0.0", "3.1.0"))
    result = check(mlp(), steps=1, precision=("float64",), phases=("inventory",))
    assert any(f"keras {keras.__version__} is outside" in note for note in result.notes)
