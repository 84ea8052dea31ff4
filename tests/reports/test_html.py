import itertools
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import pytest

from harness.core.comparison import SlaState, Verdict
from harness.core.measurement import Failure, FailureReason, Repeat
from harness.reports import _svg
from harness.reports.html import Html

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}
NAMES = ["result", "passing", "only_measured", "hostile"]


class Page(HTMLParser):
    """What the structural tests ask about, and that every element is closed where it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.text, self.starts, self.open, self.unbalanced = text, [], [], []
        self.content, self.sections = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.starts.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.starts.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.content.append(data)
            if self.open[-1:] == ["h2"]:
                self.sections.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.starts if tag in tags]

    @property
    def words(self):
        return " ".join(" ".join(self.content).split())


@pytest.fixture(scope="module")
def pages(results):
    made = {}

    def page(name):
        if name not in made:
            made[name] = Page(Html().render(getattr(results, name)()).decode())
        return made[name]

    return page


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_well_formed_and_its_ids_are_unique(pages, name):
    page = pages(name)
    assert page.unbalanced == [] and page.open == []
    ids = Counter(attributes["id"] for _, attributes in page.starts if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_label_of_the_page_has_its_target(pages, name):
    page = pages(name)
    ids = {attributes.get("id") for _, attributes in page.starts}
    assert {link["href"][1:] for link in page.all("a")} <= ids
    assert {attributes["aria-labelledby"] for _, attributes in page.starts if "aria-labelledby" in attributes} <= ids
    assert set(re.findall(r"url\(#([^)]+)\)", page.text)) <= ids


@pytest.mark.parametrize("name", NAMES)
def test_the_page_asks_for_nothing_outside_itself(pages, name):
    page = pages(name)
    addresses = [value for _, attributes in page.starts for key, value in attributes.items() if key in ("src", "href", "xlink:href")]
    assert [address for address in addresses if not address.startswith(("#", "data:,"))] == []
    assert "url(http" not in page.text and "@import" not in page.text


@pytest.mark.parametrize("name", NAMES)
def test_headings_are_in_order_and_tables_are_labelled(pages, name):
    page = pages(name)
    levels = [int(tag[1]) for tag, _ in page.starts if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_has_a_text_alternative(pages, name):
    charts = pages(name).all("svg")
    assert charts
    assert all(chart["role"] == "img" and len(chart["aria-label"]) > 20 for chart in charts)


def test_a_script_in_a_name_stays_text(pages):
    page = pages("hostile")
    assert len(page.all("script")) == 1
    assert "<script>alert" not in page.text
    assert "<script>alert(1)</script>" in page.words
    assert not [attributes for _, attributes in page.starts if any(key.startswith("on") for key in attributes)]


def test_the_verdict_comes_first_and_then_what_to_do(pages):
    words = pages("result").words
    places = [words.index(part) for part in ("Regressed", "2 metrics regressed", "Look first at accuracy", "What changed")]
    assert places == sorted(places)


def test_every_number_of_a_regression_is_told(pages):
    words = pages("result").words
    assert all(part in words for part in ("2.51 ms", "2.64 ms", "×1.051", "1.038 to 1.064", "1.42 %", "3.8 % worse"))


def test_traceback_flips_scenario_and_method_are_in_the_page(pages):
    words = pages("result").words
    assert "size mismatch for fc.weight: [10, 2048] against [100, 2048]" in words
    assert "7 samples changed" in words
    assert "quantize_static: {per_channel: true, calibration_samples: 128}" in words
    assert "How these numbers are computed" in words and "A process launch." in words
    assert "7.77 GiB" in words


def test_flips_are_exact_or_marked_as_not_all_the_changes_doing(results):
    result = results.result()
    flipped = replace(next(trial for trial in result.trials if trial.flips), distributions=())

    def words(repeat, base_repeat):
        trial = replace(flipped, repeat=repeat, base_repeat=base_repeat)
        return Page(Html().render(replace(result, trials=(trial,), comparisons=(), sla=())).decode()).words

    same, other = Repeat(256, 0, 0, 0.0), Repeat(256, 9, 3, 1.0)
    exact, marked, unknown = words(same, same), words(other, same), words(None, None)
    assert "asked twice, every output is the same to the bit: flips are exact (256 samples" in exact and "not deterministic" not in exact
    assert "7 samples changed not deterministic" in marked
    assert "3 of 256 samples give another answer: flips below are not all the change's doing" in marked
    assert "it was not checked whether the same question gets the same answer twice" in unknown
    assert "Asked twice asked twice, every output is the same to the bit (256 samples)" in exact and "Asked twice" not in unknown


def test_a_red_null_control_is_told_as_a_machine_that_is_not_fit(results):
    result = results.passing()
    page = Html().render(replace(result, null_control=replace(result.null_control, red=True))).decode()
    assert "not fit for a verdict" in page


def test_a_run_without_baseline_has_no_empty_sections(pages):
    page = pages("only_measured")
    assert page.sections == [
        "What to do next", "Recipes side by side", "Latencies, launch by launch", "Trials", "Environment", "How these numbers are computed"
    ]  # fmt: skip
    assert "×4.93" in page.words


def test_a_page_of_nothing_still_renders(results):
    empty = results.result(
        trials=(), comparisons=(), sla=(), scenarios=(), null_control=None, verdict=Verdict.PASS, headline="PASS: no trials"
    )
    assert "no trials" in Html().render(empty).decode()


def test_a_suite_of_1000_trials_stays_small_and_still_tells_every_comparison(results):
    suite = results.suite(1000)
    text = Html().render(suite).decode()
    assert len(text.encode()) < 10_000_000
    assert text.count('<tr><td><span class="badge') >= len(suite.comparisons)


def test_a_thousand_long_tracebacks_do_not_make_a_page_that_cannot_open(results):
    failure = Failure(FailureReason.EXCEPTION, "build", "died", "line\n" * 20_000)
    trials = tuple(replace(results.trial(charts=False), id=f"t/{number}", failures=(failure,)) for number in range(1000))
    page = Html().render(results.result(trials=trials, comparisons=(), sla=()))
    assert len(page) < 10_000_000
    assert b"characters left out" in page


def test_the_page_is_a_pure_function_of_the_result(results):
    result = results.result()
    assert Html().render(result) == Html().render(result)


def test_every_colour_of_the_charts_follows_the_theme():
    style = resources.files("harness.reports").joinpath("templates/style.css").read_text(encoding="utf-8")
    colours = [_svg.INK, _svg.MUTED, _svg.GRID, _svg.BAND, _svg.BASELINE, _svg.CANDIDATE, *_svg.VERDICT_COLOURS.values()]
    assert len(set(colours)) == len(colours)
    assert [colour for colour in colours if f'="{colour}"]' not in style] == []


def test_every_verdict_and_state_has_a_glyph_of_its_own_shape(pages):
    assert len(set(_svg.VERDICT_GLYPHS.values())) == len(Verdict) == len(set(_svg.VERDICT_SHAPES.values()))
    words = pages("result").words
    assert all(f"{state.capitalize()}" in words for state in SlaState)
