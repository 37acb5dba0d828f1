"""The wheel in environments that hold what it asks for and nothing else: with no framework, with one, with both."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORKS = ("torch", "keras", "tensorflow", "jax")
EXTRAS: dict[str, tuple[str, ...]] = {
    "none": (),
    "torch": ("torch",),
    "keras": ("tensorflow",),
    "both": ("torch", "tensorflow"),
}
"""What is installed -> the extras that install it."""

EXTRA = {"torch": "torch", "keras": "tensorflow"}
"""Module -> the extra that a message names for it."""

Installed = tuple[Path, Path]
"""The programs of an environment, and the folder to work in."""

pytestmark = pytest.mark.slow


def needed(distribution: importlib.metadata.Distribution, extras: tuple[str, ...]) -> set[str]:
    """The distributions that the metadata of one asks for, and those that these ask for."""
    found: set[str] = set()
    ahead = [(distribution, extras)]
    while ahead:
        asking, wanted = ahead.pop()
        for asked in map(Requirement, asking.requires or ()):
            usable = asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in ("", *wanted))
            if usable and (asked.name not in found or asked.extras):
                found.add(asked.name)
                ahead.append((importlib.metadata.distribution(asked.name), tuple(asked.extras)))
    return found


def environment(folder: Path, wheel: Path, extras: tuple[str, ...]) -> Path:
    """A virtual environment with the wheel, and links to what its metadata asks for; returns its programs."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    (ours,) = importlib.metadata.distributions(name="xcheck-ports", path=[str(site)])
    for name in needed(ours, extras):
        held = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in held.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(held.locate_file(top))))
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("xcheck_ports-*.whl")
    return built


def run(installed: Installed, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    programs, folder = installed
    clean = {"PATH": str(programs), "HOME": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}
    command = [str(programs / program), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=clean, check=False)
    assert "Traceback" not in ended.stdout + ended.stderr, ended.stderr
    return ended


@pytest.mark.parametrize("which", EXTRAS)
def test_every_command_works_or_says_what_to_install(which: str, wheel: Path, tmp_path: Path) -> None:
    installed = environment(tmp_path / "venv", wheel, EXTRAS[which]), tmp_path
    held, missing = {
        "none": ([], ("torch", "keras")),
        "torch": (["torch"], ("keras",)),
        "keras": (["keras", "tensorflow"], ("torch",)),
        "both": (["torch", "keras", "tensorflow"], ()),
    }[which]
    code = f"import importlib.util as u, xcheck; print(xcheck.__file__, [n for n in {FRAMEWORKS} if u.find_spec(n)])"
    place, _, frameworks = run(installed, "python", "-c", code).stdout.strip().partition(" ")
    assert (Path(place).is_relative_to(tmp_path), frameworks) == (True, str(held))

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(installed, "xcheck", "--version").stdout == f"xcheck {version}\n"
    assert "Says whether a Keras port" in run(installed, "xcheck", "--help").stdout
    none_here = run(installed, "xcheck", "list")
    assert (none_here.returncode, "Write one with: xcheck new NAME" in none_here.stdout) == (0, True)
    assert all(name in none_here.stdout for name in ("dense", "wrong_epsilon", "wrong_rate"))

    shown = run(installed, "xcheck", "example", "wrong_rate", "--quiet")
    if missing:
        assert (shown.returncode, shown.stdout) == (2, "")
        assert f"{missing[0]} is not installed here." in shown.stderr
    else:
        assert (shown.returncode, shown.stdout.split()[0]) == (0, "DIFFERENT"), shown.stdout + shown.stderr

    written = run(installed, "xcheck", "new", "my_port")
    assert (written.returncode, "xcheck run my_port.py" in written.stdout) == (0, True)
    quickly = ("--steps", "1", "--precision", "float64", "--phases", "forward,loss,gradient,update")
    ended = run(installed, "xcheck", "run", "my_port.py", *quickly)
    if missing:
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"{missing[0]} is not installed here." in ended.stderr
        assert f"pip install 'xcheck-ports[{EXTRA[missing[0]]}]'" in ended.stderr
    else:
        assert (ended.returncode, ended.stdout.split()[0]) == (0, "EQUIVALENT"), ended.stdout + ended.stderr

    doctor = run(installed, "xcheck", "doctor")
    assert doctor.returncode == bool(missing), doctor.stdout
    for name in EXTRA:
        advised = f"  {name}: pip install 'xcheck-ports[{EXTRA[name]}]'" in doctor.stdout
        watched = re.search(rf"^    {name}.*: .* ok$", doctor.stdout, re.MULTILINE) is not None  # by its canaries
        assert (advised, watched) == (name in missing, name not in missing), doctor.stdout


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"xcheck", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
