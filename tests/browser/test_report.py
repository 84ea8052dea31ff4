import re

import pytest
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from harness.core.comparison import Verdict

pytestmark = pytest.mark.browser
VISIBLE_CHARTS = """
return [...document.querySelectorAll('.chart > div')].filter((part) => part.getClientRects().length).map((part) => part.className);
"""


def test_the_charts_are_dark_in_the_dark(show):
    browser = show("result", theme="dark")
    ink = "return getComputedStyle(document.querySelector('.chart .wide text')).fill"
    dark = browser.execute_script(ink)
    show("result", theme="light")
    assert dark != browser.execute_script(ink)


def test_one_chart_of_each_pair_is_shown_at_a_width(show):
    for width, shown in ((360, "narrow"), (1280, "wide")):
        browser = show("result", width=width)
        visible = browser.execute_script(VISIBLE_CHARTS)
        assert visible and set(visible) == {shown}


def test_a_script_in_a_name_never_runs(show):
    browser = show("hostile")
    with pytest.raises(NoAlertPresentException):
        browser.switch_to.alert.accept()
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1


def test_the_page_reads_whole_without_script(show):
    browser = show("result", script=False)
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "2 metrics regressed" in text and "×1.051" in text and "How these numbers are computed" in text
    assert not browser.find_elements(By.CSS_SELECTOR, "thead button, .filter")


ROWS = "return [...document.querySelectorAll('#changed-table tbody tr')].map((row) => row.textContent)"


def test_a_filter_narrows_a_long_table_and_says_how_far(show, results):
    browser = show("suite")
    wanted = [one for one in results.suite().comparisons if one.verdict is Verdict.REGRESSED and one.metric == "latency_p50"]
    field = browser.find_element(By.CSS_SELECTOR, ".filter input")
    field.send_keys("regressed latency_p50")
    rows = browser.execute_script(ROWS)
    assert len(rows) == len(wanted) < 100 and all("Regressed" in row and "latency_p50" in row for row in rows)
    assert re.fullmatch(rf"{len(wanted)} of \d+", browser.find_element(By.CSS_SELECTOR, ".filter output").text)
    field.clear()
    field.send_keys("x", Keys.BACKSPACE)
    assert len(browser.execute_script(ROWS)) == 100


def test_a_long_table_shows_its_first_rows_and_all_of_them_when_asked_and_on_paper(show):
    browser = show("suite")
    more = browser.find_element(By.CSS_SELECTOR, "#changed-table").find_element(By.XPATH, "../following-sibling::button")
    total = int(re.fullmatch(r"the first 100 of (\d+) are shown: show all", more.text)[1])
    more.click()
    assert len(browser.execute_script(ROWS)) == total > 100 and not more.is_displayed()
    browser.refresh()
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert len(browser.execute_script(ROWS)) == total


def test_a_column_sorts_by_its_value_and_not_by_its_text(show):
    browser = show("result")
    column = "return [...document.querySelectorAll('#changed-table tbody tr')].map((row) => Number(row.cells[4].dataset.v))"
    button = browser.find_element(By.CSS_SELECTOR, "#changed-table thead th:nth-child(5) button")
    button.click()
    assert browser.execute_script(column) == sorted(browser.execute_script(column))
    button.send_keys(Keys.ENTER)
    assert browser.execute_script(column) == sorted(browser.execute_script(column), reverse=True)
    assert browser.find_element(By.CSS_SELECTOR, "#changed-table thead th:nth-child(5)").get_attribute("aria-sort") == "descending"


def test_a_trials_name_opens_the_folded_evidence(show):
    browser = show("result")
    browser.find_element(By.CSS_SELECTOR, "#changed-table a.name").click()
    anchor = browser.execute_script("return location.hash.slice(1)")
    assert browser.find_element(By.CSS_SELECTOR, f"#{anchor} dl.facts").is_displayed()


def test_the_focus_is_seen(show):
    browser = show("result")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    style = browser.execute_script("const part = document.activeElement; return [part.className, getComputedStyle(part).outlineStyle]")
    assert style == ["skip", "solid"]
