"""The rules of the house (CONTRIBUTING.md): who may import whom, and what every file of it keeps to.

Each rule is a function from source text to a list of findings, so that each can be shown to find something.
"""

import ast
import fnmatch
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import xcheck

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "xcheck").rglob("*.py"))}

FLOORS = (
    ("errors",),
    ("records", "optim"),
    ("layouts",),
    ("numerics", "report"),
    ("pairs",),
    ("matching",),
    ("frameworks",),
    ("stepping",),
    ("onnx",),
    ("phases",),
    ("causes",),
    ("check",),
    ("cli", "pytest_plugin", "__main__", "__init__"),
)
"""Bottom first. A module may import from its own room, and from rooms on floors below."""

ROOMS = 18
"""Entries of `xcheck/` at most: a reader sees the way of the data in one look."""

SHARED = (
    "user_arguments",
    "canary",
    "checkpoints",
    "compared_outputs",
    "construction",
    "drawing",
    "numpy_precision",
    "optimizers",
    "passes",
    "protocol",
    "quiet",
    "step_as_pass",
    "step_terms",
    "tree",
)
KEPT = ("averages", "containers", "counters", "function_state", "reachable")
OF_EVERY_SIDE = tuple(f"frameworks.{name}" for name in sorted(SHARED + KEPT))

NARROWER = {
    "report": ("report", "records", "errors"),
    "optim": ("optim", "errors"),
    "frameworks.torch.*": (*OF_EVERY_SIDE, "frameworks.torch"),
    "frameworks.keras.*": (*OF_EVERY_SIDE, "frameworks.keras"),
    "frameworks.fake.*": ("frameworks.protocol", "frameworks.tree", "frameworks.fake"),
}
"""What some modules may import of the package: of all of it, or, for the sides, of `frameworks`; first match counts."""

LAZY = {
    ("report.result", "report"): "a result loads its renderers only when it is shown",
    ("frameworks.sides", "frameworks.torch.*"): "a pair without PyTorch needs none installed",
    ("frameworks.sides", "frameworks.keras.*"): "a pair without Keras needs none installed",
    ("pytest_plugin", "*"): "a test session without pairs pays nothing",
    ("cli", "cli"): "xcheck.record and xcheck.verify need no command line",
}
"""Imports that must be inside a function, and why."""

CONCRETE_SIDES = ("frameworks.torch", "frameworks.keras", "frameworks.fake")
"""Chosen in `frameworks.sides` only; everybody else knows the protocol."""

ONNX = ("onnx", "onnxruntime", "onnxscript", "onnx_ir", "tf2onnx")
BACKENDS = ("tensorflow", "jax", "torch")
"""Of Keras; a Keras side imports the one that is there, in a function."""

FRAMEWORKS = ("torch", "keras", "tensorflow", "jax", *ONNX)
OWN_FRAMEWORK = {
    "frameworks.torch": ("torch",),
    "frameworks.keras.export": ("keras", *BACKENDS, "tf2onnx"),
    "frameworks.keras": ("keras", *BACKENDS),
    "optim.torch": ("torch",),
    "optim.keras": ("keras",),
    "onnx": ONNX,
    "causes.export": ONNX,
    "frameworks.importing": ("tensorflow",),  # early, to keep the lines that its C++ code prints off the screen
}
"""Who may import which framework."""

BY_NAME = ("__import__", "import_module")
ONLY_LAZILY = ("tensorflow", "jax", *ONNX)
OUTSIDE = ("models", "tests", "scripts")


@dataclass(frozen=True)
class Import:
    """One name that a module imports.

    Attributes:
        target: dotted; of the package itself without its name ("sides.base.Runner").
        inside: of the package itself.
        lazy: in a function. typing: for type checkers alone.
    """

    target: str
    inside: bool
    line: int
    lazy: bool
    typing: bool


def module_of(path: str) -> str:
    """ "xcheck/sides/base.py" -> "sides.base", "xcheck/sides/__init__.py" -> "sides", the package -> "__init__"."""
    parts = path.removesuffix(".py").split("/")[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def imports(path: str, source: str) -> tuple[Import, ...]:
    """Every import of a file, also by `__import__` or `import_module` of a literal name."""
    package = path.removesuffix(".py").split("/")[:-1]

    def walk(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{start}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        for name in names:
            top, _, rest = name.partition(".")
            yield Import(rest if top == "xcheck" else name, top == "xcheck", getattr(node, "lineno", 0), lazy, typing)
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for field, value in ast.iter_fields(node):
            guarded = isinstance(node, ast.If) and field == "body" and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, lazy, typing or guarded)

    return tuple(walk(ast.parse(source), False, False))


def matches(name: str, patterns: tuple[str, ...] | str) -> bool:
    """Whether a dotted name is, or is inside, what one of the patterns names."""
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatch.fnmatch(name, form) for pattern in patterns for form in (pattern, f"{pattern}.*"))


def floor(name: str) -> int | None:
    return next((i for i, rows in enumerate(FLOORS) if name.split(".")[0] in rows), None)


def violations(sources: Mapping[str, str]) -> list[str]:
    """What breaks the rules of the house.

    Args:
        sources: path of a file, as "xcheck/report/html.py" -> its text.
    """
    found: list[str] = []
    for path, source in sources.items():
        module = module_of(path)
        if floor(module) is None:
            found.append(f"{path}: has no place in the house; give it one in FLOORS")
            continue
        for item in imports(path, source):
            broken = _inside(module, item) if item.inside else _outside(module, item)
            if broken:
                found.append(f"{path}:{item.line}: {broken}")
    return found + _cycles(sources)


def _inside(module: str, item: Import) -> str | None:
    mine, theirs = floor(module), floor(item.target)
    if theirs is None:
        return f"imports {item.target!r}, which has no place in the house"
    assert mine is not None
    lazily = any(module == who and matches(item.target, what) for who, what in LAZY)
    if lazily and not (item.lazy or item.typing):
        return f"imports {item.target} at the top; it must be inside a function"
    if theirs > mine:
        return f"imports {item.target}, which is on a higher floor"
    if theirs == mine and module.split(".")[0] != item.target.split(".")[0] and mine != floor("__init__"):
        return f"imports {item.target}, a room on the same floor"
    own = matches(module, CONCRETE_SIDES) or module == "frameworks.sides"
    if matches(item.target, CONCRETE_SIDES) and not own:
        return f"imports {item.target}; concrete sides are chosen in frameworks.sides only"
    for pattern, allowed in NARROWER.items():
        if matches(module, pattern):
            concerned = not pattern.startswith("frameworks.") or item.target.startswith("frameworks")
            if concerned and not matches(item.target, allowed):
                return f"imports {item.target}; {pattern} may import only {', '.join(allowed)}"
            break
    return None


def _outside(module: str, item: Import) -> str | None:
    top = item.target.split(".")[0]
    if top in OUTSIDE:
        return f"imports {top}; xcheck knows nothing of it"
    if top not in FRAMEWORKS:
        return None
    if not any(matches(module, who) and top in what for who, what in OWN_FRAMEWORK.items()):
        return f"imports {top}, which is not its own framework"
    if (top in ONLY_LAZILY or (top in BACKENDS and matches(module, "frameworks.keras"))) and not item.lazy:
        return f"imports {top} at the top; it must be inside a function"
    return None


TYPING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .{} import x"

FACES = ("__init__", "optim", "cli", "report.result")
"""What shows names of modules that may import it: the package itself, the optimizers, commands, a result."""


def _cycles(sources: Mapping[str, str]) -> list[str]:
    known = {module_of(path) for path in sources}
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        for item in imports(path, source):
            if item.inside and module_of(path) not in FACES:
                parts = item.target.split(".")
                prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
                target = next((name for name in prefixes if name in known), None)
                if target and target != module_of(path):
                    graph.setdefault(module_of(path), set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"modules import each other in a circle: {' <- '.join(error.args[1])}"]
    return []


def test_the_house_keeps_its_rules():
    assert violations(SOURCES) == []


@pytest.mark.parametrize(
    ("path", "line", "said"),
    [
        ("xcheck/report/html.py", "from ..frameworks.torch import runner", "higher floor"),
        ("xcheck/report/terminal.py", "from ..numerics.compare import measure", "room on the same floor"),
        ("xcheck/report/terminal.py", "from ..layouts import LAYOUTS", "may import only report, records, errors"),
        ("xcheck/numerics/compare.py", "import torch", "not its own framework"),
        ("xcheck/numerics/compare.py", "def f():\n    import torch.nn", "not its own framework"),
        ("xcheck/numerics/compare.py", "import importlib\nimportlib.import_module('keras')", "not its own framework"),
        ("xcheck/numerics/compare.py", "from ..stepping.lockstep import resynced", "higher floor"),
        ("xcheck/records/trace.py", "from ..check import check", "higher floor"),
        ("xcheck/records/trace.py", "from .. import check", "higher floor"),
        ("xcheck/records/trace.py", "import xcheck.check", "higher floor"),
        ("xcheck/records/trace.py", "def f():\n    from ..check import check", "higher floor"),
        ("xcheck/records/result.py", "def f():\n    from ..report.html import write_html", "higher floor"),
        ("xcheck/report/result.py", "from .html import write_html", "must be inside a function"),
        ("xcheck/phases/steps.py", "from ..causes.dtype import float32_constants", "higher floor"),
        ("xcheck/matching/by_value.py", "from ..frameworks.protocol import Runner", "higher floor"),
        ("xcheck/check.py", "from models.siamese import pair", "knows nothing of it"),
        ("xcheck/frameworks/sides.py", "from .torch.runner import TorchRunner", "must be inside a function"),
        ("xcheck/stepping/lockstep.py", "from ..frameworks.fake.runner import NumpyRunner", "frameworks.sides only"),
        ("xcheck/cli/commands.py", "def f():\n    from ..frameworks.keras import runner", "frameworks.sides only"),
        ("xcheck/frameworks/torch/runner.py", "import keras", "not its own framework"),
        (
            "xcheck/frameworks/torch/runner.py",
            "from ..keras.variables import slots",
            "may import only frameworks.averages",
        ),
        ("xcheck/frameworks/keras/runner.py", "import tensorflow as tf", "must be inside a function"),
        ("xcheck/frameworks/keras/runner.py", "import torch", "must be inside a function"),
        ("xcheck/frameworks/protocol.py", "import torch", "not its own framework"),
        ("xcheck/frameworks/protocol.py", "from .torch.runner import TorchRunner", "frameworks.sides only"),
        ("xcheck/frameworks/protocol.py", "from ..stepping.lockstep import resynced", "higher floor"),
        ("xcheck/optim/torch/rules.py", "import keras", "not its own framework"),
        ("xcheck/optim/torch/rules.py", "from ...pairs.pair import Pair", "higher floor"),
        ("xcheck/onnx/files.py", "import onnx", "must be inside a function"),
        ("xcheck/pytest_plugin.py", "from .report.result import Result", "must be inside a function"),
        ("xcheck/pairs/pair.py", "from ..utils import flatten", "no place in the house"),
        ("xcheck/utils.py", "", "no place in the house"),
        ("xcheck/pairs/pair.py", "from .. import Pair", "no place in the house"),
    ],
)
def test_a_planted_import_is_found(path, line, said):
    assert [v for v in violations({path: f"{line}\n"}) if said in v]
    assert [v for v in violations({**SOURCES, path: SOURCES.get(path, "") + f"\n{line}\n"}) if said in v]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("xcheck/report/result.py", "def f():\n    from .html import write_html"),
        (
            "xcheck/pytest_plugin.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .pairs.pair import Pair",
        ),
        ("xcheck/onnx/files.py", "def f():\n    import onnx"),
        ("xcheck/causes/setup/ties.py", "from ...numerics.compare import measure"),
        ("xcheck/matching/by_map.py", "from ..pairs.pair import Pair"),
    ],
)
def test_an_allowed_import_is_not_found(path, line):
    assert violations({path: f"{line}\n"}) == []


@pytest.mark.parametrize("line", ["from .{} import x", "def f():\n    from .{} import x", TYPING])
def test_a_circle_is_found(line):
    circle = {f"xcheck/pairs/{a}.py": line.format(b) + "\n" for a, b in (("pair", "batches"), ("batches", "pair"))}
    assert "in a circle" in violations(circle)[0]


def test_the_house_is_seen_in_one_look():
    entries = {path.split("/")[1] for path in SOURCES}
    assert len(entries) <= ROOMS
    assert entries == {
        path.name for path in (ROOT / "xcheck").iterdir() if path.name not in ("__pycache__", "py.typed")
    }


def prefixed(paths: list[str]) -> list[str]:
    """Folders in which three files or more are told apart by what follows one first word."""
    groups: dict[tuple[str, str], set[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        word, _, rest = name.removesuffix(".py").partition("_")
        if rest and word:
            groups.setdefault((folder, word), set()).add(name)
    return [f"{folder}: {', '.join(sorted(names))}" for (folder, _), names in groups.items() if len(names) > 2]


def test_no_folder_tells_its_files_apart_by_a_prefix():
    assert prefixed(list(SOURCES)) == []


def test_a_prefix_is_found():
    assert prefixed([f"xcheck/sides/torch_{name}.py" for name in ("side", "uses", "calls")])
    assert not prefixed(["xcheck/matching/by_map.py", "xcheck/matching/by_value.py", "xcheck/matching/plan.py"])


def loaded(code: str, *folders: Path) -> set[str]:
    """The frameworks that a fresh Python has loaded after some code."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    asked = f"{code}\nimport sys\nprint(*sorted({set(FRAMEWORKS)!r} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environment)
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    "module", ["xcheck", "xcheck.cli", "xcheck.pytest_plugin", "xcheck.optim", "xcheck.report.html"]
)
def test_importing_loads_no_framework(module):
    assert loaded(f"import {module}") == set()


def test_a_loaded_framework_is_seen(tmp_path):
    (tmp_path / "keras.py").touch()
    (tmp_path / "user.py").write_text("import xcheck\nimport keras\n")
    assert loaded("import user", tmp_path) == {"keras"}


CONTRACT = {
    "Batch", "batches_from", "Expectation", "KerasSide", "Pair", "TorchSide", "copies", "read_map", "waive",
    "check", "compare", "convert", "record", "verify",
    "Cause", "Check", "Result", "Tie", "Trace", "Verdict",
    "BadInput", "InequivalenceError", "XcheckError",
}  # fmt: skip
"""The names that other programs rely on."""


def exports(source: str) -> set[str]:
    """The names that a package re-exports in so many words: `from .x import y as y`."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and node.level]
    return {alias.asname for node in nodes for alias in node.names if alias.asname == alias.name}


def test_the_exported_names_are_complete():
    assert exports(SOURCES["xcheck/__init__.py"]) == CONTRACT | {"__version__"}
    submodules = {module_of(path).split(".")[0] for path in SOURCES}
    used = {"annotations", "importlib", "Any"}
    public = {name for name in vars(xcheck) if name.isidentifier() and not name.startswith("_")} - used
    assert public - CONTRACT <= submodules
    assert all(getattr(xcheck, name).__module__.startswith("xcheck.") for name in CONTRACT)


def test_a_name_exported_in_passing_does_not_count():
    assert exports("from .pair import Pair as Pair, Batch\nfrom pathlib import Path as Path\n") == {"Pair"}


def test_the_version_is_one():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert xcheck.__version__ == declared
    assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text()


def loose_zips(sources: Mapping[str, str]) -> list[str]:
    """Calls of zip that would drop a surplus in silence."""
    return [
        f"{path}:{node.lineno}"
        for path, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "zip"
        and not any(k.arg == "strict" and ast.unparse(k.value) == "True" for k in node.keywords)
    ]


def test_zip_is_strict():
    assert loose_zips(SOURCES) == []


@pytest.mark.parametrize("call", ["zip(a, b)", "dict(zip(a, b, strict=False))"])
def test_a_loose_zip_is_found(call):
    assert loose_zips({"xcheck/pairs/pair.py": f"x = {call}\n"}) == ["xcheck/pairs/pair.py:1"]


BROAD = ("", "Exception", "BaseException")
CATCHES_ALL = (
    ("xcheck/pairs/user_code.py", "calling"),
    ("xcheck/pairs/user_code.py", "_message"),
    ("xcheck/cli/commands.py", "main"),
    ("xcheck/cli/sweep.py", "attempt"),
    ("xcheck/records/isolated_hypotheses.py", "guarded"),
    ("xcheck/frameworks/canary.py", "_outcomes"),
)
"""Where everything is caught: what the user's code raises becomes one message; a bug of ours gets an exit code of its
own, and in a sweep it costs one check, not all; whatever an untested framework raises is why a canary fails."""


def broad_excepts(sources: Mapping[str, str]) -> list[str]:
    """Handlers of everything that do not hand it on as it was."""
    found: list[str] = []

    def walk(path: str, node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = any((ast.unparse(kind) if kind else "") in BROAD for kind in kinds)
            handed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if broad and not handed_on and (path, function) not in CATCHES_ALL:
                found.append(f"{path}:{node.lineno}")
        for child in ast.iter_child_nodes(node):
            walk(path, child, function)

    for path, source in sources.items():
        walk(path, ast.parse(source), "")
    return found


def test_nothing_is_caught_by_the_way():
    assert broad_excepts(SOURCES) == []


@pytest.mark.parametrize("kind", ["", " Exception", " Exception as e", " BaseException", " (ValueError, Exception)"])
def test_a_broad_except_is_found(kind):
    source = f"def f():\n    try:\n        g()\n    except{kind}:\n        pass\n"
    assert broad_excepts({"xcheck/pairs/pair.py": source}) == ["xcheck/pairs/pair.py:4"]
    assert broad_excepts({"xcheck/pairs/pair.py": source.replace("pass", "raise")}) == []


LINES = 400


def too_long(sources: Mapping[str, str]) -> list[str]:
    return [f"{path}: {n} lines" for path, source in sources.items() if (n := len(source.splitlines())) > LINES]


def test_no_file_is_too_long_to_read():
    assert too_long(SOURCES) == []


def test_a_long_file_is_found():
    assert too_long({"a.py": "\n" * 401, "b.py": "\n" * 400}) == ["a.py: 401 lines"]


@pytest.mark.slow
def test_the_wheel_holds_what_is_not_python(tmp_path):
    pytest.importorskip("hatchling", reason="the build backend is not installed here: pip install hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "xcheck").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {
        "xcheck/records/result.schema.json",
        "xcheck/pairs/templates/pair.py.jinja",
        "xcheck/report/templates/style.css",
    } <= wanted
    assert wanted - packed == set()
    assert [name for name in packed if name.endswith("licenses/LICENSE")]
    assert not [name for name in packed if not name.startswith("xcheck")]


PRIVATE = {
    "a path of one machine": re.compile(r"/(?:work|root)/|/home/\w|[A-Z]:\\Users"),
    "a package index": re.compile(r"pypi\.org/simple|pythonhosted\.org|index[-_]url|PIP_[A-Z]*INDEX|proxy\."),
}
"""What a public repository has no business to name."""


def private(path: str, text: str) -> list[str]:
    """Lines that name a machine or where it gets its packages from."""
    return [
        f"{path}:{number}: {what}: {line.strip():.100}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in PRIVATE.items()
        if pattern.search(line)
    ]


def repository() -> Iterator[tuple[str, str]]:
    """The text files that git holds, or would."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in sorted(filter(None, names)):
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                yield name, data.decode()


def test_the_repository_names_no_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    files = dict(repository())
    assert "xcheck/cli/commands.py" in files
    assert [finding for path, text in files.items() for finding in private(path, text)] == []


@pytest.mark.parametrize("line", ["cd /" + "work/main", "/" + "root/.venv", "--index" + "-url=x", "/" + "home/me/x"])
def test_a_machine_is_found(line):
    assert private("README.md", f"first\n{line}\n")[0].startswith("README.md:2: a pa")
