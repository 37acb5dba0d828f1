"""Every code block of the documentation is run, and what it is said to print is compared with what it prints.

A page is run from top to bottom in an empty folder.

- `python` blocks share one namespace. One whose first line is a comment with a file name is only saved, as that file;
  a later step must use it. An `output` block right after a block is what it prints.
- In `console` and `sh` blocks, lines that start with "$ " are commands, the lines below each are its output. A command
  that fails must be followed by "$ echo $?". A line that ends in "..." goes on in any way, for any number of lines.
- `text` blocks are pictures and are left alone. There is no other kind of block.

Real numbers are not compared, integers are. Of a row that is EQUIVALENT the worst item is not compared either: which
rounding error is the largest depends on the machine.

    python tests/test_docs.py            say which outputs are stale, and write the new ones into the pages
"""

import difflib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also where this file is run by itself, to write the pages anew

import xcheck
from xcheck.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "models" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """Something that a page does.

    Attributes:
        line: of the page, from 1.
        kind: "python" or "command".
        source: the code, or the command line.
        output: what it is said to print; None where the page does not say.
        at: where the output stands in the page, as (start, end).
    """

    line: int
    kind: str
    source: str
    output: str | None = None
    at: tuple[int, int] | None = None

    @property
    def file(self) -> str | None:
        """Name of the file that the code is, without ".py"; None for code that is run."""
        named = re.match(r"# (\w+)\.py\n", self.source)
        return named[1] if named and self.kind == "python" else None


def steps(text: str) -> list[Step]:
    """The steps of a page, in order.

    Raises:
        ValueError: a block is of no known kind, or stands where it means nothing.
    """
    found: list[Step] = []
    end_of_python = -1
    blocks = list(FENCE.finditer(text))
    if len(re.findall(r"^\s*```", text, re.MULTILINE)) != 2 * len(blocks):
        raise ValueError("a fence is indented, or has no partner")
    for block in blocks:
        kind, body, start = block[1], block[2], block.start(2)
        line = text.count("\n", 0, start) + 1
        if kind == "python":
            found.append(Step(line, "python", body))
            end_of_python = block.end()
        elif kind == "output":
            if text[end_of_python : block.start()].strip() or not found:
                raise ValueError(f"line {line}: an output block must come right after a python block")
            found[-1] = replace(found[-1], output=body, at=block.span(2))
        elif kind in ("console", "sh"):
            found += _commands(body, start, line)
        elif kind != "text":
            raise ValueError(f"line {line}: a block of kind {kind!r} would not be run")
    for i, step in enumerate(found):
        if step.file and not any(re.search(rf"\b{step.file}\b", later.source) for later in found[i + 1 :]):
            raise ValueError(f"line {step.line}: nothing uses {step.file}.py")
    return found


def _commands(body: str, start: int, line: int) -> Iterator[Step]:
    parts = re.split(r"^\$ (.*\n)", body, flags=re.MULTILINE)
    if parts[0].strip():
        raise ValueError(f"line {line}: this is the output of no command: {parts[0].strip()!r:.60}")
    at = start + len(parts[0])
    for command, output in zip(parts[1::2], parts[2::2], strict=True):
        here = at + len(f"$ {command}")
        at = here + len(output)
        above = body.count("\n", 0, here - start) - 1
        yield Step(line + above, "command", command.strip(), output if output.strip() else None, (here, at))


def alike(said: str, printed: str) -> bool:
    """Whether an output is the one a page shows, apart from real numbers, blanks and what "..." stands for."""
    parts = re.split(r"\.\.\.$", said, flags=re.MULTILINE)
    pattern = ".*".join(re.escape(normal(part)) for part in parts)
    return re.fullmatch(pattern, normal(printed), re.DOTALL) is not None


def normal(text: str) -> str:
    """A text without what may differ between two machines."""
    text = re.sub(r"^(\s*\w+( float\d+)?\s+EQUIVALENT\s+\d+)\b.*$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"-?\b\d+\.\d+(e[-+]?\d+)?|-?\b\d+e[-+]?\d+", "#", text)
    text = re.sub(r"─+", "─", text)
    return " ".join(text.split())


class Page:
    """A page that is being run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.code = 0

    def run(self, step: Step) -> str:
        """Do one step; returns what it prints."""
        if step.kind == "python":
            return self._python(step)
        program, *arguments = shlex.split(step.source)
        if step.source == "echo $?":
            code, self.code = self.code, 0
            return f"{code}\n"
        assert self.code == 0, f"the command before ended with {self.code}, and the page does not say so"
        if program.startswith("scripts/"):
            script = ROOT / program
            assert os.access(script, os.X_OK), f"{program} is not there, or not executable"
            if program == "scripts/demo":
                arguments = [*_arguments_of_demo(script.read_text()), *arguments]
            elif program != "scripts/run_pair.py":
                return ""
            program, arguments = "xcheck", ["run", *arguments]
        assert program in ("xcheck", "pytest"), f"the runner does not know {program!r}"
        return self._xcheck(arguments) if program == "xcheck" else self._pytest(arguments)

    def _python(self, step: Step) -> str:
        if step.file:
            Path(self.folder, f"{step.file}.py").write_text(step.source)
            return ""
        # The lines of the page, so that a traceback points into it.
        code = compile("\n" * (step.line - 1) + step.source, "the page", "exec")
        sys.path.insert(0, str(self.folder))
        try:
            with _printed() as out:
                exec(code, self.namespace)
        finally:
            sys.path.remove(str(self.folder))
        return out.getvalue()

    def _xcheck(self, arguments: list[str]) -> str:
        # A command is a process of its own: it reads the pair's files as they are now.
        _forget(str(self.folder), [name for name in sys.modules if name.startswith("xcheck_pairs.in_")])
        with _printed() as out:
            try:
                main(arguments)
                self.code = 0
            except SystemExit as end:
                self.code = end.code if isinstance(end.code, int) else 0
        return out.getvalue()

    def _pytest(self, arguments: list[str]) -> str:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        self.code = ran.returncode
        return ran.stdout


def _arguments_of_demo(script: str) -> list[str]:
    found = re.search(r"^exec \S+ scripts/run_pair\.py (.+) \"\$@\"$", script, re.MULTILINE)
    assert found, "scripts/demo no longer ends in scripts/run_pair.py"
    return shlex.split(found[1])


@contextmanager
def _printed() -> Iterator[io.StringIO]:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        yield out


@contextmanager
def _empty_folder() -> Iterator[Path]:
    """An empty working directory, 80 columns, and the pairs of the repository."""
    environment, modules = dict(os.environ), set(sys.modules)
    os.environ |= {"COLUMNS": "80", "XCHECK_MODELS": str(ROOT / "models")}
    os.environ.pop("FORCE_COLOR", None)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(environment)
            _forget(folder, set(sys.modules) - modules)


def _forget(folder: str, names: Iterable[str]) -> None:
    """Unload those of these modules and packages that are files of a folder, or the folder itself."""
    for name in list(names):
        module = sys.modules[name]
        path = vars(module).get("__path__")
        places = [getattr(module, "__file__", None) or "", *(path if isinstance(path, list) else ())]
        if any(place.startswith(folder) for place in places):
            del sys.modules[name]


def play(text: str) -> list[tuple[Step, str]]:
    """Run a page; each step with what it printed.

    Raises:
        AssertionError: a command failed unannounced, or is one that the runner does not know.
    """
    with _empty_folder() as folder:
        page = Page(folder)
        played = [(step, page.run(step)) for step in steps(text)]
    assert page.code == 0, f"the last command ended with {page.code}, and the page does not say so"
    return played


def stale(played: list[tuple[Step, str]]) -> Iterator[tuple[Step, str]]:
    """The steps that do not print what the page says."""
    return ((step, out) for step, out in played if step.output is not None and not alike(step.output, out))


def differences(played: list[tuple[Step, str]]) -> str:
    """What is stale, as a diff from the page to what is printed."""
    found: list[str] = []
    for step, out in stale(played):
        said, prints = (step.output or "").splitlines(), [line.rstrip() for line in out.splitlines()]
        found += [f"line {step.line}: {step.source.strip().splitlines()[0]}"]
        found += difflib.unified_diff(said, prints, "the page", "printed now", lineterm="")
    return "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_is_true(path):
    found = differences(play(path.read_text()))
    assert not found, f"{found}\n\nto write the new outputs into the pages: python tests/test_docs.py"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def unlisted(navigation: str) -> set[str]:
    """The pages of docs/ that the navigation of the site does not lead to."""
    listed = re.findall(r": ([\w-]+\.md)$", navigation, re.MULTILINE)
    return {path.name for path in ROOT.glob("docs/*.md")} - set(listed)


def test_every_page_is_in_the_navigation_of_the_site():
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert unlisted(navigation) == set()
    assert unlisted(navigation.replace("Convert checkpoints: convert.md", "")) == {"convert.md"}


def test_the_first_lines_of_the_readme_set_up_and_test():
    commands = [step.source for step in steps((ROOT / "README.md").read_text()) if step.kind == "command"]
    assert {"scripts/demo", "scripts/test"} <= set(commands[:2])


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


def python(*lines: str, output: str | None = None) -> str:
    shown = "" if output is None else f"\n```output\n{output}```\n"
    return "\n".join(["```python", *lines, "```", ""]) + shown


NEW = ("$ xcheck new x", "Wrote x.py.")
NEXT = "Fill in the two build functions, then: xcheck run x.py"


@pytest.mark.parametrize(
    "page",
    [
        console(*NEW, NEXT),
        console(*NEW, "..."),
        console(NEW[0], "Wrote ...", "run x.py"),
        console("$ xcheck new x"),
        console("$ xcheck run nothing.py", "...", "$ echo $?", "2"),
        console("$ xcheck new x", "$ xcheck new x", "This file already exists.", "...", "$ echo $?", "2"),
        console("$ scripts/test", "$ scripts/check"),
        python("x = 1") + python("print(x / 3)", output="0.33\n"),
        python("# kept.py", "x = 1") + python("import kept", "assert kept.x == 1"),
        python("x = 2") + python("# kept.py", "x = 1") + python("assert x == 2", "import kept"),
        "```text\nanything\n```\n",
    ],
)
def test_a_true_page_passes(page):
    assert differences(play(page)) == ""


@pytest.mark.parametrize(
    "page",
    [
        console(NEW[0], "Wrote y.py.", NEXT),
        console(*NEW),
        console(*NEW, NEXT, "and more"),
        console(NEW[0], "Wrote y...."),
        console(NEW[0], "Wrote ...", "run y.py"),
        console("$ xcheck run nothing.py", "The file does not exist.", "$ echo $?", "2"),
        console("$ xcheck run nothing.py", "...", "$ echo $?", "3"),
        python("print(3, 0.5)", output="4 0.5\n"),
        python("print(3, 0.5)", output="3 0.7 0.8\n"),
        python("pass", output="something\n"),
    ],
)
def test_a_stale_page_is_found(page):
    assert differences(play(page)) != ""


def test_a_command_reads_files_that_were_saved_again():
    shown = ("$ xcheck run x.py", "...", "cause: {}...", "$ echo $?", "2")
    page = python("# x.py", "from . import word", "raise ValueError(word.WORD)")
    for word in ("first", "second"):
        page += python("# word.py", f"WORD = '{word}'") + console(*(line.format(word) for line in shown))
    page += python("import word")
    assert differences(play(page)) == ""


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (python("raise KeyError('planted')"), KeyError),
        (python("import xcheck", "xcheck.waive('')"), xcheck.BadInput),
        (python("assert 1 == 2"), AssertionError),
        (python("# kept.py", "x = 1") + python("import kept", "print(x)"), NameError),
        (python("# kept.py", "assert 1 == 2") + python("import kept"), AssertionError),
        (python("# kept.py", "x = 1"), ValueError),
        (console("$ xcheck run nothing.py"), AssertionError),
        (console("$ xcheck run nothing.py", "$ xcheck new x"), AssertionError),
        (console("$ xcheck frobnicate"), AssertionError),
        (console("$ make everything"), AssertionError),
        (console("$ scripts/nothing"), AssertionError),
        (console("output of nothing"), ValueError),
        ("```\nplain\n```\n", ValueError),
        ("```bash\nls\n```\n", ValueError),
        ("```python\nx = 1\n", ValueError),
        ("- item\n  ```python\n  x = 1\n  ```\n", ValueError),
        ("```output\n1\n```\n", ValueError),
        (python("print(1)") + "Words between.\n\n```output\n1\n```\n", ValueError),
    ],
)
def test_a_broken_page_is_found(page, error):
    with pytest.raises(error):
        play(page)


def test_an_equivalent_row_is_compared_up_to_its_worst_item():
    row = "  forward float64  EQUIVALENT      {}  {}             {}  4.1e-13\n"
    assert alike(row.format(10, "output (inference)", "5.4e-16"), row.format(10, "(exact)", "0"))
    assert not alike(row.format(10, "output", "5.4e-16"), row.format(11, "output", "5.4e-16"))
    different = row.replace("EQUIVALENT", "DIFFERENT")
    assert not alike(different.format(10, "output", "0.5"), different.format(10, "loss", "0.5"))


def test_the_place_of_an_output_is_where_it_stands():
    page = f"# Title\n\n{console(*NEW, NEXT, '$ echo $?', '0')}\n{python('print(1)', output='1' + chr(10))}"
    for step in steps(page):
        assert step.at
        assert step.output == page[slice(*step.at)]
        assert step.source.strip() in page.splitlines()[step.line - 1]


def rewritten(text: str, played: list[tuple[Step, str]]) -> str:
    """A page with its stale outputs replaced."""
    for step, out in reversed(list(stale(played))):
        assert step.at
        tidy = "".join(f"{line.rstrip()}\n" for line in out.splitlines())
        text = text[: step.at[0]] + tidy + text[step.at[1] :]
    return text


def test_a_stale_output_is_rewritten():
    page = console(NEW[0], "Wrote y.py.") + python("print(7)", output="8\n") + console("$ echo $?", "0")
    wanted = console(*NEW, NEXT) + python("print(7)", output="7\n") + console("$ echo $?", "0")
    assert rewritten(page, play(page)) == wanted


def write_pages(pages: Mapping[Path, str]) -> None:
    for path, text in pages.items():
        played = play(text)
        print(f"{path.relative_to(ROOT)}\n{differences(played)}")
        path.write_text(rewritten(text, played))


if __name__ == "__main__":
    import sys

    asked = {Path(name).name for name in sys.argv[1:]}
    write_pages({path: path.read_text() for path in PAGES if not asked or path.name in asked})
