import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.comparison import Verdict
from harness.core.measurement import Failure, FailureReason
from harness.reports.markdown import Markdown

GOLDEN = Path(__file__).parent / "golden" / "report.md"


def rendered(result):
    return Markdown().render(result).decode()


def test_the_page_is_as_it_was_reviewed(results, golden):
    golden(GOLDEN, Markdown().render(results.result()))


def test_the_verdict_is_the_first_line(results):
    assert rendered(results.result()).startswith("## 🔺 REGRESSED: 2 metrics regressed")


@pytest.mark.parametrize(("count", "left_out"), [(20, False), (1000, True)])
def test_a_suite_of_any_size_fits_into_a_comment_and_tells_what_it_left_out(results, count, left_out):
    page = rendered(results.suite(count))
    assert len(page) < 60_000
    assert ("more, see the HTML report" in page) is left_out
    assert page.count("<details>") == page.count("</details>")


def test_everything_red_still_fits_and_keeps_the_sla_the_failures_and_the_last_line(results):
    result = results.suite(1000)
    red = replace(result, comparisons=tuple(replace(one, verdict=Verdict.REGRESSED) for one in result.comparisons))
    page = rendered(replace(red, sla=red.sla + results.result().sla))
    assert len(page) < 60_000
    assert "### SLA" in page
    assert "### Could not be decided" in page
    assert page.endswith("</sub>\n")


def test_names_and_reasons_of_any_length_still_fit(results):
    long = "x" * 200_000
    failure = Failure(FailureReason.EXCEPTION, long, long, long)
    trial = replace(results.trial(), id=long, reason=long, verdict=Verdict.INVALID, failures=(failure,))
    many = tuple(replace(trial, id=f"{long}{number}") for number in range(50))
    page = rendered(
        results.result(headline=long, trials=many, comparisons=(results.comparison(long, reason=long),) * 50, notes=(long,) * 9)
    )
    assert len(page) < 60_000


def test_hostile_names_render_as_text_and_mention_nobody(results):
    page = rendered(results.hostile())
    assert "\x1b" not in page
    page = re.sub(r"^````text$.*?^````$", "", page, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in page
    assert "`" not in page
    assert "@octocat" not in re.sub(r"<code>.*?</code>", "", page)


def test_every_row_of_a_table_has_as_many_cells_as_its_head(results):
    for block in re.findall(r"(?:^\|.*\n)+", rendered(results.hostile()), flags=re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1


def test_a_traceback_cannot_close_its_own_fence(results):
    page = rendered(results.hostile())
    assert "````text" in page


def test_references_and_links_in_a_reason_stay_text(results):
    page = rendered(results.result(notes=("see #123, GH-7 and https://example.com or www.example.com, *now*",)))
    assert "#123" not in page
    assert "GH-7" not in page
    assert "://" not in page
    assert "www." not in page
    assert "*now*" not in page


def test_a_pass_tells_the_smallest_change_that_would_have_been_seen(results):
    folded = rendered(results.result()).split("comparisons within tolerance</summary>")[1]
    assert "smallest visible change" in folded
    assert "| 7.1 % |" in folded


def test_a_run_without_a_baseline_tells_what_was_measured(results):
    page = rendered(results.only_measured())
    assert "### What was measured" in page
    assert "1.40 ms" in page
    assert "What changed" not in page


def test_surrogates_from_a_broken_log_do_not_stop_the_report(results):
    failure = Failure(FailureReason.SIGNAL, "slice", "died \udcff", "log \udcff")
    trial = replace(results.trial(), verdict=Verdict.INVALID, failures=(failure,))
    assert "died" in rendered(results.result(trials=(trial,)))
