"""The pair file that `xcheck new` writes."""

import sys

import pytest

from xcheck.errors import PairError
from xcheck.pairs.loading import load_pair
from xcheck.pairs.scaffold import write_scaffold

FRAMEWORKS = {"torch", "keras", "tensorflow"}


def test_the_file_loads_as_a_pair_of_that_name_without_a_framework(tmp_path):
    before = FRAMEWORKS & set(sys.modules)
    path = write_scaffold("my_port", tmp_path)
    pair = load_pair(str(path))
    assert path == tmp_path / "my_port.py"
    assert pair.name == "my_port"
    assert pair.weight_map is None
    assert FRAMEWORKS & set(sys.modules) == before
    assert next(iter(pair.batches(0))).size == 16


def test_the_file_says_how_to_run_it_and_leaves_nothing_to_fill_in(tmp_path):
    text = write_scaffold("my_port", tmp_path).read_text()
    assert "xcheck run my_port.py" in text
    assert "{{" not in text
    assert text.endswith(")\n")


def test_the_working_directory_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_scaffold("here").resolve() == tmp_path / "here.py"


@pytest.mark.parametrize("name", ["my-port", "2nd", "a b", "", "a/b", "../up"])
def test_a_name_that_is_no_identifier_is_refused(tmp_path, name):
    with pytest.raises(PairError, match="must be a Python identifier"):
        write_scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("precious")
    with pytest.raises(PairError, match="already exists") as caught:
        write_scaffold("mine", tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_text() == "precious"
