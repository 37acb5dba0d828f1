import json
import math
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xcheck.records.result
from xcheck.errors import FileError, InequivalenceError
from xcheck.records.result import PHASES, Cause, Check, Divergence, Tie, Verdict
from xcheck.report.result import Result

SCHEMA = json.loads(Path(xcheck.records.result.__file__).with_name("result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
STATUSES = ("same", "missing", "extra", "equal_but_untied", "duplicated")
RICH = Result(
    pair="my_port",
    verdict=Verdict.DIFFERENT,
    seed=3,
    steps=5,
    expected="DIFFERENT",
    environment={"torch": {"version": "2.9.0", "flags": ["deterministic"]}, "threads": 2},
    checks=(
        Check("inventory", None, None, "a", "a", "b", Verdict.EQUIVALENT),
        Check(
            "update", "float64", 1, "a", "a", "b", Verdict.DIFFERENT, 5.7e-5, 3.1e-13, 7.1e-5, "element",
            (3, 0), 0.25, 0.5, "detail",
        ),
        Check("gradient", "float32", 5, "c", "c", None, Verdict.INCONCLUSIVE, detail="missing"),
    ),
    first_divergence=Divergence("update", "float64", 1, "a", "b", 5.7e-5, 3.1e-13, "a"),
    causes=(Cause("adam_epsilon", "update", "a", None, "epsilon", {"eps": [1e-8, 1e-7]}, True, "eps=1e-8"),),
    coverage={"parameters": {"matched": 1, "unmatched": 1}},
    ties=(
        Tie(("a", "b"), ("c",), "same", {"torch": 2}, {"save": {"torch": {"deepcopy": "same"}}}),
        Tie(("d",), (), "missing"),
    ),
    timings={"build": 0.5},
    notes=("a note",),
    failure="The optimizer raised.",
    expectation={"verdict": "DIFFERENT", "phase": None, "cause": None, "held": True, "why": ""},
)  # fmt: skip


def results() -> st.SearchStrategy[Result]:
    number = st.none() | st.floats(0, allow_infinity=False)
    value = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    text, path = st.text(max_size=8), st.none() | st.text(max_size=8)
    phase, precision = st.sampled_from(PHASES), st.sampled_from((None, "float64", "float32"))
    step, verdict = st.none() | st.integers(1, 9), st.sampled_from(Verdict)
    where = st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple)
    paths = st.lists(text, max_size=2).map(tuple)
    checks = st.builds(
        Check, phase, precision, step, text, path, path, verdict, number, number, number,
        path, where, value, value, text,
    )  # fmt: skip
    divergence = st.builds(Divergence, phase, precision, step, path, path, number, number, text)
    evidence = st.dictionaries(text, value | text, max_size=2)
    cause = st.builds(Cause, st.text(min_size=1, max_size=8), phase, path, path, text, evidence, st.booleans(), text)
    return st.builds(
        Result,
        pair=text,
        verdict=verdict,
        seed=st.integers(),
        steps=st.integers(0),
        checks=st.lists(checks, max_size=2).map(tuple),
        first_divergence=st.none() | divergence,
        causes=st.lists(cause, max_size=1).map(tuple),
        coverage=st.dictionaries(text, st.dictionaries(text, st.integers(0), max_size=2), max_size=2),
        ties=st.lists(st.builds(Tie, paths, paths, st.sampled_from(STATUSES)), max_size=2).map(tuple),
        timings=st.dictionaries(text, st.floats(0, 1e6), max_size=2),
        notes=paths,
        failure=path,
    )


@settings(max_examples=20, deadline=None)
@given(results())
def test_any_result_is_valid_and_survives_the_way_to_text_and_back(result):
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    VALIDATOR.validate(data)
    assert Result.from_dict(data) == result


def test_a_rich_result_survives_a_file(tmp_path):
    path = RICH.to_json(tmp_path / "new" / "folder" / "result.json")
    assert Result.from_json(path) == RICH
    VALIDATOR.validate(json.loads(path.read_text()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_null(value):
    check = replace(RICH.checks[1], error=value, torch_value=value)
    result = replace(RICH, checks=(check,), environment={"deep": [{"value": value}]}, timings={"t": value})
    data = result.to_dict()
    assert data["checks"][0]["error"] is None
    assert data["checks"][0]["torch_value"] is None
    assert data["environment"] == {"deep": [{"value": None}]}
    assert data["timings"] == {"t": None}
    VALIDATOR.validate(data)


def test_the_schema_names_every_field_and_no_other():
    definitions = {"check": Check, "divergence": Divergence, "cause": Cause, "tie": Tie}
    for name, cls in definitions.items():
        saved = {f.name for f in fields(cls)} - {"exchanges"}  # which only a run that is going on has
        assert set(SCHEMA["$defs"][name]["properties"]) == saved, name
    saved = {f.name for f in fields(Result)} - {"reproduction"}  # which has files of its own
    assert set(SCHEMA["properties"]) == {"schema_version", *saved}
    assert SCHEMA["$defs"]["phase"]["enum"] == list(PHASES)
    assert SCHEMA["$defs"]["verdict"]["enum"] == list(Verdict)


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def _set(*keys, to):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("verdict", to="FINE"),
        _set("checks", 0, "verdict", to="SAME"),
        _set("checks", 0, "phase", to="warmup"),
        _set("checks", 1, "error", to="5.7e-05"),
        _set("checks", 1, "error", to=-1.0),
        _set("checks", 1, "step", to=0),
        _set("checks", 1, "worst_index", to=[0.5]),
        _set("checks", 1, "surplus", to=1),
        _set("ties", 0, "status", to="fine"),
        _set("causes", 0, "confirmed", to="yes"),
        _set("coverage", "parameters", "matched", to=0.5),
        _set("expectation", "held", to=None),
        _set("schema_version", to=2),
        _set("surplus", to=1),
        lambda data: data.pop("failure"),
        lambda data: data["first_divergence"].pop("name"),
    ],
)
def test_the_schema_rejects_what_is_not_a_result(change):
    data = json.loads(json.dumps(RICH.to_dict()))
    change(data)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)


def test_a_file_that_is_not_there_is_named_in_the_error(tmp_path):
    with pytest.raises(FileError, match="cannot be read") as caught:
        Result.from_json(tmp_path / "absent.json")
    assert "absent.json" in str(caught.value)


def test_a_file_cut_short_is_named_in_the_error(tmp_path):
    path = RICH.to_json(tmp_path / "result.json")
    path.write_text(path.read_text()[:200])
    with pytest.raises(FileError, match="cannot be read") as caught:
        Result.from_json(path)
    assert str(path) in str(caught.value)


def test_json_that_is_no_table_is_not_a_result(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with pytest.raises(FileError, match="not a result of xcheck"):
        Result.from_json(path)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_schema_version_is_refused_with_both_numbers(version):
    with pytest.raises(FileError, match="different format") as caught:
        Result.from_dict({**RICH.to_dict(), "schema_version": version})
    assert f"schema_version {version!r}, this xcheck reads 1" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (_set("verdict", to="FINE"), "FINE"),
        (lambda data: data.pop("checks"), "checks"),
        (_set("checks", 0, to="a check"), "'a check'"),
        (_set("checks", 0, "surplus", to=1), "surplus"),
        (_set("causes", 0, to=[]), "causes[0] is []"),
        (_set("ties", 0, to={}), "torch"),
        (_set("first_divergence", to="gradient"), "'gradient'"),
        (_set("surplus", to=1), "surplus"),
    ],
)
def test_a_damaged_result_is_refused_and_says_what_is_wrong(change, cause):
    data = json.loads(json.dumps(RICH.to_dict()))
    change(data)
    with pytest.raises(FileError, match="damaged") as caught:
        Result.from_dict(data)
    assert cause in str(caught.value)


def test_the_worst_of_no_verdict_is_inconclusive():
    assert Verdict.worst([]) is Verdict.INCONCLUSIVE


def test_the_worst_verdict_does_not_depend_on_the_order():
    assert Verdict.worst([Verdict.EQUIVALENT, Verdict.NUMERIC]) is Verdict.NUMERIC
    assert Verdict.worst([Verdict.INCONCLUSIVE, Verdict.DIFFERENT, Verdict.NUMERIC]) is Verdict.DIFFERENT


@pytest.mark.parametrize("verdict", [Verdict.DIFFERENT, Verdict.INCONCLUSIVE])
def test_assert_equivalent_raises_the_report(verdict):
    result = replace(RICH, verdict=verdict)
    with pytest.raises(InequivalenceError) as caught:
        result.assert_equivalent()
    assert isinstance(caught.value, AssertionError)
    assert str(caught.value) == result.report()
    assert str(caught.value).splitlines()[0].startswith(f"{verdict}  my_port: ")


def test_numeric_passes_unless_strict():
    result = replace(RICH, verdict=Verdict.NUMERIC)
    result.assert_equivalent()
    with pytest.raises(InequivalenceError):
        result.assert_equivalent(strict=True)


def test_a_failure_without_a_number_is_more_severe_than_any_number():
    wrong, lost = RICH.checks[1], RICH.checks[2]
    assert wrong.severity == pytest.approx(5.7e-5 / 3.1e-13)
    assert lost.severity == math.inf
    assert RICH.checks[0].severity == 0
