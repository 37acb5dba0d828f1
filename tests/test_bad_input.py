"""Every mistake a user can make is one message: what, where, the numbers, the next step; and nothing is lost."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import MLP_MAP, batches, keras_mlp, mlp, torch_mlp

import xcheck
from xcheck.cli import main


def message(pair: xcheck.Pair, **options: Any) -> tuple[str, xcheck.Result]:
    """The message of the mistake, and what had been computed."""
    with pytest.raises(xcheck.BadInput) as caught:
        xcheck.check(pair, **{"steps": 2, **options})
    assert caught.value.result is not None
    assert caught.value.result.verdict in ("INCONCLUSIVE", "DIFFERENT")
    assert caught.value.result.failure == str(caught.value)
    return str(caught.value), caught.value.result


def raising(*_: Any, **__: Any) -> Any:
    raise KeyError("no such thing")


@pytest.mark.parametrize("part", ["build", "optimizer", "loss", "prepare", "outputs", "penalty", "after_step"])
def test_a_part_of_the_torch_side_raises(part: str) -> None:
    text, _ = message(mlp(torch={part: raising}))
    assert text.splitlines()[0].startswith("The pair's torch ")
    assert part in text.splitlines()[0]
    assert "KeyError" in text.splitlines()[0]
    assert "test_bad_input.py" in text
    assert "no such thing" in text


@pytest.mark.parametrize("part", ["build", "optimizer", "loss", "prepare", "outputs"])
def test_a_part_of_the_keras_side_raises(part: str) -> None:
    text, _ = message(mlp(keras={part: raising}))
    assert text.splitlines()[0].startswith("The pair's keras ")
    assert "KeyError" in text.splitlines()[0]
    assert "test_bad_input.py" in text


def test_what_was_computed_before_is_kept() -> None:
    """The third batch breaks the Keras side; the checks of two steps are in the result."""

    def prepare(batch: xcheck.Batch) -> Any:
        if np.allclose(batch.inputs, third.inputs):  # type: ignore[arg-type, union-attr]
            raise RuntimeError("the third batch")
        return batch.inputs, batch.targets

    iterator = batches(0)
    third = [next(iterator) for _ in range(3)][2]
    text, result = message(mlp(keras={"prepare": prepare}), steps=4)
    assert "the third batch" in text
    assert {c.step for c in result.checks} == {None, 1, 2}
    assert all(c.verdict == "EQUIVALENT" for c in result.checks)
    assert result.verdict == "INCONCLUSIVE"


def test_builds_that_give_no_model() -> None:
    assert "not return a torch.nn.Module" in message(mlp(torch={"build": lambda: 3}))[0]
    assert "not return a keras.Model" in message(mlp(keras={"build": lambda: 3}))[0]


def test_optimizers_that_are_none() -> None:
    assert "not return a torch.optim.Optimizer" in message(mlp(torch={"optimizer": lambda p: "sgd"}))[0]
    assert "not return a keras.optimizers.Optimizer" in message(mlp(keras={"optimizer": lambda: "sgd"}))[0]


def test_a_shape_that_no_layout_explains() -> None:
    def build():
        import keras

        return keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(9, name="hidden"), keras.layers.Dense(3, name="head")]
        )

    text, result = message(mlp(keras={"build": build}))
    assert "'transpose' does not convert one shape into the other" in text
    assert "torch 0.weight -> keras sequential/hidden/kernel" in text
    assert "(8, 6) -> (6, 9)" in text
    assert result.environment["keras"]


def test_an_unknown_layer_kind_names_the_layouts_that_fit() -> None:
    def build():
        import torch

        class MyLinear(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(8, 6))
                self.bias = torch.nn.Parameter(torch.zeros(8))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.linear(x, self.weight, self.bias)

        model = torch_mlp()
        model[0] = MyLinear()
        return model

    text, _ = message(mlp(torch={"build": build}))
    assert "No layout is known between these two layer kinds." in text
    assert "MyLinear.weight (8, 6) -> Dense.kernel (6, 8)" in text
    assert '"0.weight": ("sequential/hidden/kernel", "transpose")' in text


@pytest.mark.parametrize(
    ("key", "target", "expected"),
    [
        ("0.wieght", "sequential/hidden/kernel", "did you mean '0.weight'"),
        ("0.weight", "sequential/hidden/kernal", "did you mean 'sequential/hidden/kernel'"),
        ("0.weight", ("sequential/hidden/kernel", "sideways"), "names a layout that does not exist"),
    ],
)
def test_a_map_that_names_nothing(key: str, target: Any, expected: str) -> None:
    assert expected in message(mlp(weight_map={**MLP_MAP, key: target}))[0]


def test_a_batch_with_the_wrong_keys() -> None:
    def named(seed: int):
        for batch in batches(seed):
            yield xcheck.Batch({"pixels": batch.inputs}, batch.targets)

    text, _ = message(mlp(batches=named, keras={"prepare": lambda b: (b.inputs["pixels"], b.targets)}))
    assert "torch model, called with this batch, raised TypeError" in text
    assert "{'pixels': float64(10, 6)}" in text
    assert "pixels" in text.partition("cause:")[2]


def test_batches_that_change_their_keys_end_early_or_are_none() -> None:
    def changing(seed: int):
        first = next(batches(seed))
        yield first
        yield xcheck.Batch((first.inputs, first.inputs), first.targets)

    assert "differ from those of the first" in message(mlp(batches=changing))[0]
    text, result = message(mlp(batches=lambda seed: [next(batches(seed))]))
    assert "1 batches for 2 steps" in text
    assert {c.step for c in result.checks} == {None, 1}
    assert "not an xcheck.Batch" in message(mlp(batches=lambda seed: [np.zeros(3)]))[0]
    assert "raised KeyError" in message(mlp(batches=raising))[0]


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ([1, 2], "not a NumPy array"),
        (np.array(["a"]), "not numeric"),
        (np.zeros((0, 3)), "empty"),
        (np.array(1.0), "has no batch axis"),
    ],
)
def test_a_batch_that_is_no_batch(arrays: Any, expected: str) -> None:
    with pytest.raises(xcheck.BadInput, match=expected):
        xcheck.Batch(arrays)


def test_a_loss_that_is_not_a_scalar() -> None:
    def loss(outputs: Any, targets: Any) -> Any:
        from torch.nn import functional as F

        return F.cross_entropy(outputs, targets, reduction="none")

    text, _ = message(mlp(torch={"loss": loss}))
    assert "The torch loss is not a scalar." in text
    assert "float64(10,)" in text
    text, _ = message(mlp(torch={"loss": lambda o, t: {"ce": 3.0}}))
    assert "term 'ce'" in text
    assert "not a tensor" in text
    assert "a reduction is missing" not in text


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("The torch loss is not", {"torch": {"loss": lambda outputs, targets: None}}),
        ("TorchSide.build did not return", {"torch": {"build": lambda: None}}),
        ("TorchSide.optimizer did not return", {"torch": {"optimizer": lambda parameters: None}}),
        ("KerasSide.build did not return", {"keras": {"build": lambda: None}}),
        ("KerasSide.optimizer did not return", {"keras": {"optimizer": lambda: None}}),
        ("torch side's prepare did not return", {"torch": {"prepare": lambda batch: None}}),
        ("returned no batches", {"batches": lambda seed: None}),
    ],
)
def test_a_return_that_is_missing(what: str, parts: dict[str, Any]) -> None:
    text, _ = message(mlp(**parts))
    assert what in text.splitlines()[0]
    assert "the function returns None" in text


def test_what_should_be_a_dict_and_is_none() -> None:
    with pytest.raises(xcheck.BadInput, match=r"weight_map must be a dict[\s\S]*got list"):
        mlp(weight_map=["0.weight"])
    with pytest.raises(xcheck.BadInput, match="is not a dict"):
        xcheck.Batch(np.zeros((3, 2)), compare=np.ones(3, bool))  # pyright: ignore


def test_an_operation_that_has_float32_alone_says_how_it_is_checked() -> None:
    def loss(y: Any, p: Any) -> Any:
        raise TypeError("Input 'y' of 'Mul' Op has type float32 that does not match type float64 of argument 'x'.")

    text, _ = message(mlp(keras={"loss": loss}))
    assert "runs in float64 here" in text
    assert "--keras-backend" in text


@pytest.mark.parametrize(
    "text",
    [
        "Gradients for grouped convolutions are not supported on CPU.",
        "\"conv_backward\" not implemented for 'Double'",
        "Could not run 'aten::_ctc_loss' with arguments from the 'CUDA' backend.",
        "No OpKernel was registered to support Op 'CTCLossV2' used by node loss",
    ],
)
def test_an_operation_that_a_device_does_not_have_is_no_mistake_in_the_pair(text: str) -> None:
    def loss(y: Any, p: Any) -> Any:
        raise RuntimeError(text)

    told, _ = message(mlp(keras={"loss": loss}))
    assert "does not have on this device" in told
    assert "the pair need not be wrong" in told
    assert "correct the pair file" not in told


@pytest.mark.parametrize(
    "text",
    [
        "\"addmm_impl_cpu_\" not implemented for 'Long'",
        "input and out_backprop must have the same batch size [Op:Conv2DBackpropInput]",
        "Cast string to float is not supported",
    ],
)
def test_a_mistake_in_types_or_shapes_is_one_of_the_pair(text: str) -> None:
    def loss(y: Any, p: Any) -> Any:
        raise RuntimeError(text)

    assert "correct the pair file" in message(mlp(keras={"loss": loss}))[0]


def test_optimizers_with_slots_we_cannot_map_are_judged_by_their_updates_and_not_by_one_alone() -> None:
    def optimizer(parameters: Any) -> Any:
        import torch

        return torch.optim.Rprop(parameters, lr=0.1)

    def keras_optimizer() -> Any:
        import keras

        return keras.optimizers.Ftrl(0.1)

    result = xcheck.check(mlp(torch={"optimizer": optimizer}, keras={"optimizer": keras_optimizer}), steps=1)
    assert result.verdict == "DIFFERENT"
    unjudged = [c for c in result.checks if c.phase == "update" and "--steps 2" in c.detail]
    assert {c.verdict for c in unjudged} == {"INCONCLUSIVE"}
    assert any("Rprop" in c.name for c in unjudged)
    assert any("Ftrl" in c.name for c in unjudged)


def test_a_missing_gpu_is_named() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    text, _ = message(mlp(), device="cuda")
    assert "sees no GPU" in text
    assert "--device auto" in text


def test_a_backend_that_came_too_late() -> None:
    keras_mlp()
    text, _ = message(mlp(), keras_backend="jax")
    assert "already runs on a different backend" in text
    assert "KERAS_BACKEND=jax" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 0}, "at least one step"),
        ({"precision": ("float16",)}, "precision"),
        ({"phases": ["forwards"]}, "Unknown phase 'forwards'"),
    ],
)
def test_options_that_make_no_run(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(xcheck.BadInput, match=expected):
        xcheck.check(mlp(), **options)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"torch": None}, "must be an xcheck.TorchSide"),
        ({"batches": 3}, "not callable"),
        ({"name": "a/b"}, "folder name"),
        ({"reference": "jax"}, "must be 'torch' or 'keras'"),
        ({"expect": "DIFFERNT"}, "must be a verdict"),
    ],
)
def test_a_pair_that_is_none(parts: dict[str, Any], expected: str) -> None:
    base = mlp()
    given = {"name": "mlp", "torch": base.torch, "keras": base.keras, "batches": batches, **parts}
    with pytest.raises(xcheck.BadInput, match=expected):
        xcheck.check(xcheck.Pair(**given))


def keras_loss(*_: Any) -> Any:
    """Whatever it is given."""


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: xcheck.TorchSide(list, loss=lambda outputs: outputs), r"TorchSide\.loss.*\(outputs, targets\)"),
        (lambda: xcheck.TorchSide(list, optimizer=lambda: None), r"TorchSide\.optimizer.*\(parameters\)"),
        (lambda: xcheck.TorchSide(list, step=lambda a, b, c, d: None), r"TorchSide\.step.*\(model, optimizer, batch\)"),
        (lambda: xcheck.TorchSide(list, penalty=lambda: 0), r"TorchSide\.penalty.*\(model\)"),
        (lambda: xcheck.KerasSide(list, loss=lambda: None), r"KerasSide\.loss.*\(targets, outputs\)"),
        (lambda: xcheck.KerasSide(list, optimizer=lambda rate: None), r"KerasSide\.optimizer.*with \(\)"),
        (lambda: xcheck.Pair("a", None, None, lambda: []), r"Pair\.batches.*\(seed\)"),
    ],
)
def test_a_function_with_other_arguments_is_refused_before_anything_runs(make: Any, expected: str) -> None:
    with pytest.raises(xcheck.BadInput, match=f"(?s){expected}.*define it as"):
        make()


def test_functions_may_ask_for_more_or_take_anything() -> None:
    xcheck.TorchSide(list, loss=lambda *a: None, optimizer=lambda model: None, step=lambda m, o, b, model: None)
    xcheck.TorchSide(list, optimizer=lambda named_parameters, rate=0.1: None, step=lambda m, optimizer, batch: None)
    xcheck.TorchSide(list, optimizer=functools.partial(dict, rate=0.1), outputs=max, penalty=lambda m, factor=2: 0)
    xcheck.KerasSide(list, loss=keras_loss, optimizer=lambda model: None)
    xcheck.KerasSide(list, loss={"a": "mse"}, optimizer=dict)


# On the command line ------------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import no_such_module\n", "raised ModuleNotFoundError"),
        ("PAIR = (\n", "raised SyntaxError"),
        ("PAIR = 3\n", "PAIR is not an xcheck.Pair"),
        ("", "The file does not define PAIR"),
    ],
)
def test_a_pair_file_that_cannot_be_used(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    assert run("run", str(path)) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "broken.py" in error
    assert "Traceback" not in error


def test_a_pair_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "shared_dilated_convs") == 2
    assert "did you mean shared_dilated_conv" in capsys.readouterr().err


def test_a_mistake_writes_what_was_computed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.py"
    path.write_text("from ports import batches, mlp\nPAIR = mlp(batches=lambda seed: [next(batches(seed))])\n")
    assert run("run", str(path), "--out", str(tmp_path / "out"), "--steps", "3") == 2
    error = capsys.readouterr().err
    assert error.startswith("Pair.batches yields too few batches.")
    assert "Traceback" not in error
    result = xcheck.Result.from_json(tmp_path / "out" / "result.json")
    assert {c.step for c in result.checks} == {None, 1}
    assert result.failure is not None
    assert result.failure in error
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("bad", ["--steps=x", "--nonsense"])
def test_bad_usage_exits_2(bad: str) -> None:
    assert run("run", "shared_dilated_conv", bad) == 2
