"""The tie groups in the terminal and on the page: how often each is used, and what became of it stage by stage."""

from dataclasses import replace

from results import HOSTILE, equivalent
from rich.cells import cell_len

from xcheck.records.result import Tie
from xcheck.report.html import as_html
from xcheck.report.terminal import as_text
from xcheck.report.ties import shown_ties, stage_rows, uses

BUILT = {"torch": {"build": "tied"}, "keras": {"build": "tied"}}
STEPS = {"step 1": "same", "step 2": "same"}
KERNEL = Tie(
    ("a.weight", "b.weight"),
    ("shared/kernel",),
    "duplicated",
    {"torch": 3, "keras": 3},
    {
        "build": BUILT,
        "step": {"torch": STEPS, "keras": {**STEPS, "step 2": "lost"}},
        "save": {"torch": {"state_dict": "same", "assign=True": "untied by design"}, "keras": {".keras": "lost"}},
        "export": {"torch": {"torch.onnx.export": "once"}, "keras": {"Model.export": "more than once"}},
    },
)
BIAS = Tie(
    ("a.bias", "b.bias"),
    ("shared/bias",),
    "same",
    {"torch": 3, "keras": 2},
    {"build": BUILT, "save": {"keras": {".keras": "same"}}, "export": {"keras": {"Model.export": "once"}}},
)


def result(*ties):
    return replace(equivalent(), ties=ties)


def test_each_stage_is_a_line_with_the_worst_of_all_groups():
    assert stage_rows(result(KERNEL, BIAS)) == [
        ("built", "tied", "tied"),
        ("each step", "same in 2 steps", "same in step 1; lost in step 2"),
        ("saved", "same: state_dict; untied by design: assign=True", "lost (1 of 2 groups): .keras"),
        ("exported", "once: torch.onnx.export", "more than once (1 of 2 groups): Model.export"),
    ]
    assert stage_rows(result()) == []


def test_the_stages_stand_below_the_groups():
    text = as_text(result(KERNEL, BIAS), width=120).split("Tie groups\n")[1]
    for said in (
        "built      tied",
        "each step  same in 2 steps",
        "saved      same: state_dict;",
        "once: torch.onnx.export",
    ):
        assert said in text
    page = as_html([result(KERNEL, BIAS)])
    assert "<td>exported</td>" in page
    assert "same: state_dict; untied by design: assign=True" in page


def test_the_number_of_uses_stands_beside_each_group():
    assert [uses(tie) for tie in (KERNEL, BIAS)] == ["3", "3 and 2"]
    assert uses(replace(BIAS, uses={})) == "-"
    assert uses(replace(BIAS, uses={"torch": 3})) == "3 and -"
    lines = as_text(result(KERNEL, BIAS)).splitlines()
    assert next(line for line in lines if "shared/kernel" in line).endswith(" 3")
    assert next(line for line in lines if "shared/bias" in line).endswith(" 3 and 2")
    assert "3 and 2</td>" in as_html([result(BIAS)])


def test_one_path_is_a_group_where_it_is_used_several_times():
    alone = Tie(("a.weight",), ("a/kernel",), "same")
    assert shown_ties(result(alone)) == []
    assert "Tie groups" not in as_text(result(alone))
    assert shown_ties(result(replace(alone, uses={"torch": 1, "keras": 2}))) != []


def test_many_groups_are_cut_and_the_broken_ones_stay():
    many = [replace(BIAS, torch=(f"a{i}.bias", "b.bias")) for i in range(12)]
    text = as_text(result(*many, replace(KERNEL, status="missing")))
    assert "missing" in text
    assert "+3 more in result.json" in text
    assert "a11.bias" in as_text(result(*many), verbose=True)


def test_hostile_words_reach_neither_terminal_nor_page():
    stages = {"build": BUILT, "save": {"torch": {HOSTILE: HOSTILE}, "keras": {HOSTILE: "same"}}}
    hostile = result(Tie((HOSTILE,), (HOSTILE,), HOSTILE, {"torch": 2}, stages))
    for width in (60, 80, 140):
        text = as_text(hostile, width=width)
        assert "\x1b" not in text
        assert max(map(cell_len, text.splitlines())) <= width
    assert "<script>alert" not in as_html([hostile])
