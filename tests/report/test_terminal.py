import re
from dataclasses import replace
from io import StringIO

import pytest
from results import ALL, LONG, crashed, different, equivalent, hostile, inconclusive, numeric
from rich.cells import cell_len
from rich.console import Console

from xcheck.records.result import Check, Tie, Verdict
from xcheck.report.result import Result
from xcheck.report.terminal import as_text, print_result
from xcheck.report.words import cut, number, times, two_values


def unwrapped(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.split("\n\n")[0].split())


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (equivalent, "shared_dilated_conv: the same computation, 5 re-synced steps in float64 and float32"),
        (
            different,
            "my_port: first difference in update at step 1: stem.conv.weight (keras stem/conv/kernel), "
            "5.7e-05 against 3.1e-13 allowed",
        ),
        (
            inconclusive,
            "half_done: 1 check of 71 undecided; first head.scale in inventory: no variable of the Keras side matches",
        ),
        (
            numeric,
            "log_softmax: the same computation in float64, but one side loses more precision in float32: "
            "gradient head.bias (keras head/bias), 3.4e-04 against 1.9e-06 allowed",
        ),
        (crashed, "broken: the run ended early: The pair's build raised."),
    ],
)
def test_the_first_line_is_the_answer(make, answer):
    result = make()
    text = as_text(result)
    assert text.startswith(f"{result.verdict}  {result.pair}: ")
    assert unwrapped(text).partition(" because: ")[0] == f"{result.verdict} {answer}"
    assert as_text(result, width=200).splitlines()[0] == f"{result.verdict}  {answer}"


def test_below_the_answer_stands_why():
    result = different()
    first, second, *_ = as_text(result, width=200).splitlines()
    assert second.strip() == "because: Adam's epsilon differs: 1e-08 in PyTorch, 1e-07 in Keras."
    assert second.index("because") == first.index("my_port")
    unsure = replace(result, causes=(replace(result.causes[0], confirmed=False),))
    assert "\n           perhaps: Adam" in as_text(unsure)
    doubt = Check("inventory", None, None, "match of a", "a", "b", Verdict.INCONCLUSIVE, detail="name it in weight_map")
    assert "\n           perhaps: a is not b: name it" in as_text(replace(unsure, checks=(*unsure.checks, doubt)))
    elsewhere = replace(result, causes=(replace(result.causes[0], phase="forward"),))
    assert "because" not in as_text(elsewhere)


def test_what_still_agreed_is_shown():
    result = different()
    assert "agreed" not in as_text(result)
    first = replace(result.first_divergence, agreed="torch a (2, 3) and keras b (2, 3), 1e-16 apart")
    assert "  agreed     torch a (2, 3) and keras b (2, 3), 1e-16 apart\n" in as_text(
        replace(result, first_divergence=first)
    )


def test_steps_are_counted_not_believed():
    only_first = replace(equivalent(), checks=tuple(c for c in equivalent().checks if c.step in (None, 1)))
    assert "1 re-synced step in" in unwrapped(as_text(only_first))


def test_a_run_without_updates_does_not_claim_the_computation():
    partial = replace(equivalent(), checks=tuple(c for c in equivalent().checks if c.phase == "forward"))
    assert unwrapped(as_text(partial)).endswith("the same in all that was checked in float64 and float32: forward")


def test_a_difference_without_numbers_says_its_detail():
    check = Check("inventory", None, None, "w", "w", None, Verdict.DIFFERENT, detail="the port has no such weight")
    result = Result("p", Verdict.DIFFERENT, 0, 1, checks=(check,))
    assert unwrapped(as_text(result)) == (
        "DIFFERENT p: first difference in inventory: w (torch only), the port has no such weight"
    )


def test_a_result_without_checks_says_so():
    assert unwrapped(as_text(Result("p", Verdict.INCONCLUSIVE, 0, 1))) == "INCONCLUSIVE p: nothing was compared"


@pytest.mark.parametrize("make", [*ALL, hostile])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_no_line_is_wider_than_the_console(make, width, verbose):
    lines = as_text(make(), verbose=verbose, width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert lines == [line.rstrip() for line in lines]


def test_a_long_path_loses_its_middle_and_stays_on_one_line():
    lines = [line for line in as_text(different()).splitlines() if line.startswith("  update") and "..." in line]
    assert lines
    for line in lines:
        start, _, end = line.split()[2].partition("...")
        assert start
        assert end
        assert LONG.startswith(start)
        assert LONG.endswith(end)
    lost = Check("inventory", None, None, LONG, LONG, None, Verdict.INCONCLUSIVE)
    assert f"  {LONG}\n" in as_text(Result("p", Verdict.INCONCLUSIVE, 0, 1, checks=(lost,)), width=109)


def test_the_first_divergence_shows_both_paths_and_every_number():
    section = as_text(different()).split("First divergence\n")[1].split("\n\n")[0]
    for said in (
        "torch      stem.conv.weight",
        "keras      stem/conv/kernel",
        "5.7e-05 against 3.1e-13 allowed, that is 1.8e+08x (worst element)",
        "would pass at 7.1e-05",
        "[3, 0, 1, 0]",
        "torch 0.123456789, keras 0.12345682",
        "the update is too small where the gradient is",
    ):
        assert said in section


def test_causes_say_whether_they_are_confirmed_and_how_to_fix():
    text = as_text(different(), width=100)
    assert "adam_epsilon, confirmed" in text
    assert "float32_constant, suspected" in text
    assert "torch_eps = 1e-08" in text
    assert "fix        keras.optimizers.Adam(learning_rate=1e-3, epsilon=1e-8)" in text


def test_phases_are_in_the_order_of_the_data_and_apart_per_precision():
    table = as_text(equivalent()).split("Phases\n")[1].split("\n\n")[0].splitlines()[2:]
    assert [line[2:19].strip() for line in table] == [
        "inventory",
        *(f"{p} {b}" for p in ("sync", "forward", "loss", "gradient", "update") for b in ("float64", "float32")),
    ]
    assert table[-1].split() == ["update", "float32", "EQUIVALENT", "25", "head.bias", "9.0e-07", "1.9e-06"]


def test_a_phase_that_was_expected_and_did_not_run_has_a_row():
    expected = {"verdict": "DIFFERENT", "phase": "export", "held": False, "why": "export did not run"}
    text = as_text(replace(different(), expectation=expected))
    assert any(line.split() == ["export", "not", "run", "0"] for line in text.splitlines())
    assert not any("not run" in line for line in as_text(different()).splitlines())


def test_failing_checks_come_worst_first_and_each_quantity_once():
    text = as_text(different(), width=120)
    section = text.split("26 of 71 checks DIFFERENT, worst first\n")[1].split("\n\n")[0].splitlines()[2:]
    errors = [float(line.split()[-3]) for line in section[:-1]]
    assert errors[:-1] == sorted(errors[:-1], reverse=True)
    assert [line.split()[0] for line in section[:-1]] == ["update"] * (len(section) - 2) + ["trajectory"]
    assert len({line.split()[2] for line in section[:-1]}) == len(section) - 1  # each quantity once, where it is worst
    assert section[-1].strip() == f"+{26 - len(section) + 1} more in result.json"
    assert "more in result.json" not in as_text(different(), verbose=True)


def test_the_worst_verdict_comes_before_an_earlier_phase():
    lost = Check("inventory", None, None, "lost", "lost", None, Verdict.INCONCLUSIVE)
    wrong = Check("update", "float64", 1, "wrong", "wrong", "wrong", Verdict.DIFFERENT, 1e-3, 1e-13)
    text = as_text(Result("p", Verdict.DIFFERENT, 0, 1, checks=(lost, wrong)))
    section = text.split("2 of 2 checks not EQUIVALENT, worst first\n")[1]
    assert section.index("wrong") < section.index("lost")


def test_ties_are_listed_where_they_are_shared_or_broken():
    assert "equal but untied" in as_text(different())
    assert "branch_b.weight" in as_text(equivalent())
    alone = replace(equivalent(), ties=(Tie(("a.weight",), ("a/kernel",), "same"),))
    assert "Tie groups" not in as_text(alone)
    missing = replace(equivalent(), ties=(Tie(("a.weight",), (), "missing"),))
    assert "(none)" in as_text(missing).split("Tie groups\n")[1]


def test_coverage_notes_and_expectation_close_the_report():
    text = as_text(different(), width=100)
    assert "coverage   parameters: 5 matched, 1 waived; gradients: 25 compared" in text
    assert "note       1 parameter was waived: head.scale" in text
    assert text.rstrip().endswith("expected   DIFFERENT in update, cause adam_epsilon: held")


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        ({"verdict": "DIFFERENT", "held": False, "why": "it is EQUIVALENT"}, "NOT held (it is EQUIVALENT)"),
        (None, "DIFFERENT: not judged"),
    ],
)
def test_an_expectation_that_did_not_hold_says_so(expectation, said):
    assert said in as_text(replace(equivalent(), expected="DIFFERENT", expectation=expectation))


def test_the_failure_of_a_run_stands_right_below_the_answer():
    lines = as_text(crashed()).splitlines()
    assert lines[2:5] == [
        "The run ended early",
        "  The pair's build raised.",
        "    where:   torch side of broken.py",
    ]


def test_verbose_adds_environment_and_timings():
    assert "torch.version" in as_text(equivalent(), verbose=True)
    assert "4.50 s" in as_text(equivalent(), verbose=True)
    assert "torch.version" not in as_text(equivalent())


@pytest.mark.parametrize("colour", [None, "truecolor"])
def test_markup_and_escape_codes_in_names_are_printed_as_they_are(colour):
    console = Console(file=StringIO(), width=300, color_system=colour, force_terminal=colour is not None, _environ={})
    print_result(hostile(), console, verbose=True)
    text = console.file.getvalue()
    literal = "<script>alert('x')</script>.[red]weight[/red] & [link=x]b :smile: \\x1b[31mc"
    # pair, why, failure, card (torch, keras, detail), cause (id, summary, torch, keras, evidence, fix), phases,
    # failing (name, detail, keras), ties, environment, timings, coverage, note, expected (4)
    assert " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()).count(literal) == 25
    assert "\x1b[31mc" not in text
    assert ("\x1b[" in text) == (colour is not None)


def test_plain_text_has_no_escape_codes_even_where_colour_is_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "500")
    assert "\x1b" not in as_text(different())
    assert max(map(len, as_text(different()).splitlines())) <= 80


def test_verdicts_are_coloured_on_a_terminal():
    console = Console(file=StringIO(), width=80, color_system="standard", force_terminal=True, _environ={})
    print_result(different(), console)
    assert console.file.getvalue().startswith("\x1b[1;31mDIFFERENT\x1b[0m")


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "-"), (0.0, "0"), (5.7123e-5, "5.7e-05"), (0.123, "0.12"), (1.0, "1"), (3e9, "3.0e+09")],
)
def test_numbers_have_two_digits(value, written):
    assert number(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0x"), (1e-5, "<0.01x"), (0.38, "0.38x"), (0.999, "1.0x"), (1.84, "1.8x"), (9.96, "10x"),
        (184.2, "180x"), (99_999.0, "1.0e+05x"), (1.84e8, "1.8e+08x"), (float("inf"), "-"),
    ],
)  # fmt: skip
def test_ratios_have_two_digits(value, written):
    assert times(value) == written


def test_two_values_are_told_apart():
    assert two_values(0.25, 0.5) == ("0.25", "0.5")
    torch, keras = two_values(0.1, 0.1 + 1e-15)
    assert torch != keras
    assert two_values(1.0, None) == ("1", "-")


@pytest.mark.parametrize("width", range(0, 12))
def test_a_cut_text_fits_in_any_width(width):
    for text in ("a.weight.of.length", "层层层层层层层层", "short"):
        assert cell_len(cut(text, width)) <= width
    assert cut("short", 5) == "short"
