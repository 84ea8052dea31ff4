import math
import re
from dataclasses import replace

import pytest
from fakes.trends import TRIAL, trend

from harness.core.units import Unit
from harness.reports._trend import TRENDS_DRAWN, TRIALS_TOLD, histories, interval_told, label_of
from harness.reports.html import Html
from harness.reports.markdown import DRIFTS, Markdown


def page(results, *trends):
    """The page of a run with nothing else to draw."""
    return Html().render(replace(results.result(trials=(), comparisons=(), sla=()), trends=trends)).decode()


def words(text):
    return " ".join(re.sub(r"<[^>]+>", " ", text.replace("&nbsp;", " ")).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_page_tells_every_change_with_its_size_date_commit_means_and_direction(results):
    told = words(page(results, trend()))
    assert "+4.1 % worse since 2026-09-13, 000000c main : 2.50 ms → 2.60 ms p 3e-09" in told
    assert "1 metric, 1 with a change" in told and "Its 24 sessions" in told


def test_a_result_without_trends_has_no_history_on_its_page(results):
    text = page(results)
    assert 'id="history"' not in text and 'href="#history"' not in text


def test_a_series_of_two_sessions_is_left_out(results):
    assert 'id="history"' not in page(results, trend(sessions=2, at=()))
    assert 'id="history"' in page(results, trend(sessions=3, at=()))


def test_what_changed_comes_first_and_is_open(results):
    quiet, changed = trend(trial="a/quiet-cpu-b1", at=()), trend()
    assert [one.trial for one in histories([quiet, changed], 0)] == [TRIAL, "a/quiet-cpu-b1"]
    text = page(results, quiet, changed)
    assert re.search(rf'<details open>\s*<summary><span class="name">{TRIAL}</span>: 1 metric, 1 with a change', text)
    assert re.search(r'<details>\s*<summary><span class="name">a/quiet-cpu-b1</span>: 1 metric, none with a change', text)


def test_a_chart_shows_rules_with_labels_dates_and_hollow_dots_of_dirty_sessions(results):
    text = page(results, trend())
    (wide,) = re.findall(r'<div class="wide">(<svg[^>]*aria-label="latency_p50 of.*?</svg>)', text, re.DOTALL)
    assert "+4.1 % worse</text>" in wide
    assert "2026-09-01</text>" in wide and "2026-09-24</text>" in wide
    assert len(re.findall('<path [^>]*(?<!fill="#0b62a9") stroke="#0b62a9" stroke-width="1.5"', wide)) == 1
    assert len(re.findall('<path [^>]*fill="#0b62a9" stroke="#0b62a9" stroke-width="1.5"', wide)) == 23
    assert "latency_p50, ms" in wide


def test_the_text_alternative_of_a_chart_tells_what_it_shows():
    assert label_of(trend(at=())).endswith("; no lasting change")
    label = label_of(trend("throughput", unit=Unit.PER_SECOND, better="higher", base=144.0, step=1.1))
    assert label.startswith(f"throughput of {TRIAL} over 24 sessions from 2026-09-01 to 2026-09-24: 14")
    assert label.endswith(" /s; +10.0 % better on 2026-09-13")
    assert label_of(trend(better="none")).endswith("; +4.1 % on 2026-09-13")


@pytest.mark.parametrize(
    "one",
    [
        trend("model_size", unit=Unit.BYTES, base=24e6),
        trend("accuracy", unit=Unit.FRACTION, better="higher", base=0.95, step=0.98),
        trend("energy", unit=Unit.JOULES, base=0.0),
        trend("output_cosine", unit=Unit.NUMBER, better="none", base=1.0, at=()),
        trend("load_time", sessions=3, at=(), base=40.0),
        trend(at=(5, 8, 11, 14, 17, 20)),
    ],
    ids=lambda one: one.metric,
)
def test_every_unit_and_every_number_of_changes_is_drawn(results, one):
    text = page(results, one)
    assert text.count(f'aria-label="{one.metric} of {TRIAL} over') == 2
    assert "NaN" not in text


def test_exact_and_open_ended_numbers_are_drawn_without_what_they_do_not_have(results):
    exact = tuple(replace(one, low=None, high=None) for one in trend().points)
    text = page(results, replace(trend(), points=exact))
    assert '<td class="number">exact</td>' in text
    infinite = tuple(replace(one, low=float("-inf"), high=float("inf")) for one in trend().points)
    text = page(results, replace(trend(), points=infinite))
    assert "NaN" not in text and "Infinity" not in text and '<td class="number">unknown</td>' in text


def test_an_interval_with_one_open_end_is_told_as_a_bound():
    (one, *_) = trend().points
    told = [interval_told(trend(), replace(one, low=low, high=high)) for low, high in ((2e6, 3e6), (2e6, math.inf), (-math.inf, 3e6))]
    assert told == ["2.00 ms to 3.00 ms", "at least 2.00 ms", "at most 3.00 ms"]


def test_hostile_names_stay_text(results):
    evil = replace(trend(trial=results.HOSTILE), metric=results.HOSTILE)
    evil = replace(evil, points=tuple(replace(one, ref=results.HOSTILE, commit=results.HOSTILE) for one in evil.points))
    text = page(results, evil)
    assert "<script>alert" not in text
    assert "<script>alert" not in Html().trend_page(results.HOSTILE, [evil]).decode()


def test_a_long_history_of_many_trials_stays_a_page_that_opens(results):
    many = [trend(metric, trial=f"t/{number}", sessions=60, at=(30,)) for number in range(TRIALS_TOLD + 10) for metric in ("a", "b")]
    text = page(results, *many)
    assert len(re.findall('aria-label="[ab] of t/', text)) == 2 * TRENDS_DRAWN
    assert "... and 10 more trials" in text
    assert len(text) < 3_000_000


def test_the_page_of_the_history_alone_is_whole_and_asks_for_nothing_outside_itself():
    text = Html().trend_page("github.com/owner/digits", [trend(), trend("load_time", at=())]).decode()
    assert "<h1>History of github.com/owner/digits</h1>" in text and text.count("<svg") == 4
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text) and "<script" not in text
    assert "No metric has three sessions yet." in Html().trend_page("p", []).decode()


def test_a_pull_request_is_told_of_a_drift_in_one_line(results):
    told = Markdown().render(replace(results.result(), trends=(trend(), trend("load_time", at=())))).decode()
    assert f"- drift: {TRIAL} latency&#95;p50 +4.1 % since 2026-09-13 (commit 000000c)\n" in told
    assert told.count("- drift:") == 1
    assert "- drift:" not in Markdown().render(results.result()).decode()


def test_many_drifts_are_counted_and_not_listed(results):
    many = tuple(trend(trial=f"t/{number}") for number in range(DRIFTS + 3))
    told = Markdown().render(replace(results.result(), trends=many)).decode()
    assert told.count("- drift:") == DRIFTS
    assert "- ... and 3 more, see the HTML report\n" in told


def test_a_drift_changes_no_verdict(results):
    plain, told = (Markdown().render(replace(results.result(), trends=trends)).decode() for trends in ((), (trend(),)))
    assert [line for line in told.splitlines() if "drift" not in line and line] == [line for line in plain.splitlines() if line]
