import pytest
from fakes.looks import CONTRASTS, OPEN_ALL, OVERFLOWING, requests
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.browser
NAMES = ["result", "passing", "only_measured", "hostile"]
VISIBLE_CHARTS = """
return [...document.querySelectorAll('.chart > div')].filter((part) => part.getClientRects().length).map((part) => part.className);
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_page_opens_without_a_request_or_a_complaint(show, name):
    browser = show(name)
    browser.execute_script(OPEN_ALL)
    assert requests(browser) == [browser.current_url]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [360, 800, 1920])
def test_nothing_is_wider_than_the_page(show, name, width):
    browser = show(name, width=width)
    browser.execute_script(OPEN_ALL)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == []


@pytest.mark.parametrize("name", ["result", "only_measured"])
def test_a_printed_page_of_a4_cuts_nothing_off(show, name):
    browser = show(name, width=718)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script(OPEN_ALL)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert width <= 718


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_is_readable_in_both_themes(show, theme):
    browser = show("result", theme=theme)
    browser.execute_script(OPEN_ALL)
    assert browser.execute_script(CONTRASTS) == []


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


def test_a_filter_narrows_a_long_table_and_says_how_far(show):
    browser = show("suite")
    field = browser.find_element(By.CSS_SELECTOR, ".filter input")
    rows = "return [...document.querySelectorAll('#changed-table tbody tr')].filter((row) => !row.hidden).length"
    everything = browser.execute_script(rows)
    field.send_keys("regressed latency_p50")
    narrowed = browser.execute_script(rows)
    assert 0 < narrowed < everything
    assert browser.find_element(By.CSS_SELECTOR, ".filter output").text == f"{narrowed} of {everything}"
    field.clear()
    field.send_keys("x", Keys.BACKSPACE)
    assert browser.execute_script(rows) == everything


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
