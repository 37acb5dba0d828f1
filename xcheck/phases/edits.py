"""A cause's fix as an edit of the port's source: the text of one call, before and after.

An edit is made only where all is known: the fix is written as code with plain values, the object that the cause names
was constructed by one call of the user's files, and that call constructs this class.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records.result import Cause
from ..records.sides import SIDES, SideName
from ..records.sites import LOSS, OPTIMIZER, Site, Sites

_OF_A_SIDE = re.compile(r"(?:^|[,;] or )(?=(?:torch|keras): )")
_CALL_NUMBER = re.compile(r"( \(call \d+\))?(: .*)?$", re.DOTALL)
_PARAMETERS = "parameters"
"""What a fix calls the parameters that a PyTorch optimizer gets."""


@dataclass(frozen=True, slots=True)
class _Code:
    """The code of a fix.

    Attributes:
        text: all of it.
        function: dotted; "" for keyword arguments alone.
        arguments: by position.
        keywords: by name.
    """

    text: str
    function: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


def located(
    cause: Cause, sites: Mapping[SideName, Sites], side: SideName
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Where the two sides of a cause are written, and the edits of the port that mend it.

    Args:
        cause: of the run.
        sites: of both sides.
        side: the port; edits concern it alone.

    Returns:
        Side -> {"file", "line"}, where known; and the edits.
    """
    found: dict[SideName, Site] = {}
    for each in SIDES:
        site = _site(cause, each, sites.get(each, {}))
        if site is not None:
            found[each] = site
    code = {each: {"file": site.file, "line": site.line} for each, site in found.items()}
    edit = _edit(cause, side, found[side], sites[side]) if side in found and cause.confirmed else None
    return code, [edit] if edit is not None else []


def _site(cause: Cause, side: SideName, sites: Sites) -> Site | None:
    """The one call that constructs the object of a cause."""
    place = cause.torch if side == "torch" else cause.keras
    keys = {"update": [OPTIMIZER], "loss": [LOSS]}.get(cause.phase)
    if keys is None:
        path = _CALL_NUMBER.sub("", place or "")
        keys = [path, path.rpartition("/")[2]] if path and ", " not in path else []
    candidates = next((sites[key] for key in keys if key in sites), ())
    return candidates[0] if len(candidates) == 1 else None


def _edit(cause: Cause, side: SideName, site: Site, sites: Sites) -> dict[str, Any] | None:
    code = _code_of(cause, side)
    try:
        source = Path(site.file).read_bytes()
        before = _text(source, site)
        tree = ast.parse(f"({before})", mode="eval").body
    except (OSError, ValueError, SyntaxError):  # the file has changed, or is none, as in a notebook
        return None
    if code is None or not isinstance(tree, ast.Call):
        return None
    name = ast.unparse(tree.func).rpartition(".")[2]
    if name != site.kind:
        return None
    wanted = code.function.rpartition(".")[2]
    if wanted not in ("", name):
        after = _another_class(code, before, tree, source, site)
    else:
        after = _with_arguments(code, before, tree, site)
    if after is None or after == before:
        return None
    made = sum(site in group for group in sites.values())
    return {"side": side, "file": site.file, "line": site.line, "before": before, "after": after, "constructs": made}


def _code_of(cause: Cause, side: SideName) -> _Code | None:
    """The part of a fix for one side, if it is code with plain values."""
    parts = [p.removeprefix(f"{side}: ") for p in _OF_A_SIDE.split(cause.fix) if p.startswith(f"{side}: ")]
    place = cause.torch if side == "torch" else cause.keras
    text = parts[0].removeprefix(f"{place}: ").strip() if len(parts) == 1 else ""
    for shown in (text, f"_({text})"):
        try:
            tree = ast.parse(shown, mode="eval").body
            if isinstance(tree, ast.Call) and text:
                function = ast.unparse(tree.func)
                given = [a for a in tree.args if not (isinstance(a, ast.Name) and a.id == _PARAMETERS)]
                arguments = tuple(ast.literal_eval(a) for a in given)
                keywords = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg}
                plain = bool(keywords) if function == "_" else True
                return _Code(text, "" if function == "_" else function, arguments, keywords) if plain else None
        except (ValueError, SyntaxError):
            continue
    return None


def _text(source: bytes, site: Site) -> str:
    """The text of the call.

    Raises:
        ValueError: the file does not have so many lines.
    """
    lines = source.splitlines(keepends=True)
    if site.end_line > len(lines):
        raise ValueError(site)
    start = sum(map(len, lines[: site.line - 1])) + site.column
    end = sum(map(len, lines[: site.end_line - 1])) + site.end_column
    return source[start:end].decode()


def _with_arguments(code: _Code, before: str, tree: ast.Call, site: Site) -> str | None:
    """The call with other arguments; None where it is not known which argument of it is which."""
    names = list(site.parameters)
    if max(len(code.arguments), len(tree.args)) > len(names):
        return None
    wanted = {**dict(zip(names[: len(code.arguments)], code.arguments, strict=True)), **code.keywords}
    if any(name not in names for name in wanted):
        return None
    if any(isinstance(a, ast.Starred) for a in tree.args) or any(k.arg is None for k in tree.keywords):
        return None
    given: dict[str, ast.expr] = dict(zip(names[: len(tree.args)], tree.args, strict=True))
    given |= {str(k.arg): k.value for k in tree.keywords}
    changes: list[tuple[int, int, str]] = []
    added: list[str] = []
    starts = _line_starts(f"({before})")
    for name, value in wanted.items():
        held = given.get(name)
        if held is None:
            if site.parameters[name] != value:
                added.append(f"{name}={value!r}")
        elif not _is(held, value):
            start = starts[held.lineno - 1] + held.col_offset
            end = starts[(held.end_lineno or 1) - 1] + (held.end_col_offset or 0)
            changes.append((start - 1, end - 1, repr(value)))
    text = before.encode()
    if added:
        last = text.rstrip().rfind(b")")
        inside = text[:last].rstrip()
        joint = "" if inside.endswith((b"(", b",")) else ", "
        if inside.endswith(b","):
            joint = " "
        changes.append((len(inside), len(inside), joint + ", ".join(added)))
    for start, end, value in sorted(changes, reverse=True):
        text = text[:start] + value.encode() + text[end:]
    return text.decode()


def _another_class(code: _Code, before: str, tree: ast.Call, source: bytes, site: Site) -> str | None:
    """The call of a different class; None where the file does not import what the new call names."""
    package = code.function.partition(".")[0]
    if "." not in code.function or package not in _imported(source, site.line):
        return None
    if f"({_PARAMETERS}" not in code.text:
        return code.text
    first = ast.get_source_segment(f"({before})", tree.args[0]) if tree.args else None
    return None if first is None else code.text.replace(f"({_PARAMETERS}", f"({first}", 1)


def _imported(source: bytes, line: int) -> set[str]:
    """The names of modules that can be used in a line: imported at the top, or in the function around it."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(a.asname or a.name.partition(".")[0] for a in child.names)
            own = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
            if not own or child.lineno <= line <= (child.end_lineno or line):
                walk(child)

    walk(ast.parse(source))
    return found


def _is(node: ast.expr, value: Any) -> bool:
    try:
        held = ast.literal_eval(node)
    except (ValueError, SyntaxError):
        return False
    return type(held) is type(value) and held == value


def _line_starts(text: str) -> list[int]:
    """Byte offset of each line."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts
