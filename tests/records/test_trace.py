"""Records and traces, in memory and on disk."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fakes import linear_pair, steps_of
from safetensors.numpy import load_file, save_file

import xcheck.records.trace
from xcheck.errors import FileError
from xcheck.records.trace import Key, State, StepRecord, Trace

BEFORE = State(
    {"a.weight": np.array([[1.0, 2.0], [3.0, 4.0]])},
    {"a.count": np.array(7), "a.mask": np.array([True, False])},
    {"a.weight": {"momentum": np.zeros((2, 2)), "momentum_product": np.array(0.9)}},
    updates=4,
    ties=(("a.weight", "b.weight"), ("c.weight", "d.weight", "e.weight")),
)
AFTER = replace(
    BEFORE, parameters={"a.weight": np.array([[1.5, 2.0], [3.0, 3.0]])}, updates=5, ties=(("a.weight", "b.weight"),)
)
RECORD = StepRecord(
    step=1,
    before=BEFORE,
    after=AFTER,
    inference={"output": np.array([np.nan, np.inf, -0.0])},
    outputs={"output": np.arange(6.0).reshape(2, 3).T[::-1]},
    losses={"data": np.array(0.25), "data/a|b": np.array(1.0, np.float32), "total": np.array(0.25)},
    gradients={"a.weight": np.ones((2, 2)), "lost": None},
    uses={"a.weight": {"z.head (call 1)": np.full((2, 2), 0.25), "a (call 2, use 1)": np.full((2, 2), 0.75)}},
)


def same(left: StepRecord, right: StepRecord) -> None:
    """Bit for bit."""
    mine, theirs = dict(left.items()), dict(right.items())
    assert set(mine) == set(theirs)
    for key, array in mine.items():
        assert array.dtype == theirs[key].dtype, key
        assert array.shape == theirs[key].shape, key
        assert np.asarray(array, order="C").tobytes() == theirs[key].tobytes(), key
    assert {n for n, g in left.gradients.items() if g is None} == {n for n, g in right.gradients.items() if g is None}
    assert [left.step, left.before.updates, left.after.updates] == [
        right.step,
        right.before.updates,
        right.after.updates,
    ]
    assert [left.before.ties, left.after.ties] == [right.before.ties, right.after.ties]
    order = [[(path, list(uses)) for path, uses in record.uses.items()] for record in (left, right)]
    assert order[0] == order[1]


def test_the_update_is_what_the_step_added():
    assert RECORD.updates().keys() == {"a.weight"}
    assert np.array_equal(RECORD.updates()["a.weight"], [[0.5, 0.0], [0.0, -1.0]])


def test_items_name_every_array_and_leave_out_a_missing_gradient():
    keys = [key for key, _ in RECORD.items()]
    assert len(keys) == len(set(keys)) == 18
    assert Key(1, "gradients", "a.weight") in keys
    assert Key(1, "after.slots.momentum_product", "a.weight") in keys
    assert not [key for key in keys if key.name == "lost"]


def test_a_trace_comes_back_bit_for_bit(tmp_path):
    eleventh = replace(RECORD, step=11, gradients={"a.weight": np.full((2, 2), 3.0)})
    twin = replace(RECORD, outputs={"output": np.ones(2)})
    made = Trace({"pair": "p", "seed": 3, "deep": {"list": [1, None]}}, (RECORD, eleventh), ((twin, RECORD), ()))
    path = made.save(tmp_path / "new" / "folder" / "trace.safetensors")
    read = Trace.load(path)
    assert read.header == made.header
    assert [len(twins) for twins in read.twins] == [2, 0]
    for mine, theirs in zip(made.steps, read.steps, strict=True):
        same(mine, theirs)
    same(twin, read.twins[0][0])
    same(RECORD, read.twins[0][1])


def test_the_records_of_a_real_run_come_back_bit_for_bit(tmp_path):
    _, steps = steps_of(linear_pair(), steps=3)
    made = Trace({}, tuple(s.reference.record for s in steps), tuple(s.reference.twins for s in steps))
    read = Trace.load(made.save(tmp_path / "t"))
    for step, twins, mine in zip(read.steps, read.twins, made.steps, strict=True):
        same(mine, step)
        assert len(twins) == 2
    for mine, theirs in zip([t for ts in made.twins for t in ts], [t for ts in read.twins for t in ts], strict=True):
        same(mine, theirs)


def test_the_arrays_of_another_run_or_step_are_not_mixed_in(tmp_path):
    twelve = tuple(replace(RECORD, step=i, losses={"total": np.array(float(i))}) for i in range(1, 13))
    twins = tuple((replace(r, losses={"total": -r.losses["total"]}),) for r in twelve)
    read = Trace.load(Trace({}, twelve, twins).save(tmp_path / "t"))
    assert [float(r.losses["total"]) for r in read.steps] == list(range(1, 13))
    assert [float(t.losses["total"]) for (t,) in read.twins] == [-i for i in range(1, 13)]


@pytest.mark.parametrize("content", [b"", b"{}", b"not a trace at all, but long enough to look like one"])
def test_a_file_that_is_no_trace_is_refused(tmp_path, content):
    path = tmp_path / "trace"
    path.write_bytes(content)
    with pytest.raises(FileError, match="cannot be read") as caught:
        Trace.load(path)
    assert str(path) in str(caught.value)
    assert "xcheck record" in str(caught.value)


def test_a_trace_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match="trace does not exist") as caught:
        Trace.load(tmp_path / "absent")
    assert "absent" in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_trace_cut_short_is_refused(tmp_path, share):
    path = Trace({}, (RECORD,), ((),)).save(tmp_path / "trace")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FileError, match="cannot be read"):
        Trace.load(path)


def test_arrays_saved_by_someone_else_are_refused(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "weights")
    with pytest.raises(FileError, match="cannot be read"):
        Trace.load(tmp_path / "weights")


def test_a_trace_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(xcheck.records.trace, "TRACE_VERSION", 2)
    path = Trace({}, (RECORD,), ((),)).save(tmp_path / "trace")
    monkeypatch.undo()
    with pytest.raises(FileError, match="different version") as caught:
        Trace.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("records", [None, [{"run": 0}], ["x"], [{"run": 0, "step": 1, "updates": [1]}]])
def test_a_trace_with_a_damaged_list_of_records_is_refused(tmp_path, records):
    path = Trace({}, (RECORD,), ((),)).save(tmp_path / "trace")
    header = {"trace_version": 1} | ({} if records is None else {"records": records})
    save_file(load_file(path), path, metadata={"xcheck": json.dumps(header)})
    with pytest.raises(FileError, match="damaged") as caught:
        Trace.load(path)
    assert str(path) in str(caught.value)
