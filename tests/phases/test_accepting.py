"""What is accepted is taken out or left out, and hides nothing that stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from accepted_pairs import adam, layers, norm, rates
from commands import run as command

import xcheck
from xcheck.errors import PairError
from xcheck.report.html import as_html
from xcheck.report.junit import write_junit

SCHEMA = json.loads((Path(xcheck.__file__).parent / "records" / "result.schema.json").read_text())


def run(pair: xcheck.Pair, steps: int = 1, free_steps: int = 0, precision: tuple[str, ...] = ("float64",)):
    return xcheck.check(pair, steps=steps, free_steps=free_steps, precision=precision)


def confirmed(result: xcheck.Result) -> list[str]:
    return [cause.id for cause in result.causes if cause.confirmed]


def first_line(result: xcheck.Result) -> str:
    return " ".join(result.report().partition("\n\n")[0].split())


# The three pairs of the page ------------------------------------------------------------------------------------


def test_a_biased_variance_is_taken_out_in_each_step_and_the_free_run_goes_on():
    result = run(norm("biased_variance"), steps=2, free_steps=2, precision=("float64", "float32"))
    assert result.verdict == "EQUIVALENT", result.report()
    assert "apart from accepted differences (biased_variance)" in first_line(result)
    (accepted,) = result.accepted
    assert (accepted.cause, accepted.how, accepted.where) == ("biased_variance", "by its formula", ("norm",))
    judged = [c for c in result.checks if c.name == "norm.running_var" and c.precision == "float64" and c.step]
    judged = [c for c in judged if not c.at_ordinary]
    assert [c.error is not None and c.error < 1e-13 for c in judged] == [True, True]
    assert accepted.not_judged == ("state norm.running_var in float32",)
    assert any(c.phase == "trajectory" for c in result.checks)
    assert not result.causes
    assert result.first_divergence is None


def test_a_momentum_beside_it_is_found():
    result = run(norm("biased_variance", momentum=0.8))
    assert (result.verdict, confirmed(result)) == ("DIFFERENT", ["momentum"]), result.report()
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "state"
    left = {c.name for c in result.checks if c.verdict == "DIFFERENT"}
    assert left == {"norm.running_mean", "norm.running_var"}


@pytest.mark.parametrize("decay", [0.1, 1.0])
def test_a_decay_beside_another_formula_is_found(decay: float):
    result = run(adam("optimizer_formula", decay=decay), steps=2)
    expected = ("EQUIVALENT", []) if decay == 0.1 else ("DIFFERENT", ["weight_decay"])
    assert (result.verdict, confirmed(result)) == expected, result.report()
    assert result.accepted[0].how == "by its formula"


def test_nothing_is_taken_out_where_nothing_is_accepted():
    assert run(norm()).verdict == run(adam()).verdict == "DIFFERENT"


# Places, quantities, and what stands beside ---------------------------------------------------------------------


def test_a_cause_is_accepted_at_its_place_only():
    assert run(norm("biased_variance@norm")).verdict == "EQUIVALENT"
    at_another = run(rates("rate_of_some@second.weight"))
    assert at_another.verdict == "DIFFERENT"
    assert "accepted, but not seen" in at_another.report()


def test_both_of_two_differences_of_one_place_are_accepted():
    assert run(norm("biased_variance", "momentum", momentum=0.8)).verdict == "EQUIVALENT"
    other = run(norm("momentum", momentum=0.8))
    assert (other.verdict, confirmed(other)) == ("DIFFERENT", ["biased_variance"])


@pytest.mark.parametrize("accept", ["rate_of_some", "weight first.weight"])
def test_one_parameter_is_left_out_and_the_free_run_sets_it(accept: str):
    result = run(rates(accept), free_steps=3)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.accepted[0].not_judged == ("update first.weight",)
    assert any(c.phase == "trajectory" for c in result.checks)


def test_a_quantity_hides_no_other():
    result = run(norm("buffer running_var", momentum=0.8))
    assert result.verdict == "DIFFERENT"
    assert {c.name for c in result.checks if c.verdict == "DIFFERENT"} == {"norm.running_mean"}
    assert run(norm("buffer running_var")).verdict == "EQUIVALENT"


def test_what_may_follow_from_a_cause_without_a_formula_is_left_open():
    result = run(layers("epsilon@near", near=1e-2))
    assert result.verdict == "INCONCLUSIVE"
    assert not result.causes
    assert "not judged: it may follow from epsilon at near" in " ".join(result.report().split())


def test_another_cause_of_its_kind_is_found():
    result = run(layers("epsilon@near", near=1e-2, far=2e-2))
    assert (result.verdict, confirmed(result)) == ("DIFFERENT", ["epsilon"])
    assert result.first_divergence is not None
    assert result.first_divergence.torch == "far"


def test_a_learning_rate_behind_an_accepted_layer_is_found():
    result = run(layers("epsilon", near=1e-2, rate=0.2))
    assert (result.verdict, confirmed(result)) == ("DIFFERENT", ["optimizer_setting"]), result.report()


def test_what_is_not_there_is_said():
    result = run(layers("epsilon"))
    assert result.verdict == "EQUIVALENT"
    assert "apart from" not in result.report()
    assert "accepted, but not seen in this run" in result.report()


def test_what_is_only_likely_is_not_accepted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xcheck.causes.state.statistics.REPRODUCED", -1.0)  # nothing reproduces anything
    monkeypatch.setattr("xcheck.causes.update.optimizer.REPRODUCED", -1.0)
    result = run(adam("optimizer_formula"))
    assert result.verdict == "DIFFERENT"
    assert [a.how for a in result.accepted] == ["not confirmed"]
    assert "but not confirmed, so not accepted" in " ".join(result.report().split())


# Names that fit nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "near"),
    [
        ("biased_varianc", "biased_variance"),
        ("biased_variance@nrm", "norm"),
        ("weight linear.wight", "linear.weight"),
        ("buffer running_vra", "norm.running_var"),
    ],
)
def test_a_name_that_fits_nothing_is_an_error_with_names_near_to_it(accept: str, near: str):
    with pytest.raises(PairError, match="matches nothing") as caught:
        run(norm(accept))
    assert near in str(caught.value.parts["next"])


@pytest.mark.parametrize("accept", ["", "biased_varianc@norm", "no_such_thing@norm", "biased_variance@"])
def test_a_cause_that_does_not_exist_is_refused_at_once(accept: str):
    with pytest.raises(PairError):
        norm(accept)


def test_a_text_is_no_list_of_names():
    with pytest.raises(PairError, match="must be a list"):
        xcheck.Pair("p", None, None, lambda seed: [], accept="biased_variance")


# Every way to see it --------------------------------------------------------------------------------------------


def test_the_command_line_accepts_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = Path(__file__).parents[1] / "helpers" / "accepted_pairs.py"
    common = ["run", str(file), "--steps", "1", "--free-steps", "0", "--precision", "float64", "--out", str(tmp_path)]
    assert command(*common, "--quiet") == 1
    capsys.readouterr()
    assert command(*common, "--accept", "biased_variance@norm", "--accept", "epsilon") == 0
    assert "apart from accepted differences (biased_variance@norm)" in " ".join(capsys.readouterr().out.split())
    data = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(data, SCHEMA)
    assert [(a["what"], a["how"]) for a in data["accepted"]] == [
        ("biased_variance@norm", "by its formula"),
        ("epsilon", "not seen"),
    ]
    assert "apart from accepted differences" in (tmp_path / "report.html").read_text()
    assert xcheck.Result.from_json(tmp_path / "result.json").accepted[1].seen is False
    assert command(*common, "--accept", "no_such_cause") == 2
    assert "no_such_cause" in capsys.readouterr().err


def test_reports_of_several_runs_show_it(tmp_path: Path):
    result = run(norm("biased_variance"))
    text = write_junit([result], tmp_path / "junit.xml").read_text()
    assert 'name="accepted"' in text
    assert "apart from accepted differences" in text
    assert 'failures="0"' in text
    assert "removed by its formula at norm" in as_html([result])
