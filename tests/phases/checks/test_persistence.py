"""A side that is saved and loaded must go on as if it never stopped: planted losses are found and named."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from fakes import batches, linear_pair, runner_of
from persisting import persisted
from ports import dilated_conv, submodel_regularizer

import xcheck
from xcheck.errors import UserCodeError
from xcheck.frameworks.fake.runner import NumpyPersistence
from xcheck.records.reload import Route


def side(spoil=None, tied=(), **options):
    runner = runner_of(linear_pair(torch={"spoil": spoil, **options}), "torch")
    return persisted(runner, islice(batches(0), 2), tied)


def test_a_side_that_keeps_everything_passes():
    found = side()
    assert {c.name for c in found.checks} == {
        "torch: all",
        "torch: optimizer after all",
        "torch: step after all",
        "torch: parameters",
        "torch: step after parameters",
    }
    assert {c.verdict for c in found.checks} == {"EQUIVALENT"}
    assert {c.phase for c in found.checks} == {"persistence"}
    assert all(c.error == 0 for c in found.checks)
    assert {c.step for c in found.checks if "step after" in c.name} == {2}
    assert found.causes == []
    assert found.notes == ["torch: the optimizer's state does not come back, by design, after parameters"]


def test_a_value_that_comes_back_as_another_is_named_with_its_path():
    def spoil(runner):
        runner._parameters["linear.bias"] = runner._parameters["linear.bias"] + np.array([0, 1e-12])

    found = side(spoil)
    assert found.wrong()[0].name == "torch: linear.bias after all"
    assert found.wrong()[0].verdict == "DIFFERENT"
    assert found.wrong()[0].allowed == 0
    (cause,) = found.causes
    assert (cause.id, cause.torch, cause.confirmed) == ("value_not_saved", "linear.bias", True)
    assert cause.evidence["routes"] == "all, parameters"


def test_a_momentum_that_does_not_come_back_is_the_optimizers():
    def spoil(runner):
        runner._momenta = {path: value * 0 for path, value in runner._momenta.items()}

    found = side(spoil)
    assert [c.name for c in found.wrong()][:2] == ["torch: optimizer after all", "torch: step after all: linear.weight"]
    assert "momentum of linear.weight" in found.wrong()[0].detail
    assert [(c.id, c.confirmed) for c in found.causes] == [("optimizer_state_not_saved", True)]


def test_a_setting_that_does_not_come_back_shows_in_the_next_step_alone():
    def spoil(runner):
        runner.declared = replace(runner.declared, learning_rate=0.2)

    found = side(spoil)
    assert all("step after" in c.name or "optimizer after all" in c.name for c in found.wrong())
    cause = found.causes[-1]
    assert (cause.id, cause.torch, cause.confirmed) == ("setting_not_saved", "learning_rate", True)
    assert cause.evidence["found"] == "0.1 before, 0.2 after"


def untie(runner):
    runner.declared = replace(runner.declared, tied=False)
    runner._parameters["linear_1.weight"] = runner._parameters["linear.weight"].copy()


def test_a_tie_is_reported_after_every_route():
    found = side(copies=2)
    ties = [c for c in found.checks if "tie of" in c.name]
    assert [c.name for c in ties] == [
        "torch: tie of linear.weight after all",
        "torch: tie of linear.weight after parameters",
    ]
    assert {c.torch for c in ties} == {"linear.weight = linear_1.weight"}


def test_a_weight_used_several_times_under_one_path_is_reported_where_the_pair_ties_it():
    assert not [c for c in side().checks if "tie of" in c.name]
    assert len([c for c in side(tied=["linear.weight"]).checks if "tie of" in c.name]) == 2


def test_a_tie_that_is_lost_is_found_before_anything_else_and_named():
    found = side(untie, copies=2)
    first = found.wrong()[0]
    assert (first.name, first.verdict) == ("torch: tie of linear.weight after all", "DIFFERENT")
    assert first.detail.startswith("equal but untied")
    assert [(c.id, c.confirmed) for c in found.causes] == [("tie_lost_on_save", True)]


def test_a_tie_that_a_route_is_known_to_lose_is_said_and_no_difference(monkeypatch):
    monkeypatch.setattr(NumpyPersistence, "routes", (Route("parameters", unties="variables"),))
    found = side(untie, copies=2)
    assert found.wrong() == []
    tie, *_, step = found.checks
    assert tie.detail.startswith("by design")
    assert "gradients" in step.detail
    assert any("(linear.weight): tie again after loading" in note for note in found.notes)


@pytest.mark.parametrize("also", [0, 1e-9])
def test_what_is_known_must_be_all_that_is_lost(monkeypatch, also):
    monkeypatch.setattr(NumpyPersistence, "routes", (Route("parameters", unties="variables"),))

    def spoil(runner):
        untie(runner)
        fault = runner.declared.fault

        def wrong(record):
            record = fault(record) if fault else record
            gradients = {path: g if path != "linear.bias" else g * (1 + also) for path, g in record.gradients.items()}
            return replace(record, gradients=gradients)

        runner.declared = replace(runner.declared, fault=wrong)

    found = side(spoil, copies=2)
    names = [c.name for c in found.wrong()]
    assert names == ([] if not also else ["torch: step after parameters: linear.bias"])


def test_another_loss_of_a_tie_than_the_known_one_is_a_difference(monkeypatch):
    monkeypatch.setattr(NumpyPersistence, "routes", (Route("parameters", unties="parameters"),))
    assert side(untie, copies=2).wrong()[0].name == "torch: tie of linear.weight after parameters"


def test_a_parameter_that_is_new_is_a_difference():
    def spoil(runner):
        runner._parameters["extra.weight"] = np.ones(5)

    assert side(spoil).wrong()[0].detail == "did not exist before it was saved"


def test_a_parameter_that_is_gone_is_a_difference():
    def spoil(runner):
        del runner._parameters["more"]

    found = side(spoil, extra={"more": (2,)})
    assert found.wrong()[0].name == "torch: more after all"
    assert found.wrong()[0].detail == "is gone after loading"


def test_a_route_that_does_not_run_is_inconclusive_with_its_message(monkeypatch):
    def reload(self, route, folder, batch):
        raise UserCodeError("The route raised.", cause="two\nlines", todo="mend it")

    monkeypatch.setattr(NumpyPersistence, "reload", reload)
    found = side()
    assert [(c.name, c.verdict.value) for c in found.checks] == [
        ("torch: all", "INCONCLUSIVE"),
        ("torch: parameters", "INCONCLUSIVE"),
    ]
    assert found.checks[0].detail == "did not run: The route raised. two lines. mend it"


# In a run ----------------------------------------------------------------------------------------------------------


def test_it_runs_where_it_is_asked_for():
    asked = xcheck.check(linear_pair(also=("persistence",)), steps=1)
    assert "persistence" in {c.phase for c in asked.checks}
    assert asked.verdict == "EQUIVALENT", asked.report()
    assert "persistence" not in {c.phase for c in xcheck.check(linear_pair(), steps=1).checks}


@pytest.mark.parametrize("name", ["torch", "keras"])
def test_a_loss_is_the_verdict_of_the_run(name, tmp_path):
    path = {"torch": "linear.bias", "keras": "dense/bias"}[name]

    def spoil(runner):
        runner._parameters[path] = runner._parameters[path] + 1

    result = xcheck.check(linear_pair(**{name: {"spoil": spoil}}, also=("persistence",)), steps=1)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "persistence"
    assert getattr(result.first_divergence, name) == path
    assert [(c.id, c.phase) for c in result.causes] == [("value_not_saved", "persistence")]
    text = result.report()
    assert "persistence  " in text
    assert "value_not_saved, confirmed" in text
    assert xcheck.Result.from_json(result.to_json(tmp_path / "result.json")).checks == result.checks
    assert "value_not_saved" in result.to_html(tmp_path / "report.html").read_text()


def test_each_side_is_told_from_itself_where_the_sides_differ():
    result = xcheck.check(linear_pair(keras={"learning_rate": 0.2}, also=("persistence",)), steps=1)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "update"
    saved = [c for c in result.checks if c.phase == "persistence"]
    assert {c.name.partition(":")[0] for c in saved} == {"torch", "keras"}
    assert {c.verdict.value for c in saved} == {"EQUIVALENT"}


def test_a_loss_is_named_beside_the_difference_of_the_sides():
    def spoil(runner):
        runner._parameters["dense/bias"] = runner._parameters["dense/bias"] + 1

    result = xcheck.check(linear_pair(keras={"learning_rate": 0.2, "spoil": spoil}, also=("persistence",)), steps=1)
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "update"
    assert ("value_not_saved", "dense/bias") in [(c.id, c.keras) for c in result.causes]


def test_what_is_not_known_to_be_whole_is_inconclusive():
    short = {"linear.weight": "dense/kernel", "linear.bias": "spare/bias"}
    also = ("persistence", "export")
    result = xcheck.check(linear_pair(weight_map=short, keras={"extra": {"spare/bias": (2,)}}, also=also), steps=1)
    assert result.verdict == "INCONCLUSIVE"
    told = [(c.phase, c.verdict.value, c.detail) for c in result.checks if c.phase in ("persistence", "export")]
    why = "skipped: some parameters are unmatched; complete weight_map first"
    assert told == [("persistence", "INCONCLUSIVE", why), ("export", "INCONCLUSIVE", why)]


def test_a_step_that_draws_at_random_decides_nothing_about_what_was_saved():
    drawn = np.random.default_rng(0)

    def noisy(record):
        moved = {name: loss + drawn.standard_normal() for name, loss in record.losses.items()}
        return replace(record, losses=moved)

    result = xcheck.check(linear_pair(torch={"fault": noisy}, also=("persistence",)), steps=1)
    steps = [c for c in result.checks if c.name.startswith("torch: step after")]
    assert {c.verdict.value for c in steps} == {"INCONCLUSIVE"}
    assert "draws random numbers" in steps[0].detail
    assert not [c for c in result.causes if c.phase == "persistence"]


@pytest.mark.parametrize("pair", [dilated_conv, submodel_regularizer])
def test_the_pairs_of_the_repository_come_back_by_every_route(pair):
    result = xcheck.check(pair(), phases=("persistence",), steps=1, precision=("float64",))
    assert result.verdict == "EQUIVALENT", result.report()
    routes = {c.name for c in result.checks if "step after" in c.name}
    assert len(routes) == 9
    assert all(c.error is not None for c in result.checks if "step after" in c.name)
    if pair is dilated_conv:
        tied = [c.name for c in result.checks if "tie of" in c.name]
        assert len(tied) == 2 * 9
        assert "keras: tie of shared_conv/kernel after .keras" in tied
