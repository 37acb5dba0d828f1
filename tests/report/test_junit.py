import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from results import ALL, crashed, different, equivalent, hostile, inconclusive, numeric

from xcheck.records.result import Check, Verdict
from xcheck.report.junit import write_junit
from xcheck.report.result import Result


def suite(result: Result, tmp_path) -> ET.Element:
    root = ET.parse(write_junit([result], tmp_path / "junit.xml")).getroot()
    assert root.tag == "testsuites"
    (only,) = root
    return only


def bad(element: ET.Element) -> list[ET.Element]:
    return [*element.iter("failure"), *element.iter("error")]


def test_there_is_a_case_per_phase_and_precision(tmp_path):
    cases = suite(equivalent(), tmp_path).findall("testcase")
    assert [case.get("name") for case in cases][:4] == [
        "inventory", "sync float64", "sync float32", "forward float64",
    ]  # fmt: skip
    assert len(cases) == 11
    assert {case.get("classname") for case in cases} == {"xcheck.shared_dilated_conv"}
    assert not [child.tag for case in cases for child in case]


def test_different_is_a_failure_whose_message_has_the_numbers(tmp_path):
    table = suite(replace(different(), expected=None, expectation=None), tmp_path)
    failed = {case.get("name"): case.find("failure") for case in table.iter("testcase") if len(case)}
    assert set(failed) == {"update float64", "trajectory float64"}
    message = failed["update float64"].get("message")
    assert message.startswith(
        "DIFFERENT stem.conv.weight (keras stem/conv/kernel) at step 1: 5.7e-05 against 3.1e-13 allowed, 1.8e"
    )
    assert message.endswith("(and 24 more)")
    assert failed["update float64"].get("type") == "DIFFERENT"
    lines = failed["update float64"].text.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "+5 more in result.json"


@pytest.mark.parametrize("make", [inconclusive, crashed])
def test_inconclusive_is_an_error_never_passed_nor_skipped(make, tmp_path):
    table = suite(make(), tmp_path)
    assert table.get("errors") == "1"
    assert table.get("skipped") == "0"
    assert list(table.iter("skipped")) == []
    (error,) = table.iter("error")
    assert error.get("type") == "INCONCLUSIVE"


def test_an_early_end_is_an_error_with_the_message(tmp_path):
    (error,) = suite(crashed(), tmp_path).iter("error")
    assert "The pair's build raised." in error.get("message")
    assert "KeyError: 'width'" in error.text


def test_an_early_end_is_an_error_even_where_every_check_passed(tmp_path):
    table = suite(replace(equivalent(), failure="The optimizer raised."), tmp_path)
    assert [case.get("name") for case in table.iter("testcase") if len(case)] == ["run"]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_result_without_checks_never_passes(verdict, tmp_path):
    assert len(bad(suite(Result("p", verdict, 0, 1), tmp_path))) == 1


def test_a_verdict_worse_than_all_checks_is_not_lost(tmp_path):
    (error,) = bad(suite(replace(equivalent(), verdict=Verdict.INCONCLUSIVE), tmp_path))
    assert error.tag == "error"
    (failure,) = bad(suite(replace(equivalent(), verdict=Verdict.DIFFERENT), tmp_path))
    assert failure.tag == "failure"


def test_a_phase_that_was_expected_and_did_not_run_is_an_error(tmp_path):
    result = replace(equivalent(), expectation={"verdict": "DIFFERENT", "phase": "export", "held": False})
    case, expected = [case for case in suite(result, tmp_path).iter("testcase") if len(case)]
    assert (case.get("name"), expected.get("name")) == ("export", "expectation")
    assert case.find("error") is not None
    assert expected.find("failure") is not None


def test_numeric_passes_and_says_its_numbers(tmp_path):
    table = suite(numeric(), tmp_path)
    assert bad(table) == []
    (said,) = table.iter("system-out")
    assert "NUMERIC head.bias" in said.text
    assert "3.4e-04 against 1.9e-06 allowed, 180x" in said.text


def test_the_counts_of_several_results_add_up(tmp_path):
    results = [make() for make in ALL]
    root = ET.parse(write_junit(results, tmp_path / "new" / "junit.xml")).getroot()
    assert [one.get("name") for one in root] == [result.pair for result in results]
    for count in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(count)) == sum(int(one.get(count)) for one in root)
    assert (root.get("failures"), root.get("errors")) == ("0", "2")  # the difference is an expected one


def test_expectation_seed_and_verdict_are_properties(tmp_path):
    table = {p.get("name"): p.get("value") for p in suite(different(), tmp_path).iter("property")}
    assert table == {
        "verdict": "DIFFERENT",
        "seed": "3",
        "steps": "5",
        "expected": "DIFFERENT in update, cause adam_epsilon: held",
    }


def test_hostile_names_come_back_from_the_file(tmp_path):
    (failure, *_) = suite(hostile(), tmp_path).iter("failure")
    assert "<script>alert('x')</script>.[red]weight[/red] & [link=x]b :smile: \\x1b[31mc d" in failure.get("message")


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x0b", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_forbids_are_replaced(char, tmp_path):
    text = f"a{char}b"
    check = Check("update", "float64", 1, text, text, text, Verdict.DIFFERENT, 1.0, 1e-13, detail=text)
    table = suite(Result(text, Verdict.DIFFERENT, 0, 1, checks=(check,), failure=text), tmp_path)
    assert table.get("name") == "a\ufffdb"
    assert len(bad(table)) == 2
