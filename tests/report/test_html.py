import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from results import ALL, LONG, crashed, different, equivalent, hostile, inconclusive, numeric

import xcheck.report.html as html
from xcheck.records.result import Check, Verdict
from xcheck.report.html import as_html, result_view, write_html
from xcheck.report.result import Result

VOID = {"meta", "wbr", "path", "circle", "rect", "line", "br"}


class Page(HTMLParser):
    """The visible text, the tags and attributes of a page; asserts that tags nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self.open = "", [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.text += "" if tag == "wbr" else " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


@pytest.mark.parametrize("make", [*ALL, hostile])
def test_a_page_is_well_formed_and_needs_nothing_from_outside(make):
    source = as_html([make()])
    page = Page(source)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset")]
    assert [value for name, value in page.attributes if name == "href" and not value.startswith("#")] == []
    assert "@import" not in source
    assert "url(" not in source
    assert "prefers-color-scheme: dark" in source


def test_hostile_text_is_shown_as_it_is():
    page = Page(as_html([hostile()]))
    literal = "<script>alert('x')</script>.[red]weight[/red] & [link=x]b :smile: \\x1b[31mc d"
    # pair, answer, title, card, cause, tables, ties, notes, environment: each of them once at least
    assert page.text.count(literal) >= 15
    assert "\x1b" not in as_html([hostile()])


def test_templates_escape_markup():
    page = as_html([replace(equivalent(), notes=("<b>bold</b> & 'quoted'",), failure="<i>")])
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; &#39;quoted&#39;" in page
    assert "<pre>&lt;i&gt;</pre>" in page


def test_the_verdict_and_the_answer_lead_the_page():
    page = Page(as_html([different()]))
    assert page.text.startswith("DIFFERENT my_port - xcheck")
    assert (
        "first difference in update at step 1: stem.conv.weight (keras stem/conv/kernel), 5.7e-05 against" in page.text
    )


def test_several_results_come_worst_first():
    page = Page(as_html([equivalent(), crashed(), numeric(), different(), inconclusive()]))
    body = page.text[page.text.index("seed") :]
    pairs = ("my_port", "broken", "half_done", "log_softmax", "shared_dilated_conv")
    overview = [page.text.index(name) for name in pairs]
    assert overview == sorted(overview)
    sections = [body.index(f"{v} {name}") for v, name in zip(
        ("INCONCLUSIVE", "INCONCLUSIVE", "NUMERIC", "EQUIVALENT"), pairs[1:], strict=True
    )]  # fmt: skip
    assert sections == sorted(sections)
    assert "1 DIFFERENT 2 INCONCLUSIVE 1 NUMERIC 1 EQUIVALENT" in page.text
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for name, value in page.attributes if name == "href"} == anchors


def test_the_card_of_the_first_divergence_has_the_numbers():
    text = Page(as_html([different()])).text
    card = text[text.index("First divergence") : text.index("Causes")]
    for said in (
        "stem.conv.weight",
        "stem/conv/kernel",
        "5.7e-05",
        "3.1e-13",
        "1.8e+08x",
        "7.1e-05",
        "[3, 0, 1, 0]",
    ):
        assert said in card
    assert "0.123456789" in card
    assert "0.12345682" in card


def test_a_divergence_without_numbers_shows_no_empty_figures():
    check = Check("inventory", None, None, "w", "w", None, Verdict.DIFFERENT, detail="no such weight")
    first = html.views.Divergence("inventory", None, None, "w", None, None, None, "w")
    result = Result("p", Verdict.DIFFERENT, 0, 1, checks=(check,), first_divergence=first)
    page = as_html([result])
    assert "no such weight" in page
    assert "would pass at" not in page
    assert "would pass at" in as_html([different()])


def test_causes_notes_coverage_ties_and_environment_are_there():
    text = Page(as_html([different()])).text
    for said in (
        "adam_epsilon confirmed", "float32_constant suspected", "error_with_torch_eps 2.2e-16",
        "equal but untied", "5 matched, 1 waived", "1 parameter was waived", "torch.version 2.9.0",
        "build 1.25 s", "expected: DIFFERENT in update, cause adam_epsilon: held",
    ):  # fmt: skip
        assert said in text


def test_all_failing_checks_are_shown_and_passing_ones_folded():
    page = as_html([different()])
    folded = page.index("45 passing checks")
    shown = page.split("26 of 71 checks DIFFERENT, worst first</h2>")[1].split("</section>")[0]
    assert shown.count("<tr>") == 27
    assert "<details>" in page[folded - 60 : folded]
    assert LONG in Page(page).text


def test_a_table_of_many_checks_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(html, "MOST", 20)
    text = Page(as_html([different()])).text
    assert "26 of 71 checks DIFFERENT" in text
    assert "+6 more in result.json" in text
    assert "+25 more in result.json" in text


def test_bars_grow_with_the_error_and_pass_the_mark_only_where_it_is_exceeded():
    view = result_view(different(), "r1")
    bars = {phase.label: phase.bar for phase in view.phases}
    assert bars["inventory"] is None
    assert 0 < bars["loss"] < bars["forward"] < bars["gradient"] < view.mark < bars["trajectory"] < bars["update"]
    assert bars["update"] <= 100
    good = result_view(equivalent(), "r1")
    assert max(phase.bar or 0 for phase in good.phases) < good.mark < 100


def test_numbers_in_the_answer_do_not_break_at_the_minus_sign():
    assert '<span class="num">5.7e-05</span>' in as_html([different()])


def test_every_verdict_has_a_shape_of_its_own():
    shapes = {v: re.findall(r"<svg.*?</svg>", as_html([Result("p", v, 0, 1)]), re.DOTALL)[0] for v in Verdict}
    assert len(set(shapes.values())) == len(Verdict)


def test_the_file_is_written_in_a_new_folder_and_read_as_utf8(tmp_path):
    path = write_html([replace(equivalent(), pair="größe_層")], tmp_path / "a" / "report.html")
    assert path == tmp_path / "a" / "report.html"
    assert "größe_層" in path.read_text(encoding="utf-8")


def test_a_result_writes_its_own_page(tmp_path):
    path = equivalent().to_html(str(tmp_path / "report.html"))
    assert isinstance(path, Path)
    assert "shared_dilated_conv" in path.read_text(encoding="utf-8")


def test_a_page_of_no_results_says_so():
    assert "No results were given." in Page(as_html([])).text
