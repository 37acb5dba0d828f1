"""Golden traces: checking against a recording is checking against the live side."""

import json
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest
from fakes import bad, batches, changed, linear_pair, scaled
from ports import dilated_conv
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import xcheck
from xcheck.cli.golden import SEMANTIC
from xcheck.errors import BatchError, FileError, PairError, UserCodeError
from xcheck.frameworks.fake.runner import NumpyRunner
from xcheck.records.trace import Trace, _digest

RECORDED = SEMANTIC
FAULT = {"fault": scaled("gradients", "dense/bias", by=1 + 1e-9, step=2)}


def recorded(tmp_path, pair=None, **options) -> Trace:
    return Trace.load(xcheck.record(pair or linear_pair(), **options).save(tmp_path / "trace"))


@pytest.mark.parametrize("reference", ["torch", "keras"])
@pytest.mark.parametrize("fault", [None, "keras", "torch"])
def test_a_check_against_a_recording_gives_the_numbers_of_a_live_one(tmp_path, reference, fault):
    name = {"torch": "linear.bias", "keras": "dense/bias"}
    side = {} if fault is None else {fault: {"fault": scaled("gradients", name[fault], by=1 + 1e-9, step=2)}}
    pair = linear_pair(reference=reference, **side)
    live = xcheck.check(pair, steps=3, seed=4, precision=("float64",), phases=RECORDED, reach="none")
    later = xcheck.verify(pair, recorded(tmp_path, pair, steps=3, seed=4), phases=RECORDED)
    assert [asdict(c) for c in later.checks] == [asdict(c) for c in live.checks if not c.at_ordinary]
    assert (later.verdict, later.seed, later.steps) == (live.verdict, 4, 3)
    assert later.verdict == ("DIFFERENT" if fault else "EQUIVALENT")
    assert (later.first_divergence, later.ties, later.coverage) == (live.first_divergence, live.ties, live.coverage)
    assert fault or "not covered: weights of ordinary size (the reference is a recording)" in later.notes
    assert later.environment[reference]["recorded"] is True
    assert "recorded" not in live.environment[reference]


def test_the_reference_is_not_built_for_a_check_against_its_recording(tmp_path, monkeypatch):
    trace = recorded(tmp_path, steps=2)
    built = []
    original = NumpyRunner.__init__

    def watching(self, declared, **options):
        built.append(declared.side)
        original(self, declared, **options)

    monkeypatch.setattr(NumpyRunner, "__init__", watching)
    assert xcheck.verify(linear_pair(keras=FAULT), trace).verdict == "DIFFERENT"
    assert built == ["keras"]
    xcheck.verify(replace(linear_pair(), torch=None), trace).assert_equivalent()


def test_ties_are_compared_after_the_process_that_recorded_them_is_gone(tmp_path):
    copies = {"copies": 2}
    pair = linear_pair(torch=copies, keras=copies)
    trace = recorded(tmp_path, pair, steps=1)
    assert [t.status for t in xcheck.verify(pair, trace).ties] == ["same"]
    weight_map = {**pair.weight_map, "linear_1.weight": "dense_1/kernel"}
    untied = linear_pair(torch=copies, keras={"copies": 2, "tied": False}, weight_map=weight_map)
    found = xcheck.verify(untied, trace)
    assert [t.status for t in found.ties] == ["equal_but_untied"]
    assert found.verdict == "DIFFERENT"


def test_the_uses_of_a_weight_are_recorded_and_compared(tmp_path):
    pair = dilated_conv()
    asked = ("gradient", "update")
    live = xcheck.check(pair, steps=1, precision=("float64",), phases=asked)
    later = xcheck.verify(pair, recorded(tmp_path, pair, steps=1), phases=asked)
    assert [asdict(c) for c in later.checks] == [asdict(c) for c in live.checks if not c.at_ordinary]
    assert sum(c.of_use for c in later.checks) == 10


def test_phases_can_be_chosen_for_a_recording_too(tmp_path):
    result = xcheck.verify(linear_pair(keras=FAULT), recorded(tmp_path, steps=2), phases=("forward", "loss"))
    assert {c.phase for c in result.checks} == {"forward", "loss"}
    assert result.verdict == "EQUIVALENT"
    assert "only these phases" in result.notes[-1]


def test_slots_without_a_known_role_are_recorded_and_judged_by_the_next_updates(tmp_path, monkeypatch):
    monkeypatch.setattr(NumpyRunner, "unmapped_slots", lambda self: ["Lion.m"] if self.side == "torch" else [])
    traces = [recorded(tmp_path / str(steps), steps=steps) for steps in (1, 2)]
    monkeypatch.undo()
    assert bad(xcheck.verify(linear_pair(), traces[0])) == [("update", 1, "Lion.m", "INCONCLUSIVE")]
    result = xcheck.verify(linear_pair(), traces[1])
    assert bad(result) == []
    assert any("Lion.m" in note for note in result.notes)


def test_a_reference_that_does_not_repeat_itself_is_not_trusted_once_it_is_recorded(tmp_path):
    rng = np.random.default_rng(0)
    noisy = changed("gradients", "linear.weight", change=lambda g: g * (1 + 1e-3 * rng.standard_normal(g.shape)))
    trace = recorded(tmp_path, linear_pair(torch={"fault": noisy}), steps=2)
    wrong = linear_pair(keras={"fault": scaled("gradients", "dense/kernel", by=1 + 1e-3)})
    assert xcheck.verify(wrong, trace).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (linear_pair(name="other"), "torch side of 'linear'; needed: torch side of 'other'"),
        (linear_pair(reference="keras"), "torch side of 'linear'; needed: keras side of 'linear'"),
    ],
)
def test_a_trace_of_something_else_is_refused(tmp_path, pair, words):
    with pytest.raises(FileError, match="a different pair or side") as caught:
        xcheck.verify(pair, recorded(tmp_path, steps=1))
    assert words in str(caught.value)
    assert caught.value.result.verdict == "INCONCLUSIVE"


def test_other_batches_than_the_recorded_ones_are_refused_at_their_step(tmp_path):
    def other(seed):
        for number, batch in enumerate(batches(seed), 1):
            yield batch if number != 2 else replace(batch, targets=batch.targets + 2.0**-10)

    with pytest.raises(BatchError, match="differ from those of the trace") as caught:
        xcheck.verify(linear_pair(batches=other), recorded(tmp_path, steps=3))
    assert "step 2" in str(caught.value)
    assert {c.step for c in caught.value.result.checks} == {None, 1}
    assert caught.value.result.verdict == "INCONCLUSIVE"


def test_batches_that_end_before_the_recording_does_are_refused(tmp_path):
    short = linear_pair(batches=lambda seed: list(islice(batches(seed), 2)))
    with pytest.raises(BatchError, match="too few batches"):
        xcheck.verify(short, recorded(tmp_path, steps=3))


@pytest.mark.parametrize("drop", ["seed", "inventory", "batches", "environment"])
def test_a_recording_whose_header_lacks_something_is_a_damaged_file(tmp_path, drop):
    path = xcheck.record(linear_pair(), steps=1).save(tmp_path / "trace")
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["xcheck"])
    del header[drop]
    text, arrays = json.dumps(header), load_file(path)
    save_file(arrays, path, metadata={"xcheck": text, "sha256": _digest(text, arrays)})
    with pytest.raises(FileError, match="damaged"):
        xcheck.verify(linear_pair(), Trace.load(path))


def test_a_changed_number_of_a_recording_is_seen(tmp_path):
    path = xcheck.record(linear_pair(), steps=2).save(tmp_path / "trace")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    for run in range(3):  # the twins too: what they do not share is taken for the noise of the reference
        arrays[f"{run}|2|gradients|linear.weight"][1, 2] *= 1 + 1e-9
    save_file(arrays, path, metadata=metadata)
    with pytest.raises(FileError, match="cannot be read"):
        Trace.load(path)  # damage is found before anything is compared
    save_file(arrays, path, metadata={**metadata, "sha256": _digest(metadata["xcheck"], arrays)})
    result = xcheck.verify(linear_pair(), Trace.load(path))
    assert bad(result) == [("gradient", 2, "linear.weight", "DIFFERENT")]
    assert result.checks[[c.verdict for c in result.checks].index("DIFFERENT")].worst_index == (1, 2)


def test_the_header_says_how_a_recording_was_made():
    header = xcheck.record(linear_pair(), steps=2, seed=9).header
    assert (header["pair"], header["side"], header["precision"], header["seed"]) == ("linear", "torch", "float64", 9)
    assert [(e["path"], e["identity"], e["storage"]) for e in header["inventory"]] == [
        ("linear.weight", 0, 0),
        ("linear.bias", 1, 1),
    ]
    assert len(set(header["batches"])) == 2
    assert header["environment"]["torch"] == {"numpy": np.__version__}
    json.dumps(header, allow_nan=False)


def test_recording_twice_gives_the_same_bytes(tmp_path):
    first, second = (xcheck.record(linear_pair(), steps=2).save(tmp_path / name) for name in "ab")
    arrays, again = load_file(first), load_file(second)
    assert arrays.keys() == again.keys()
    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)


def test_a_recording_cannot_be_matched_by_its_values(tmp_path):
    pair = linear_pair(weight_map=None)
    with pytest.raises(PairError, match="a recorded side cannot be matched") as caught:
        xcheck.verify(pair, recorded(tmp_path, pair, steps=1))
    assert "xcheck match PAIR --write" in str(caught.value)
    partial = linear_pair(weight_map={"linear.weight": "dense/kernel"})
    result = xcheck.verify(partial, recorded(tmp_path, partial, steps=1))
    assert result.verdict == "INCONCLUSIVE"
    assert result.coverage["parameters"]["unmatched"] == 2


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(PairError, match="at least one step"):
        xcheck.record(linear_pair(), steps=0)
    with pytest.raises(UserCodeError, match="torch prepare raised ZeroDivisionError"):
        xcheck.record(linear_pair(torch={"prepare": lambda _: 1 / 0}))


@pytest.mark.parametrize("phase", ["trajectory", "modes", "persistence", "export"])
def test_a_phase_that_a_recording_has_nothing_of_is_refused_and_not_passed_over(tmp_path, phase):
    trace = recorded(tmp_path, steps=1)
    with pytest.raises(PairError, match=f"does not cover the phase '{phase}'"):
        xcheck.verify(linear_pair(), trace, phases=("forward", phase))


def test_all_phases_of_a_recording_are_those_that_it_has(tmp_path):
    result = xcheck.verify(linear_pair(), recorded(tmp_path, steps=1), phases=("all",))
    assert result.verdict == "EQUIVALENT"
    assert {c.phase for c in result.checks} <= set(SEMANTIC)
