"""A fix as an edit of one call: only where the call, its class and its arguments are known."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar

import pytest

from xcheck.frameworks.construction import site_of
from xcheck.phases.edits import located
from xcheck.records.result import Cause
from xcheck.records.sites import LOSS, OPTIMIZER, Site


class Norm:
    """Notes where it is constructed, as a framework's class does."""

    sites: ClassVar[dict[str, tuple[Site, ...]]] = {}

    def __init__(self, axis: int = -1, epsilon: float = 1e-3, center: bool = True) -> None:
        site = site_of(self)
        assert site is not None
        Norm.sites = {"norm": (site,)}


class Own(Norm):
    def __init__(self, epsilon: float) -> None:
        super().__init__(epsilon=epsilon)


def edits_of(source: str, fix: str, tmp_path: Path, *, keys: str = "norm", **cause: Any) -> list[dict[str, Any]]:
    path = tmp_path / "port.py"
    path.write_text(source)
    exec(compile(source, str(path), "exec"), {"Norm": Norm, "Own": Own, "EPS": 1e-3, "each": {"epsilon": 1e-3}})
    sites = {keys: Norm.sites["norm"]}
    fields = {"id": "epsilon", "phase": "forward", "torch": "2", "keras": "net/norm", "confirmed": True, **cause}
    code, edits = located(Cause(**fields, summary="", fix=fix), {"torch": {}, "keras": sites}, "keras")
    assert code["keras"]["file"] == str(path)
    for edit in edits:
        assert edit["before"] in source.splitlines(keepends=True)[edit["line"] - 1] + source.partition("\n")[2]
    return edits


FIX = "keras: net/norm: epsilon=1e-05, or torch: 2: eps=0.001"


@pytest.mark.parametrize(
    ("source", "fix", "after"),
    [
        ("x = Norm()", FIX, "Norm(epsilon=1e-05)"),
        ("x = [Norm(), Norm(-1)]", FIX, "Norm(-1, epsilon=1e-05)"),
        ("x = Norm(-1, EPS)", FIX, "Norm(-1, 1e-05)"),
        ("x = Norm(epsilon=EPS, axis=2)", FIX, "Norm(epsilon=1e-05, axis=2)"),
        ("é = 'ü'; x = [é, Norm(-1,)]", FIX, "Norm(-1, epsilon=1e-05)"),
        (
            "x = Norm(\n    -1,  # axis (last)\n    epsilon=EPS,\n)",
            FIX,
            "Norm(\n    -1,  # axis (last)\n    epsilon=1e-05,\n)",
        ),
        ("x = Own(EPS)", FIX, "Own(1e-05)"),
        ("x = Norm()", "keras: Norm(0), or torch: Norm(1)", "Norm(axis=0)"),
        ("x = Norm()", "keras: keras.layers.Norm(epsilon=1e-05, center=True)", "Norm(epsilon=1e-05)"),
        ("import opt\nx = Norm()".replace("import opt\n", ""), "keras: other.Name(rate=1)", None),
        ("import os\nx = Norm()", "keras: os.Name(rate=1), or torch: Name()", "os.Name(rate=1)"),
        ("def f():\n    import os\nx = Norm()", "keras: os.Name(rate=1)", None),
        ("x = Norm(epsilon=1e-05)", FIX, None),
        ("x = Norm(**each)", FIX, None),
        ("x = Norm()", "keras: net/norm: no such words, or torch: 2: eps=0.001", None),
        ("x = Norm()", "keras: net/norm: width=3", None),
        ("x = Norm()", "keras: net/norm: epsilon=schedule", None),
        ("x = Norm()", "torch: 2: eps=0.001", None),
        ("make = lambda k: k()\nx = make(Norm)", FIX, None),
    ],
)
def test_the_edit_of_a_call(source, fix, after, tmp_path) -> None:
    edits = edits_of(source, fix, tmp_path)
    assert [edit["after"] for edit in edits] == ([] if after is None else [after])


def test_what_is_not_confirmed_has_a_place_and_no_edit(tmp_path) -> None:
    assert edits_of("x = Norm()", FIX, tmp_path, confirmed=False) == []


@pytest.mark.parametrize(("phase", "key"), [("update", OPTIMIZER), ("loss", LOSS)])
def test_optimizers_and_losses_have_places_of_their_own(phase, key, tmp_path) -> None:
    fix = "keras: keras.optimizers.Norm(epsilon=1e-05), or torch: optim.Norm(parameters)"
    (edit,) = edits_of("x = Norm()", fix, tmp_path, keys=key, phase=phase, keras="Norm")
    assert (edit["after"], edit["constructs"]) == ("Norm(epsilon=1e-05)", 1)


def test_two_places_of_one_name_are_no_place() -> None:
    site = Site("a.py", 1, 0, 1, 6, "Norm")
    both = {"norm": (site, Site("b.py", 1, 0, 1, 6, "Norm"))}
    cause = Cause("epsilon", "forward", "2", "net/norm", "", confirmed=True, fix=FIX)
    assert located(cause, {"torch": {}, "keras": both}, "keras") == ({}, [])


def test_a_file_that_changed_since_has_no_edit(tmp_path) -> None:
    path = tmp_path / "port.py"
    path.write_text("x = 1\n")
    site = Site(str(path), 4, 0, 4, 6, "Norm", {"epsilon": 1e-3})
    cause = Cause("epsilon", "forward", "2", "net/norm", "", confirmed=True, fix=FIX)
    code, edits = located(cause, {"torch": {}, "keras": {"norm": (site,)}}, "keras")
    assert (code["keras"]["line"], edits) == (4, [])


def test_a_place_is_the_exact_call() -> None:
    line = inspect.currentframe().f_lineno + 1  # pyright: ignore[reportOptionalMemberAccess]
    Own(
        0.1,
    )
    (site,) = Norm.sites["norm"]
    assert (site.kind, site.line, site.end_line, site.file) == ("Own", line, line + 2, __file__)
