"""Finding and importing pair files."""

import sys
from pathlib import Path

import pytest

from xcheck.errors import PairError, UserCodeError
from xcheck.pairs.loading import load_pair, named_pairs, pairs_in

HEAD = """
import numpy as np
import xcheck
from xcheck.frameworks.fake.runner import NumpySide

def make(name, **options):
    return xcheck.Pair(
        name=name, torch=NumpySide("torch"), keras=NumpySide("keras"),
        batches=lambda seed: [xcheck.Batch(np.ones((2, 3)), np.ones((2, 2)))] * 9, **options,
    )
"""


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """A folder of models with the pairs `alpha` and `beta_net`, and a folder without one."""
    monkeypatch.setenv("XCHECK_MODELS", str(tmp_path))
    before = set(sys.modules)
    write(tmp_path / "alpha/pair.py", HEAD + 'PAIR = make("alpha")\nSECOND = make("second")\n')
    write(tmp_path / "beta_net/pair.py", HEAD + "def pair(size=1, *, name='b'):\n    return make(f'{name}{size}')\n")
    write(tmp_path / "notes/readme.txt", "nothing")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_pair_is_found_by_name_by_folder_and_by_file(models, monkeypatch):
    monkeypatch.chdir(models)
    for spec in ("alpha", "./alpha", str(models / "alpha"), "alpha/pair.py", str(models / "alpha/pair.py")):
        assert load_pair(spec).name == "alpha"


def test_another_attribute_of_the_file_can_be_named(models):
    assert load_pair("alpha:SECOND").name == "second"
    assert load_pair(f"{models}/alpha/pair.py:SECOND").name == "second"


def test_settings_go_to_the_function_pair(models):
    assert load_pair("beta_net", {"size": 3, "name": "c"}).name == "c3"
    with pytest.raises(PairError, match="takes no settings"):
        load_pair("alpha", {"size": 3})


def test_settings_and_a_named_attribute_contradict_each_other(models):
    with pytest.raises(PairError, match="by name or by settings"):
        load_pair("beta_net:PAIR_2", {"size": 3})


def test_settings_that_the_function_does_not_take_are_shown(models):
    with pytest.raises(UserCodeError, match=r"pair\(\.\.\.\) raised TypeError") as caught:
        load_pair("beta_net", {"colour": "red"})
    assert "colour='red'" in str(caught.value)


def test_the_names_are_those_of_the_folders_with_a_pair_file(models):
    assert named_pairs() == ["alpha", "beta_net"]


def test_a_name_that_does_not_exist_is_answered_with_the_closest(models):
    with pytest.raises(PairError, match="no pair 'alfa'") as caught:
        load_pair("alfa")
    assert "did you mean alpha?" in str(caught.value)
    assert "pairs here: alpha, beta_net" in str(caught.value)


def test_a_file_that_does_not_exist_is_named(models):
    with pytest.raises(PairError, match="pair file does not exist") as caught:
        load_pair("alpha/pears.py")
    assert "alpha/pears.py" in str(caught.value)


def test_an_attribute_that_is_missing_or_no_pair_is_answered_with_the_pairs_of_the_file(models):
    with pytest.raises(PairError, match="does not define THIRD") as caught:
        load_pair("alpha:THIRD")
    assert "PAIR, SECOND" in str(caught.value)
    with pytest.raises(PairError, match=r"make is not an xcheck\.Pair"):
        load_pair("alpha:make")
    with pytest.raises(PairError, match="does not define PAIR") as caught:
        load_pair("beta_net")
    assert "pairs in the file: none" in str(caught.value)


def test_a_factory_that_makes_no_pair_is_refused(models):
    write(models / "gamma/pair.py", "def pair(size):\n    return size\n")
    with pytest.raises(PairError):
        load_pair("gamma", {"size": 3})


@pytest.mark.parametrize(
    ("text", "error", "where"),
    [
        ("x = 1\nimport no_such_module_at_all\n", "ModuleNotFoundError", "broken.py:2"),
        ("def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError", "broken.py:2, in f"),
        ("x = = 1\n", "SyntaxError", "broken.py, line 1"),
    ],
)
def test_a_file_that_raises_is_shown_at_its_line_and_leaves_no_module_behind(models, text, error, where):
    before = set(sys.modules)
    with pytest.raises(UserCodeError, match=f"broken.py, imported, raised {error}") as caught:
        load_pair(str(write(models / "broken.py", text)))
    assert where in str(caught.value)
    assert not [name for name in set(sys.modules) - before if name.endswith("broken")]


def test_files_of_one_folder_import_each_other_and_never_those_of_another(models):
    for name in ("one", "two"):
        write(models / name / "parts.py", f'NAME = "{name}"\n')
        write(models / name / "pair.py", HEAD + "from .parts import NAME\nPAIR = make(NAME)\n")
    assert [load_pair(name).name for name in ("one", "two", "one")] == ["one", "two", "one"]
    for name in ("sub/same", "other/same"):  # folders of one name
        write(models / name / "parts.py", f'NAME = "{name}".replace("/", "_")\n')
        write(models / name / "pair.py", HEAD + "from .parts import NAME\nPAIR = make(NAME)\n")
    assert [load_pair(f"{models}/{n}/pair.py").name for n in ("sub/same", "other/same")] == ["sub_same", "other_same"]


def test_a_file_is_read_anew_each_time(models):
    write(models / "alpha/pair.py", HEAD + 'PAIR = make("changed_name")\n')
    assert load_pair("alpha").name == "changed_name"
    write(models / "alpha/pair.py", HEAD + 'PAIR = make("changed_back")\n')
    assert load_pair("alpha").name == "changed_back"


def test_every_pair_of_a_file_is_listed(models):
    assert {n: p.name for n, p in pairs_in(models / "alpha/pair.py").items()} == {"PAIR": "alpha", "SECOND": "second"}
    with pytest.raises(PairError, match=r"defines no xcheck\.Pair"):
        pairs_in(models / "beta_net/pair.py")


def test_a_pair_file_may_import_what_is_beside_it_and_beside_its_folder(models):
    write(models / "common.py", "SIZE = 3\n")
    write(models / "gamma/part.py", "NAME = 'gamma'\n")
    head = "from ..common import SIZE\nfrom .part import NAME\n"
    write(models / "gamma/pair.py", head + HEAD + "PAIR = make(f'{NAME}{SIZE}')\n")
    assert load_pair("gamma").name == "gamma3"


def test_files_of_one_name_beside_two_folders_are_two(models):
    for place, size in (("one", 1), ("two", 2)):
        write(models / place / "common.py", f"SIZE = {size}\n")
        write(models / place / "net/pair.py", "from ..common import SIZE\n" + HEAD + "PAIR = make(f'net{SIZE}')\n")
    assert [load_pair(f"{models}/{place}/net/pair.py").name for place in ("one", "two")] == ["net1", "net2"]


def test_a_file_beside_the_pair_is_imported_with_a_dot(tmp_path: Path) -> None:
    (tmp_path / "beside_the_pair.py").write_text("")
    (tmp_path / "pair.py").write_text("import beside_the_pair")
    with pytest.raises(PairError, match="as an installed module") as caught:
        load_pair(str(tmp_path / "pair.py"))
    assert "from . import beside_the_pair" in str(caught.value)
