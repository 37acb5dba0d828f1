"""What became of each tie: planted in the checks of a run, and told per stage and side."""

from xcheck.phases.ties.stages import staged
from xcheck.records.result import Check, Tie, Verdict

EQUAL, DIFFERENT, OPEN = Verdict.EQUIVALENT, Verdict.DIFFERENT, Verdict.INCONCLUSIVE
BUILT = {"torch": {"build": "tied"}, "keras": {"build": "tied"}}
TIE = Tie(("a.weight", "b.weight"), ("shared/kernel",), "same", stages={"build": BUILT})


def check(phase, name, paths=None, verdict=EQUAL, detail="", step=None, side="torch"):
    sides = (paths, None) if side == "torch" else (None, paths)
    return Check(phase, "float64", step, name, *sides, verdict, detail=detail)


def stages(*checks, tie=TIE):
    (found,) = staged([tie], checks)
    return found.stages


def test_only_stages_that_ran_are_told():
    assert stages() == {"build": BUILT}
    assert set(stages(check("sync", "a.weight", "a.weight"))) == {"build", "sync"}


def test_what_no_check_tells_of_is_as_it_was():
    held = [check("update", "ties of the torch side", "a.weight = b.weight", step=1), check("update", "x", "x", step=2)]
    assert stages(*held)["step"] == {side: {"step 1": "same", "step 2": "same"} for side in ("torch", "keras")}


def test_a_tie_that_parts_or_grows_in_a_step_is_told_there_and_on_its_side():
    parted = check("update", "tie of a.weight", "a.weight = b.weight", DIFFERENT, "the step separated them: ...", 2)
    grown = check(
        "update", "tie of x", "x = shared/kernel", DIFFERENT, "the step made them one storage, they were", 1, "keras"
    )
    other = check("update", "tie of c.weight", "c.weight = d.weight", DIFFERENT, "the step separated them: ...", 1)
    found = stages(grown, other, parted)["step"]
    assert found["torch"] == {"step 1": "same", "step 2": "lost"}
    assert found["keras"] == {"step 1": "joined with others", "step 2": "same"}


def test_every_way_to_save_has_its_word():
    def saved(route, verdict=EQUAL, detail="one storage, as before"):
        return check("persistence", f"torch: tie of a.weight after {route}", "a.weight = b.weight", verdict, detail)

    checks = [
        saved("state_dict"),
        saved("assign=True", detail="by design of this route ..."),
        saved("deepcopy", DIFFERENT, "missing, and the values differ"),
        check("persistence", "torch: to(dtype)", None, OPEN, "did not run: ..."),
        check("persistence", "keras: .keras", None, OPEN, "did not run: ...", side="keras"),
    ]
    words = {"state_dict": "same", "assign=True": "untied by design", "deepcopy": "lost", "to(dtype)": "not known"}
    assert stages(*checks)["save"] == {"torch": words, "keras": {".keras": "not known"}}


def test_every_exporter_has_its_word():
    def stored(route, detail):
        return check(
            "export", f"keras: tie of shared/kernel after {route}", "shared/kernel", detail=detail, side="keras"
        )

    checks = [
        stored("one", "stored once: x (identity)"),
        stored("two", "2 copies, 40 bytes wasted: x (identity), y (transpose)"),
        stored("three", "not stored as it is"),
        check("export", "four", "four", OPEN, "not exported: no operator", side="keras"),
    ]
    words = {"one": "once", "two": "more than once", "three": "in parts or folded", "four": "not known"}
    assert stages(*checks)["export"] == {"keras": words}


def test_a_side_that_is_built_apart_has_nothing_to_lose():
    apart = {"torch": {"build": "tied"}, "keras": {"build": "apart"}}
    tie = Tie(("a.weight", "b.weight"), ("a/kernel", "b/kernel"), "missing", stages={"build": apart})
    saved = check("persistence", "keras: tie of a/kernel after .keras", "a/kernel", side="keras")
    found = stages(check("sync", "a/kernel", "a/kernel"), saved, tie=tie)
    assert found["sync"] == {"torch": {"sync": "same"}, "keras": {"sync": "apart"}}
    assert "save" not in found
