"""What is said of a difference that nothing explains: where it is, what is known of it, and a script that shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import layer_cases
import numpy as np
import pytest
from layer_cases import SEQUENCE, Case, as_module, looked_into, pair_of

from xcheck import Result
from xcheck.causes.forward.unexplained import statistics
from xcheck.cli import main

UNKNOWN = Case(
    "unexplained",
    lambda t: as_module(lambda x: t.atan(x)),
    lambda k, x: k.ops.arcsinh(x),
    SEQUENCE,
)

VALUE = np.random.default_rng(0).standard_normal((3, 8, 8, 4))


def known(other: np.ndarray, **masks: np.ndarray) -> str:
    return "; ".join(str(v) for k, v in statistics(VALUE, other, 1e-12, masks) if k.startswith("it "))


def changed(*where: object) -> np.ndarray:
    other = VALUE.copy()
    other[where] += np.random.default_rng(1).standard_normal(other[where].shape)
    return other


def test_it_says_how_the_numbers_differ():
    edge = changed(slice(None), 0)
    mask = np.array([True, True, False])
    assert "keras is 1.25 times torch" in known(1.25 * VALUE)
    assert "keras is torch plus 0.5" in known(VALUE + 0.5)
    assert "in a different order" in known(VALUE[:, ::-1])
    assert "to the power of 3" in known(VALUE + 1e-3 * VALUE**3)
    assert known(edge) == "only at the border of axis 1 of torch's tensor"
    assert "only where padding is false" in known(changed(2), padding=mask)
    assert "only at 3, 5 along axis 2" in known(changed(slice(None), slice(None), [3, 5]))
    assert known(VALUE + 1e-3 * np.random.default_rng(2).standard_normal(VALUE.shape)) == ""


def test_a_corner_on_two_axes_is_the_border():
    other = VALUE + 1.0
    other[:, 1:-1, 1:-1] = VALUE[:, 1:-1, 1:-1]
    assert "only at the border of axes 1 and 2" in known(other)


@pytest.mark.slow
def test_what_nothing_explains_is_said_and_can_be_seen_again(tmp_path):
    result = looked_into(pair_of(UNKNOWN))
    (cause,) = result.causes
    assert (cause.id, cause.confirmed, cause.torch, cause.keras) == ("unexplained", False, "0", "(the model): arcsinh")
    assert "atan in torch and arcsinh in keras" in cause.summary
    assert cause.evidence["differing"] == "96 of 96"
    for shown in (result.report(), result.to_html(tmp_path / "report.html").read_text()):
        assert "no known cause fits" in " ".join(shown.split())
        assert "reproduce.py" in shown
    assert Result.from_dict(result.to_dict()) == result
    assert result.reproduction is not None
    script = result.reproduction.write(tmp_path)
    with np.load(tmp_path / "reproduce.npz", allow_pickle=False) as saved:
        assert saved["torch output"].shape == SEQUENCE
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    observed, torch, keras = (float(line.rpartition(": ")[2].split()[0]) for line in done.stdout.splitlines())
    assert observed > 1e-2
    assert torch < 1e-15
    assert keras < 1e-15


def test_the_command_writes_the_script(tmp_path, capsys):
    tests = Path(__file__).parent, Path(layer_cases.__file__).parent
    pair = tmp_path / "pair.py"
    pair.write_text(
        f"import sys\nsys.path[:0] = {[str(folder) for folder in tests]!r}\n"
        "from test_unexplained import UNKNOWN\nfrom layer_cases import pair_of\nPAIR = pair_of(UNKNOWN)\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(
            ["run", str(pair), "--steps", "1", "--precision", "float64", "--phases", "forward", "--out", str(tmp_path)]
        )
    assert ended.value.code == 1
    assert (tmp_path / "reproduce.py").is_file()
    assert (tmp_path / "reproduce.npz").is_file()
