"""`xcheck convert`: both directions, every kind of weight, what it refuses, and the script it writes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import convertible
import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import torch
from commands import run
from safetensors.torch import load_file, load_model, save_file, save_model

import xcheck
from xcheck.errors import FileError, MatchError, PairError, UnprovenError, UserCodeError
from xcheck.numerics.compare import measure
from xcheck.numerics.tolerance import Noise, epsilon

Arrays = dict[str, Any]


def trained(pair: Any, dtype: Any = torch.float32) -> Any:
    """The PyTorch model of a pair, with other numbers in all that it holds."""
    torch.manual_seed(5)
    model = pair.torch.build()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_()
    return model.to(dtype)


def checkpoint(pair: Any, path: Path, dtype: Any = torch.float32) -> Any:
    """A checkpoint of the model; which one is returned."""
    model = trained(pair, dtype)
    save_model(model, str(path)) if path.suffix == ".safetensors" else torch.save(model.state_dict(), path)
    return model


def datasets(path: Path) -> Arrays:
    """The arrays of a `.weights.h5` file, by key."""
    found: Arrays = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            array = np.array(item)
            found[name] = array.view(ml_dtypes.bfloat16) if item.attrs.get("dtype") == "bfloat16" else array

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def same(first: Arrays, second: Arrays) -> bool:
    """Whether two files hold the same, bit by bit."""
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and bool((first[k] == second[k]).all()) for k in first
    )


def ran(script: Path, source: Path, target: Path) -> None:
    """Run a script alone, in a folder of its own, without xcheck."""
    allowed = {"sys", "json", "pathlib", "zipfile", "h5py", "ml_dtypes", "numpy", "safetensors"}
    nodes = list(ast.walk(ast.parse(script.read_text())))
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    assert {name.partition(".")[0] for name in names} <= allowed
    subprocess.run([sys.executable, "-I", script, source, target], check=True, cwd=script.parent)


def outputs(pair: Any, torch_model: Any, keras_model: Any) -> tuple[Any, Any]:
    """What both models compute in float32, of one batch."""
    (batch, *_) = (b for b, _ in zip(pair.batches(1), range(1), strict=False))
    inputs = batch.inputs if pair.torch.prepare is None else pair.torch.prepare(batch)[0]
    floats = lambda x: x.astype("float32") if x.dtype.kind == "f" else x  # noqa: E731
    with torch.no_grad():
        ours = torch_model.eval()(torch.from_numpy(floats(np.ascontiguousarray(inputs)))).numpy()
    return ours, keras.ops.convert_to_numpy(keras_model(floats(batch.inputs), training=False))


def within_rounding(ours: Any, theirs: Any, model: torch.nn.Module) -> bool:
    """Whether float32 explains how far two outputs are apart: no sum has more terms than a parameter has elements."""
    terms = max(parameter.numel() for parameter in model.parameters())
    return measure(ours, theirs).element <= Noise(terms).allowed(epsilon("float32"))


@pytest.mark.parametrize("name", convertible.PAIRS)
def test_a_checkpoint_goes_there_and_back(name: str, tmp_path: Path) -> None:
    pair = convertible.PAIRS[name]()
    model = checkpoint(pair, tmp_path / "a.safetensors")
    made = xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / "b.weights.h5")
    port = pair.keras.build()
    ours, theirs = outputs(pair, model, port)
    assert np.abs(ours - theirs).max() > 0.1  # fresh weights compute something else
    assert not within_rounding(ours, theirs, model)
    port.load_weights(tmp_path / "b.weights.h5")
    ours, theirs = outputs(pair, model, port)
    assert within_rounding(ours, theirs, model)
    assert {t.dtype for t in made.tensors} == {"float32"}
    assert all(check.verdict == "EQUIVALENT" for check in made.outputs)
    assert made.outputs

    xcheck.convert(pair, tmp_path / "b.weights.h5", tmp_path / "c.safetensors")
    before, after = (load_file(tmp_path / f"{n}.safetensors") for n in "ac")
    inexact = {"lstm.bias_ih_l0", "lstm.bias_hh_l0", "scale.weight", "norm.num_batches_tracked"}
    assert before.keys() == after.keys()
    assert {k for k in before if not torch.equal(before[k], after[k])} <= inexact
    again = pair.torch.build()
    load_model(again, tmp_path / "c.safetensors")
    assert within_rounding(outputs(pair, again, port)[0], theirs, model)


def test_what_is_rounded_is_said_and_what_is_as_built_too(tmp_path: Path) -> None:
    pair = convertible.recurrent()
    model = checkpoint(pair, tmp_path / "a.pt")
    made = xcheck.convert(pair, tmp_path / "a.pt", tmp_path / "b.weights.h5")
    rounded = {t.path: (t.source, t.rounded) for t in made.tensors if t.rounded}
    ((path, (source, error)),) = rounded.items()
    assert path == "net/lstm/lstm_cell/bias"
    assert source == "lstm.bias_ih_l0 + lstm.bias_hh_l0"
    assert 0 < error <= np.finfo(np.float32).eps / 2
    total = (model.lstm.bias_ih_l0.double() + model.lstm.bias_hh_l0.double()).float().detach().numpy()
    assert any(np.array_equal(array, total) for array in datasets(tmp_path / "b.weights.h5").values())
    pair = convertible.convolutions()
    model = checkpoint(pair, tmp_path / "c.safetensors")
    made = xcheck.convert(pair, tmp_path / "c.safetensors", tmp_path / "d.weights.h5")
    held = datasets(tmp_path / "d.weights.h5")
    for wanted in (model.norm.running_mean, model.norm.running_var):
        assert sum(np.array_equal(array, wanted.numpy()) for array in held.values()) == 1
    assert made.left_out == {"norm.num_batches_tracked": "a buffer without counterpart"}
    made = xcheck.convert(pair, tmp_path / "d.weights.h5", tmp_path / "e.safetensors")
    assert [t.key for t in made.tensors if not t.source] == ["norm.num_batches_tracked"]


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
def test_bfloat16_is_kept_in_both_directions(ending: str, tmp_path: Path) -> None:
    pair = convertible.convolutions()
    checkpoint(pair, tmp_path / "a.safetensors", torch.bfloat16)
    script = tmp_path / "s.py" if ending == "weights.h5" else None
    made = xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / f"b.{ending}", script=script)
    if script is not None:
        ran(script, tmp_path / "a.safetensors", tmp_path / "other.weights.h5")
        assert same(datasets(tmp_path / "b.weights.h5"), datasets(tmp_path / "other.weights.h5"))
    assert {t.dtype for t in made.tensors} == {"bfloat16"}
    assert not any(t.rounded for t in made.tensors)
    xcheck.convert(pair, tmp_path / f"b.{ending}", tmp_path / "c.safetensors")
    before, after = (load_file(tmp_path / f"{n}.safetensors") for n in "ac")
    assert all(torch.equal(before[k], after[k]) and before[k].dtype == after[k].dtype for k in before if "num" not in k)
    if ending == "keras":
        loaded = keras.saving.load_model(tmp_path / "b.keras")
        assert {str(v.dtype) for v in loaded.weights} == {"bfloat16"}
        assert not loaded.compiled


def test_a_float_type_that_is_asked_for_rounds_once(tmp_path: Path) -> None:
    pair = convertible.recurrent()
    model = checkpoint(pair, tmp_path / "a.safetensors")
    made = xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / "b.weights.h5", dtype="bfloat16")
    assert all(0 < t.rounded <= 2**-8 for t in made.tensors)
    held = datasets(tmp_path / "b.weights.h5")
    kernel = model.lstm.weight_ih_l0.bfloat16().float().detach().numpy().T
    assert any(
        np.array_equal(array.astype("float32"), kernel) for array in held.values() if array.shape == kernel.shape
    )
    with pytest.raises(PairError, match="Unknown float type"):
        xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / "b.weights.h5", dtype="float8")


def test_a_sharded_checkpoint_is_read_by_its_index(tmp_path: Path) -> None:
    pair = convertible.convolutions()
    state = trained(pair).state_dict()
    where = {key: f"model-{i % 2 + 1}-of-2.safetensors" for i, key in enumerate(state)}
    for shard in set(where.values()):
        save_file({key: state[key] for key in state if where[key] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    torch.save(state, tmp_path / "whole.pt")
    xcheck.convert(pair, index, tmp_path / "a.weights.h5", script=tmp_path / "s.py")
    xcheck.convert(pair, tmp_path / "whole.pt", tmp_path / "b.weights.h5")
    assert same(datasets(tmp_path / "a.weights.h5"), datasets(tmp_path / "b.weights.h5"))
    ran(tmp_path / "s.py", index, tmp_path / "c.weights.h5")
    assert same(datasets(tmp_path / "a.weights.h5"), datasets(tmp_path / "c.weights.h5"))
    (tmp_path / "model-2-of-2.safetensors").unlink()
    with pytest.raises(FileError, match="1 of 2: model-2-of-2"):
        xcheck.convert(pair, index, tmp_path / "d.weights.h5")


@pytest.mark.parametrize(
    ("name", "dtype"), [("convolutions", None), ("language_model", None), ("recurrent", "bfloat16")]
)
def test_the_script_writes_what_convert_writes(name: str, dtype: str | None, tmp_path: Path) -> None:
    pair = convertible.PAIRS[name]()
    checkpoint(pair, tmp_path / "a.safetensors")
    there, back = tmp_path / "b.weights.h5", tmp_path / "c.safetensors"
    xcheck.convert(pair, tmp_path / "a.safetensors", there, script=tmp_path / "s.py", dtype=dtype)
    ran(tmp_path / "s.py", tmp_path / "a.safetensors", tmp_path / "other.weights.h5")
    assert same(datasets(there), datasets(tmp_path / "other.weights.h5"))
    xcheck.convert(pair, there, back, script=tmp_path / "t.py")
    ran(tmp_path / "t.py", there, tmp_path / "other.safetensors")
    first, second = load_file(back), load_file(tmp_path / "other.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) and first[k].dtype == second[k].dtype for k in first)
    load_model(pair.torch.build(), tmp_path / "other.safetensors")


def test_a_tied_weight_is_stored_once_in_safetensors_and_under_both_names_in_a_state_dict(tmp_path: Path) -> None:
    pair = convertible.language_model()
    checkpoint(pair, tmp_path / "a.safetensors")
    xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / "b.weights.h5")
    xcheck.convert(pair, tmp_path / "b.weights.h5", tmp_path / "c.pt")
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    assert state["head.weight"].data_ptr() == state["embed.weight"].data_ptr()
    pair.torch.build().load_state_dict(state)
    state["head.weight"] = state["head.weight"] + 1
    torch.save(state, tmp_path / "untied.pt")
    with pytest.raises(FileError, match="different values for a weight that the model ties"):
        xcheck.convert(pair, tmp_path / "untied.pt", tmp_path / "d.weights.h5")


def test_copies_that_differ_are_no_one_weight(tmp_path: Path) -> None:
    from keras import Input, Model, layers

    def keras_side() -> Any:
        x = Input((4,))
        return Model(x, layers.Dense(4, name="b")(layers.Activation("tanh")(layers.Dense(4, name="a")(x))), name="net")

    def torch_side() -> Any:
        return convertible.module(lambda net, x: net.one(net.one(x).tanh()), one=torch.nn.Linear(4, 4))

    both = {f"one.{ours}": [f"{name}/{theirs}" for name in "ab"]
            for ours, theirs in (("weight", "kernel"), ("bias", "bias"))}  # fmt: skip
    pair = convertible.pair("copies", torch_side, keras_side, lambda rng: rng.standard_normal((3, 4)), weight_map=both)
    checkpoint(pair, tmp_path / "a.safetensors")
    xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / "b.weights.h5")
    xcheck.convert(pair, tmp_path / "b.weights.h5", tmp_path / "c.safetensors")
    port = pair.keras.build()
    port.save_weights(tmp_path / "d.weights.h5")  # two layers, each with its own random weights
    for dtype in (None, "bfloat16"):
        with pytest.raises(FileError, match="several weights with different values"):
            xcheck.convert(pair, tmp_path / "d.weights.h5", tmp_path / "e.safetensors", dtype=dtype)
    assert not (tmp_path / "e.safetensors").exists()


REFUSED: dict[str, tuple[Any, str, str]] = {
    "wrapped": (lambda s: {"state_dict": s, "epoch": 3}, "no weights at its top", "--key state_dict"),
    "prefix": (lambda s: {f"module.{k}": v for k, v in s.items()}, "does not fit this model", "--prefix module."),
    "missing": (lambda s: {k: v for k, v in s.items() if k != "conv.bias"}, "1 missing: conv.bias", "--waive 'conv.*'"),
    "renamed": (
        lambda s: {k.replace("conv", "filter"): v for k, v in s.items()},
        "2 missing: conv.weight, conv.bias; 2 left over: filter.weight",
        "torch.save(model.state_dict()",
    ),
    "left over": (lambda s: {**s, "top.weight": torch.ones(2)}, "1 left over: top.weight", "--waive 'top.*'"),
    "shape": (
        lambda s: {**s, "head.bias": torch.ones(9)},
        r"head.bias: shape \(9,\) in the file, \(5,\) in the model",
        "with the sizes of the checkpoint",
    ),
    "nothing": (lambda s: {"epoch": 3}, "no weights at its top", "torch.save"),
    "whole model": (lambda s: {"f": print}, "contains more than weights", "state_dict()"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_checkpoint_of_another_form_is_one_message_and_no_file(kind: str, tmp_path: Path) -> None:
    change, said, todo = REFUSED[kind]
    pair = convertible.convolutions()
    torch.save(change(trained(pair).state_dict()), tmp_path / "a.pt")
    with pytest.raises(FileError, match=said) as caught:
        xcheck.convert(pair, tmp_path / "a.pt", tmp_path / "b.weights.h5")
    assert todo in (caught.value.parts["next"] or "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt"]


def test_what_the_message_says_helps(tmp_path: Path) -> None:
    pair = convertible.convolutions()
    model = trained(pair)
    state = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save({"model": {**state, "module.top.weight": torch.ones(2)}, "epoch": 3}, tmp_path / "a.pt")
    target = tmp_path / "b.weights.h5"
    made = xcheck.convert(pair, tmp_path / "a.pt", target, key="model", prefix="module.", waive=["module.top.*"])
    assert made.left_out["module.top.weight"] == "waived"
    torch.save(model.state_dict(), tmp_path / "c.pt")
    xcheck.convert(pair, tmp_path / "c.pt", tmp_path / "d.weights.h5")
    assert same(datasets(tmp_path / "b.weights.h5"), datasets(tmp_path / "d.weights.h5"))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.weights.h5", "a.keras", "a.safetensors.index.json"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04" + b"\0" * 40])
def test_a_damaged_file_is_one_message(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    to = "b.weights.h5" if name.endswith((".safetensors", ".pt", ".json")) else "b.safetensors"
    with pytest.raises(FileError):
        xcheck.convert(convertible.recurrent(), tmp_path / name, tmp_path / to)
    assert not (tmp_path / to).exists()


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("a.txt", "b.weights.h5", "cannot be converted"),
        ("a.safetensors", "b.h5", "cannot be converted"),
        ("a.safetensors", "b.pt", "nothing to convert"),
        ("b.weights.h5", "a.safetensors.index.json", "cannot be converted"),
        ("gone.safetensors", "b.keras", "does not exist"),
    ],
)
def test_files_that_cannot_be_meant_are_refused_before_anything_is_built(
    source: str, target: str, said: str, tmp_path: Path
) -> None:
    def never() -> Any:
        raise AssertionError("built")

    pair = xcheck.Pair("none", xcheck.TorchSide(never), xcheck.KerasSide(never), lambda seed: [])
    with pytest.raises((FileError, PairError), match=said):
        xcheck.convert(pair, tmp_path / source, tmp_path / target)


def test_a_match_that_is_open_converts_nothing(tmp_path: Path) -> None:
    pair = convertible.convolutions()
    checkpoint(pair, tmp_path / "a.safetensors")

    def other() -> Any:
        net = pair.torch.build()
        net.spare = torch.nn.Linear(3, 3)
        return net

    spare = replace(pair, torch=replace(pair.torch, build=other))
    checkpoint(spare, tmp_path / "b.safetensors")
    with pytest.raises(UnprovenError, match=r"(?s)unmatched  torch spare\.weight.*--waive 'spare\.weight'"):
        xcheck.convert(spare, tmp_path / "b.safetensors", tmp_path / "c.weights.h5")
    waived = {f"spare.{n}": xcheck.waive("not ported") for n in ("weight", "bias")}
    made = xcheck.convert(replace(spare, weight_map=waived), tmp_path / "b.safetensors", tmp_path / "c.weights.h5")
    assert made.left_out["spare.weight"] == "not ported"
    made = xcheck.convert(spare, tmp_path / "b.safetensors", tmp_path / "c.weights.h5", waive=["spare.*"])
    assert made.left_out["spare.bias"] == "waived"


@pytest.mark.parametrize(("layout", "epsilon"), [("identity", 1e-5), ("transpose", 1e-3)])
def test_models_that_differ_with_these_weights_are_not_converted(layout: str, epsilon: float, tmp_path: Path) -> None:
    checkpoint(convertible.square("transpose"), tmp_path / "a.safetensors")
    with pytest.raises(xcheck.InequivalenceError, match="do not compute the same"):
        xcheck.convert(convertible.square(layout, epsilon), tmp_path / "a.safetensors", tmp_path / "b.weights.h5")
    xcheck.convert(convertible.square("transpose"), tmp_path / "a.safetensors", tmp_path / "c.weights.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "c.weights.h5"]


def test_a_map_that_is_wrong_is_seen_though_this_checkpoint_hides_it(tmp_path: Path) -> None:
    from keras import Input, Model, layers

    def torch_side() -> Any:
        net = convertible.module(
            lambda net, x: net.a(x) * net.b(x).tanh(), a=torch.nn.Linear(4, 4), b=torch.nn.Linear(4, 4)
        )
        net.b.load_state_dict(net.a.state_dict())
        return net

    def keras_side() -> Any:
        x = Input((4,))
        a, b = layers.Dense(4, name="a")(x), layers.Dense(4, name="b")(x)
        return Model(x, layers.Multiply()([a, layers.Activation("tanh")(b)]), name="net")

    def pair(*names: str) -> Any:
        layers = {f"{ours}.{n}": f"{theirs}/{m}" for ours, theirs in zip("ab", names, strict=True)
                  for n, m in (("weight", "kernel"), ("bias", "bias"))}  # fmt: skip
        return convertible.pair("two", torch_side, keras_side, lambda r: r.standard_normal((3, 4)), weight_map=layers)

    torch.save(torch_side().state_dict(), tmp_path / "a.pt")
    xcheck.convert(pair("a", "b"), tmp_path / "a.pt", tmp_path / "b.weights.h5")
    with pytest.raises(UnprovenError, match="not proven"):
        xcheck.convert(pair("b", "a"), tmp_path / "a.pt", tmp_path / "c.weights.h5")
    assert not (tmp_path / "c.weights.h5").exists()


def test_a_buffer_that_matters_and_has_no_counterpart_is_not_lost_in_silence(tmp_path: Path) -> None:
    from keras import Input, Sequential, layers

    def torch_side() -> Any:
        net = convertible.module(lambda net, x: net.one(x) * net.scale, one=torch.nn.Linear(4, 4))
        net.register_buffer("scale", torch.ones(()))
        return net

    def keras_side() -> Any:
        return Sequential([Input((4,)), layers.Dense(4, name="d")], name="net")

    pair = convertible.pair("scale", torch_side, keras_side, lambda rng: rng.standard_normal((3, 4)))
    torch.save(torch_side().state_dict(), tmp_path / "a.pt")
    xcheck.convert(pair, tmp_path / "a.pt", tmp_path / "b.weights.h5")  # a factor of one
    checkpoint(pair, tmp_path / "c.pt")
    with pytest.raises(xcheck.InequivalenceError, match="without counterpart: scale"):
        xcheck.convert(pair, tmp_path / "c.pt", tmp_path / "d.weights.h5")


def test_a_constant_that_a_file_rounds_is_no_loss(tmp_path: Path) -> None:
    from keras import Input, Sequential, layers

    def torch_side() -> Any:
        net = convertible.module(lambda net, x: net.one(x) * net.scale, one=torch.nn.Linear(4, 4))
        net.register_buffer("scale", torch.tensor([1 / 3]))  # in float64 another number than in float32
        return net

    def keras_side() -> Any:
        return Sequential([Input((4,)), layers.Dense(4, name="d"), layers.Rescaling(1 / 3)], name="net")

    pair = convertible.pair("scale", torch_side, keras_side, lambda rng: rng.standard_normal((3, 4)))
    torch.save(torch_side().state_dict(), tmp_path / "a.pt")
    xcheck.convert(pair, tmp_path / "a.pt", tmp_path / "b.weights.h5")
    made = xcheck.convert(pair, tmp_path / "b.weights.h5", tmp_path / "c.pt")
    assert [t.key for t in made.tensors if not t.source] == ["scale"]
    torch_side().load_state_dict(torch.load(tmp_path / "c.pt", weights_only=True))
    assert torch.equal(torch.load(tmp_path / "c.pt", weights_only=True)["scale"], torch_side().scale)


def test_a_port_that_differs_is_said_to_be_mended_first(tmp_path: Path) -> None:
    pair = replace(convertible.square("transpose", epsilon=1e-3), weight_map=None)
    checkpoint(pair, tmp_path / "a.pt")
    with pytest.raises(UnprovenError, match="not proven") as caught:
        xcheck.convert(pair, tmp_path / "a.pt", tmp_path / "b.weights.h5")
    assert "fix the port" in (caught.value.parts["next"] or "")


def test_a_class_that_a_keras_file_cannot_name_is_said(tmp_path: Path) -> None:
    pair = convertible.language_model()
    checkpoint(pair, tmp_path / "a.safetensors")
    with pytest.raises(UserCodeError, match="register"):
        xcheck.convert(pair, tmp_path / "a.safetensors", tmp_path / "b.keras")
    assert not (tmp_path / "b.keras").exists()


@pytest.mark.parametrize(("source", "target"), [("a.pt", "b.weights.h5"), ("a.safetensors", "b.keras")])
def test_a_script_that_cannot_be_is_refused(source: str, target: str, tmp_path: Path) -> None:
    pair = convertible.recurrent()
    checkpoint(pair, tmp_path / source)
    with pytest.raises(PairError, match="script"):
        xcheck.convert(pair, tmp_path / source, tmp_path / target, script=tmp_path / "s.py")
    assert [p.name for p in tmp_path.iterdir()] == [source]


PAIR_FILE = "import convertible\nPAIR = convertible.convolutions()\n"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = tmp_path / "xcheck-results" / "convolutions" / "result.json"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    pair, a, b = str(tmp_path / "port.py"), str(tmp_path / "a.safetensors"), str(tmp_path / "b.weights.h5")
    Path(pair).write_text(PAIR_FILE)
    checkpoint(convertible.convolutions(), Path(a))
    assert run("convert", pair, "--from", a, "--to", b) == 0
    out = capsys.readouterr().out
    assert f"written   {b}: 12 tensors in float32" in out
    assert "left out  norm.num_batches_tracked: a buffer without counterpart" in out
    assert run("convert", pair, "--from", a, "--to", b, "--json", "-") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["target"] == b
    assert len(said["tensors"]) == 12
    assert said["outputs"][0]["verdict"] == "EQUIVALENT"
    assert earlier.exists()  # of a check; a conversion replaces none


def test_the_exit_codes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair, a, b = tmp_path / "port.py", tmp_path / "a.pt", str(tmp_path / "b.weights.h5")
    pair.write_text(
        "import convertible\n"
        "WRONG = convertible.square('identity')\n"
        "OPEN = convertible.square('transpose')\n"
        "OPEN = type(OPEN)(OPEN.name, OPEN.torch, OPEN.keras, OPEN.batches, weight_map={'0.bias': 'net/n/beta'})\n"
    )
    checkpoint(convertible.square("transpose"), a)
    codes = {
        name: run("convert", f"{pair}:{name}", "--from", str(a), "--to", b, "--json", "-") for name in ("WRONG", "OPEN")
    }
    assert codes == {"WRONG": 1, "OPEN": 3}
    first, second = capsys.readouterr().out.split("}\n{")
    assert "do not compute the same" in first
    assert "the match of the parameters is not proven" in second
    assert run("convert", f"{pair}:WRONG", "--from", str(a), "--to", str(tmp_path / "x.bmp")) == 2
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(MatchError):  # of which the open match is a kind
        raise UnprovenError("open")
