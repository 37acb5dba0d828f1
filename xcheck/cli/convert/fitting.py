"""Does a weight file hold exactly the tensors of the model? One message lists everything that does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ...errors import FileError
from ...frameworks.checkpoints import ENDINGS, Stored
from ...records.inventory import Inventory

SHOWN = 5
"""A message lists at most this many names of one kind."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The model's parameter for each tensor of a file.

    Attributes:
        keys: canonical path -> its keys in the file; several if it is tied.
        left_out: key in the file -> why it is not transferred.
        absent: canonical paths that may be missing in the file.
    """

    keys: Mapping[str, Sequence[str]]
    left_out: Mapping[str, str]
    absent: Sequence[str]


def fit(
    file: Path, stored: Stored, names: Mapping[str, str], inventory: Inventory, prefix: str, waived: Collection[str]
) -> Fit:
    """Find every tensor of a model in a file.

    Args:
        file: for the message.
        stored: its content.
        names: key -> path in the model, for every tensor of a file of this model.
        inventory: of the model.
        prefix: that all keys of the file begin with, and none of the model.
        waived: patterns of keys that may be missing or left over.

    Raises:
        FileError: a tensor is missing, left over, has a different shape, or is tied and stored with different values.
    """

    def meant(key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in waived)

    present = {key.removeprefix(prefix): key for key in stored.shapes if key.startswith(prefix)}
    holding: dict[str, list[str]] = {}
    for key, path in names.items():
        holding.setdefault(inventory.canonical_path(path), []).append(key)
    found = {path: [present[k] for k in keys if k in present] for path, keys in holding.items()}
    missing = [keys[0] for path, keys in holding.items() if not found[path]]
    extra = [key for key in stored.shapes if key.removeprefix(prefix) not in names or not key.startswith(prefix)]
    lost = [key for key in missing if not meant(key)]
    over = [key for key in extra if not meant(key)]
    if lost or over:
        raise _no_fit(file, lost, over, names, present)
    shapes = {path: entry.shape for path in found if (entry := inventory.find(path))}
    wrong = [
        f"{key}: shape {stored.shapes[key]} in the file, {shapes[path]} in the model"
        for path, keys in found.items()
        for key in keys
        if stored.shapes[key] != shapes[path]
    ]
    if wrong:
        raise FileError(
            "The shapes of this checkpoint differ from those of the model.",
            where=str(file),
            numbers="; ".join(wrong[:SHOWN]) + (f"; {len(wrong)} in all" if len(wrong) > SHOWN else ""),
            cause="the checkpoint was saved from a model with different sizes",
            todo="build the model with the sizes of the checkpoint, for example: --set KEY=VALUE",
        )
    return Fit(
        {path: keys for path, keys in found.items() if keys},
        dict.fromkeys(extra, "waived") | dict.fromkeys(stored.others, "not a tensor"),
        [inventory.canonical_path(names[key]) for key in missing],
    )


def _no_fit(
    file: Path, lost: Sequence[str], over: Sequence[str], names: Mapping[str, str], present: Mapping[str, str]
) -> FileError:
    start, more = _prefix(names, present)
    if more:
        cause, todo = f"its keys begin with {start!r}, those of the model do not", f"add: --prefix {start}"
    elif start:
        cause = f"the model's keys begin with {start!r}, those of the file do not"
        todo = "let build return only that part of the model"
    elif lost:
        cause = "it was saved from a different model"
        todo = f"if they may keep their initial values: --waive {_quoted(lost[0])}"
        if over and file.name.endswith(ENDINGS["keras"]):
            todo = "let build create the model that saved it"
        elif over:
            cause += ", or its library renames keys when it saves"
            todo = "load it with its library, run torch.save(model.state_dict(), 'FILE.pt'), and convert that file"
    else:
        cause = "it was saved from a model with more layers, such as a head"
        todo = f"if they are not needed: --waive {_quoted(over[0])}"
    return FileError(
        "This checkpoint does not fit this model.",
        where=str(file),
        numbers="; ".join(
            f"{len(keys)} {what}: {', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''}"
            for what, keys in (("missing", lost), ("left over", over))
            if keys
        ),
        cause=cause,
        todo=todo,
    )


def _quoted(key: str) -> str:
    return f"'{key.partition('.')[0]}.*'" if "." in key else f"'{key}'"


def _prefix(names: Iterable[str], present: Iterable[str]) -> tuple[str, bool]:
    """The prefix that most keys of the model or the file have in addition; whether the file has it."""
    names, present = set(names), set(present)
    for shorter, longer, more in ((names, present, True), (present, names, False)):
        starts = Counter(
            key[: -len(end)]
            for key in longer
            for at, letter in enumerate(key)
            if letter == "." and (end := key[at + 1 :]) in shorter
        )
        start, count = starts.most_common(1)[0] if starts else ("", 0)
        if 2 * count > len(shorter) and not names & present:
            return start, more
    return "", False
