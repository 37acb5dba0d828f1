"""Files that are damaged, hostile or without an end: one message each, no traceback, no waiting."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from results import ALL, hostile

from xcheck import read_map
from xcheck.errors import BadInput, FileError
from xcheck.records.result import schema_text
from xcheck.records.schema import KNOWN
from xcheck.records.schema import fault as fault_of
from xcheck.records.trace import State, StepRecord, Trace
from xcheck.report.html import write_html
from xcheck.report.junit import write_junit
from xcheck.report.result import Result
from xcheck.report.terminal import as_text

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def names(error: BadInput, *words: str) -> None:
    """Holds that a message names one of some words."""
    assert any(word in str(error) for word in words)


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside plain data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [at, *(place for key, item in items for place in places(item, (*at, key)))]


def replaced(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[place[0]] = replaced(copy[place[0]], place[1:], value)
    return copy


RICH = [json.loads(make().json_text()) for make in (*ALL, hostile)]


@few
@given(st.data())
def test_a_result_with_any_value_in_any_place_is_shown_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = json.dumps(data.draw(st.sampled_from(RICH)))
    whole = json.loads(text)
    damaged = replaced(whole, data.draw(st.sampled_from(places(whole))), data.draw(ANY))
    path = tmp_path / "result.json"
    path.write_text(json.dumps(damaged), encoding="utf-8", errors="surrogatepass")
    try:
        result = Result.from_json(path)
    except FileError as error:
        names(error, str(path))
        return
    as_text(result, verbose=True)
    write_html([result], tmp_path / "r.html")
    write_junit([result], tmp_path / "r.xml")


@few
@given(st.integers(0, 10**6), st.binary(max_size=6))
def test_a_result_with_damaged_bytes_is_shown_or_refused(tmp_path: Path, place: int, instead: bytes) -> None:
    whole = json.dumps(RICH[1]).encode()
    place %= len(whole)
    path = tmp_path / "result.json"
    path.write_bytes(whole[:place] + instead + whole[place + len(instead) :])
    try:
        as_text(Result.from_json(path))
    except FileError as error:
        names(error, str(path))


def test_the_schema_uses_nothing_that_is_not_checked() -> None:
    def used(schema: Any) -> set[str]:
        inner = [schema.get(k, {}) for k in ("items", "additionalProperties", "propertyNames")]
        inner += [*schema.get("anyOf", ()), *schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        return set(schema).union(*(used(one) for one in inner if isinstance(one, dict) and one))

    assert used(json.loads(schema_text())) <= KNOWN


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"type": "string"}),
        (True, {"type": "integer"}),
        (float("nan"), {"type": "number"}),
        (10**400, {"type": ["number", "null"]}),
        (-1, {"type": "integer", "minimum": 0}),
        ({}, {"required": ["a"]}),
        ({"b": 1}, {"properties": {"a": {}}, "additionalProperties": False}),
        ([1, "a"], {"items": {"type": "integer"}}),
        ({"c": 1}, {"propertyNames": {"enum": ["torch"]}}),
        ("", {"type": "string", "minLength": 1}),
        (2, {"anyOf": [{"type": "null"}, {"const": 1}]}),
        (True, {"enum": [1]}),
    ],
)
def test_each_rule_of_a_schema_finds_its_fault(value, schema) -> None:
    assert fault_of(value, {"$defs": {}, **schema}) is not None


STATE = State({"w": np.arange(6.0).reshape(2, 3)}, {}, {"w": {"momentum": np.ones((2, 3))}}, 1, (), False)
STEP = StepRecord(
    1, STATE, STATE, {"output": np.ones(2)}, {"output": np.ones(2)}, {"total": np.ones(())}, {}, {"w": np.ones(3)}, {}
)
TRACE = Trace({"pair": "p", "side": "torch"}, (STEP,), ((STEP,),))


@few
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=6), st.booleans())
def test_a_damaged_trace_is_refused(tmp_path: Path, place: int, instead: bytes, cut: bool) -> None:
    path = TRACE.save(tmp_path / "trace.safetensors")
    whole = path.read_bytes()
    place %= len(whole) - len(instead)
    damaged = whole[:place] + (b"" if cut else instead + whole[place + len(instead) :])
    path.write_bytes(damaged)
    if damaged == whole:
        Trace.load(path)
        return
    try:
        loaded = Trace.load(path)
    except FileError as error:
        names(error, str(path))
    else:  # a blank in the header of the format itself
        assert loaded.header == TRACE.header
        assert np.array_equal(loaded.steps[0].before.parameters["w"], STATE.parameters["w"])


@few
@given(ANY)
def test_a_map_of_anything_is_read_or_refused(tmp_path: Path, weights: Any) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"weights": weights}))
    try:
        for target in read_map(path).values():
            assert target is not None
    except BadInput as error:
        names(error, str(path))


@few
@given(
    st.dictionaries(
        st.text(max_size=3),
        ANY | st.builds(lambda v: {"copies": v}, ANY) | st.builds(lambda v: {"waive": v}, ANY),
        max_size=2,
    )
)
def test_a_map_with_targets_of_any_kind_is_read_or_refused(tmp_path: Path, weights: Any) -> None:
    test_a_map_of_anything_is_read_or_refused.hypothesis.inner_test(tmp_path, weights)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"schema_version": NaN}', "", "\ufeff{}", "null"])
def test_text_that_breaks_readers_is_one_message(text, tmp_path, capsys) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    assert run("report", str(path)) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert str(path) in err
    with pytest.raises(FileError):
        read_map(path)


def test_a_pipe_is_not_waited_for(tmp_path, capsys) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    for command in (["report", pipe], ["onnx", pipe, pipe], ["retie", pipe]):
        assert run(*command) == 2, command
    for read in (read_map, Trace.load):
        with pytest.raises(FileError):
            read(pipe)
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_in_the_place_of_a_page_is_one_message(tmp_path, capsys) -> None:
    path = ALL[0]().to_json(tmp_path / "result.json")
    for option in ("--html", "--junit", "--markdown"):
        assert run("report", str(path), option, str(tmp_path)) == 2
        err = capsys.readouterr().err
        assert "cannot be written" in err
        assert str(tmp_path) in err


def test_markup_in_names_stays_text(tmp_path) -> None:
    result = hostile()
    assert "\x1b" not in as_text(result, verbose=True)
    assert "<script>alert" not in write_html([result], tmp_path / "r.html").read_text()
