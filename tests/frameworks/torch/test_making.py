"""PyTorch models as people build them: loaded from files, whole after a first call, scripted, with any names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xcheck
from xcheck.errors import PairError
from xcheck.frameworks.torch.making import switched
from xcheck.frameworks.torch.patches.precision import Float64Throughout
from xcheck.frameworks.torch.runner import TorchRunner
from xcheck.frameworks.torch.variables import inventory
from xcheck.records.islands import Islands

SCRIPTS = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
QUICK: dict[str, Any] = {"steps": 1, "precision": ("float64",), "free_steps": 0}


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((6, 4)))


def runner(build: Any) -> TorchRunner:
    side = TorchRunner(xcheck.TorchSide(build), precision="float64", device="cpu", seed=0)
    side.prime(next(batches(0)))
    return side


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def keras_net() -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(2)])


def check(build: Any) -> xcheck.Result:
    return xcheck.check(xcheck.Pair("made", xcheck.TorchSide(build), xcheck.KerasSide(keras_net), batches), **QUICK)


def old_file(state: Any, path: Path) -> Any:
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return torch.load(path)


def whole_module(state: Any, path: Path) -> Any:
    torch.save(net(), path)
    return torch.load(path, weights_only=False).state_dict()


def safetensors_slices(state: Any, path: Path) -> Any:
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_file(state, path)
    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name)[:] for name in file.keys()}  # noqa: SIM118 - a file, not a dict


def raw_bytes(state: Any, path: Path) -> Any:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        path.write_bytes(tensor.numpy().tobytes())
        data = bytearray(path.read_bytes())
        found[name] = torch.asarray(memoryview(data), dtype=torch.float32).reshape(tensor.shape)
    return found


def viewed_bytes(state: Any, path: Path) -> Any:
    return {n: torch.tensor(list(t.numpy().tobytes()), dtype=torch.uint8).view(torch.float32).reshape(t.shape)
            for n, t in state.items()}  # fmt: skip


def from_file(state: Any, path: Path) -> Any:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        own = path.with_name(name)
        tensor.numpy().tofile(own)
        found[name] = torch.from_file(str(own), size=tensor.numel(), dtype=torch.float32).reshape(tensor.shape)
    return found


@pytest.mark.parametrize("read", [old_file, whole_module, safetensors_slices, raw_bytes, viewed_bytes, from_file])
@pytest.mark.parametrize("assign", [False, True])
def test_weights_that_build_reads_from_a_file_are_those_of_the_file(tmp_path: Path, read: Any, assign: bool) -> None:
    seen: dict[str, torch.Tensor] = {}
    state = {name: torch.full_like(t, 0.1 + i) for i, (name, t) in enumerate(net().state_dict().items())}

    def build() -> nn.Module:
        model = net()
        seen.update(read(state, tmp_path / "weights"))
        model.load_state_dict(seen, assign=assign)
        return model

    side = runner(build)
    for path, value in side.read().parameters.items():
        assert value.dtype == np.float64
        assert np.array_equal(value, seen[path].double().numpy())
        if read is not whole_module:
            assert len(np.unique(value)) == 1


def test_a_cast_by_name_is_still_kept_in_float64() -> None:
    with Float64Throughout(Islands(lambda *_: None)):
        x = torch.linspace(0, 1, 5, dtype=torch.float64) / 3
        assert x.to(torch.float32).dtype == x.float().dtype == torch.float64
        assert torch.asarray([0.1], dtype=torch.float32).dtype == torch.float64
        assert torch.zeros(4, dtype=torch.uint8).view(torch.float32).shape == (1,)


def test_lazy_modules_get_their_shapes_before_anything_is_compared() -> None:
    result = check(lambda: nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(2)))
    result.assert_equivalent()
    assert result.coverage["parameters"]["matched"] == 4


class MadeAtFirstCall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 2)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if not hasattr(self, "w"):
            self.w = nn.Parameter(torch.randn(x.shape[-1], 5))
            self.b = nn.Parameter(torch.zeros(5))
        return self.head(torch.tanh(x @ self.w + self.b))


def test_parameters_that_a_first_call_makes_are_trained_and_compared() -> None:
    side = runner(MadeAtFirstCall)
    holdings = side.holdings()
    assert holdings is not None
    assert set(holdings.listed) == {"w", "b", "head.weight", "head.bias"}
    check(MadeAtFirstCall).assert_equivalent()


def test_a_model_that_makes_parameters_at_every_call_is_refused_with_their_names() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            number = len(list(self.parameters()))
            self.register_parameter(f"p{number}", nn.Parameter(torch.zeros(2)))
            return self.a(x)

    with pytest.raises(PairError, match="at every call") as error:
        runner(Growing)
    assert "created by the first call: p2; by the second: p3" in str(error.value)


def test_the_first_call_leaves_a_model_that_makes_nothing_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.calls = nn.Linear(4, 2), 0
            self.register_buffer("seen", torch.zeros(2))
            self.register_buffer("last", torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            y = self.a(x)
            self.seen += y.detach().sum(0)
            self.last = y.detach()[0]
            return y

    side = runner(Counting)
    assert side.model.calls == 0
    assert not side.model.seen.any()
    assert not side.model.last.any()
    with switched(side.model, False):
        side.model(torch.ones(1, 4, dtype=torch.float64))
    assert not side.model.seen.any()
    assert not side.model.last.any()


@pytest.mark.parametrize("part", ["all", "a buffer"])
def test_a_model_on_the_meta_device_is_refused_with_what_lacks_values(part: str) -> None:
    def build() -> nn.Module:
        model = nn.Linear(4, 2, device="meta" if part == "all" else None)
        model.register_buffer("table", torch.zeros(3, device="meta"))
        return model

    with pytest.raises(PairError, match="meta device") as error:
        runner(build)
    assert ("3 of 3: weight, bias, table" if part == "all" else "1 of 3: table") in str(error.value)


def test_a_model_made_on_the_meta_device_and_loaded_is_a_model() -> None:
    def build() -> nn.Module:
        with torch.device("meta"):
            model = net()
        model.load_state_dict(net().state_dict(), assign=True)
        return model

    check(build).assert_equivalent()


class Shadowed(nn.Module):
    """Submodules under the names of what modules have; `training` takes the place of the flag."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        for name, module in zip(names, (nn.Linear(4, 5), nn.Linear(5, 2)), strict=True):
            setattr(self, name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (self._modules[name] for name in self.names)
        return second(torch.tanh(first(x)))


@pytest.mark.parametrize(
    "names", [("parameters", "weight"), ("training", "buffers"), ("register_forward_hook", "modules")]
)
def test_submodules_may_have_the_names_of_methods_and_flags(names: tuple[str, str]) -> None:
    check(lambda: Shadowed(*names)).assert_equivalent()


def test_names_may_hold_dots_brackets_and_markup() -> None:
    def build() -> nn.Module:
        model = nn.Sequential()
        for name, module in (("a[0]", nn.Linear(4, 5)), ("<b>", nn.Tanh()), ("[bold]x[/bold]", nn.Linear(5, 2))):
            model.add_module(name, module)
        model._modules["d.e"] = model._modules.pop("[bold]x[/bold]")
        return model

    result = check(build)
    result.assert_equivalent()
    assert "a[0].weight" in {c.torch for c in result.checks}
    assert "d.e.weight" in {c.torch for c in result.checks}


@SCRIPTS
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, 4)), nn.DataParallel])
def test_scripted_traced_and_wrapped_models_are_run(make: Any) -> None:
    check(lambda: make(net())).assert_equivalent()


@SCRIPTS
def test_a_scripted_module_within_another_is_run_and_known_by_what_it_was() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 2))
    assert [e.kind for e in inventory(model).entries] == ["Linear"] * 4
    check(lambda: nn.Sequential(torch.jit.script(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 2))).assert_equivalent()


@SCRIPTS
def test_a_scripted_model_that_is_another_is_different() -> None:
    result = check(lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))))
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "forward"
