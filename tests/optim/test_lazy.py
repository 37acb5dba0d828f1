"""`import xcheck.optim` brings in no framework, and a name only its own."""

import subprocess
import sys

import pytest

import xcheck.optim


def test_only_what_is_needed():
    frameworks = "{'torch', 'keras', 'tensorflow', 'jax'} & {*sys.modules}"
    code = f"import sys, xcheck.optim\nprint({frameworks})\nxcheck.optim.KerasAdam\nprint({frameworks})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["set()", "{'torch'}"]  # the other way: test_like_torch.test_other_backends


def test_every_name_is_there():
    assert dir(xcheck.optim) == sorted(xcheck.optim.__all__)
    for name in xcheck.optim.__all__:
        assert getattr(xcheck.optim, name)
    of_both = [*dir(xcheck.optim.torch), *dir(xcheck.optim.keras)]
    for name in xcheck.optim.__all__:
        assert name in ("keras", "torch") or name in of_both


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="KerasLion"):
        xcheck.optim.KerasLion  # noqa: B018
