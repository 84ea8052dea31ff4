"""How long the report of 1,000 trials takes to answer a filter: from the event until the browser has laid out the next frame."""

import importlib.util
from pathlib import Path

import pytest
from fakes.pages import PAGES

MOST_MS = 200
TYPED = ("r", "re", "int8 latency_p50", "int8 latency_p50 regressed", "nothing has this name", "")
FILTER = """
const [index, text, done] = arguments;
const input = document.querySelectorAll('.filter input')[index];
input.value = text;
const begin = performance.now();
input.dispatchEvent(new Event('input', {bubbles: true}));
requestAnimationFrame(() => { document.body.offsetHeight; setTimeout(() => done(performance.now() - begin), 0); });
"""
TABLES = """
document.querySelectorAll('.filter').forEach((label) => { label.closest('details') && (label.closest('details').open = true); });
return [...document.querySelectorAll('.filter')].map((label) => {
  const [table, more] = [label.nextElementSibling, label.nextElementSibling.nextElementSibling];
  return more.hidden ? table.querySelector('tbody').rows.length : Number(more.textContent.match(/of ([0-9,]+)/)[1].replace(',', ''));
});
"""
"""Opens what is folded around each table that has a filter; how many rows each has."""
_PLACE = Path(__file__).parents[1] / "browser" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("browser_fixtures", _PLACE)
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
browser = _FIXTURES.browser


@pytest.mark.browser
def test_a_report_of_a_thousand_trials_answers_a_filter_within_200_ms(benchmark, browser, tmp_path):
    page = tmp_path / "report.html"
    page.write_bytes(PAGES["suite"]())
    browser.get(page.as_uri())
    rows = browser.execute_script(TABLES)
    took = {}

    def one_round():
        for table in range(len(rows)):
            for text in TYPED:
                took.setdefault((table, text), []).append(browser.execute_async_script(FILTER, table, text))

    benchmark.pedantic(one_round, rounds=5, warmup_rounds=1)
    best = {which: min(times) for which, times in took.items()}  # the round that was disturbed least
    slowest = max(best, key=best.get)
    benchmark.extra_info["rows"], benchmark.extra_info["slowest_ms"] = rows, round(best[slowest], 1)
    assert max(rows) > 1_000
    assert best[slowest] <= MOST_MS, f"{best[slowest]:.0f} ms for {slowest[1]!r} in the table of {rows[slowest[0]]:,} rows"
