import re

import pytest
from fakes.looks import OPEN_ALL
from fakes.pages import compared
from selenium.webdriver.common.by import By

from harness.reports.html import Html

pytestmark = pytest.mark.browser
UNNAMED = """
return [...document.querySelectorAll('table')].filter((table) => !table.caption || !table.caption.textContent.trim()).length
  + [...document.querySelectorAll('tbody tr')].filter((row) => !row.querySelector('th[scope=row]')).length
  + [...document.querySelectorAll('svg')].filter((drawing) => !drawing.getAttribute('aria-label')).length
  + [...document.querySelectorAll('[aria-labelledby]')]
    .filter((part) => !document.getElementById(part.getAttribute('aria-labelledby'))).length;
"""
REPEATED = (
    "const ids = [...document.querySelectorAll('[id]')].map((part) => part.id); return ids.filter((id, at) => ids.indexOf(id) !== at);"
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The address of a page of four machines, one of them left out; the name ``hostile`` has markup where another machine could put it."""
    folder = tmp_path_factory.mktemp("compare")
    for name in ("result", "hostile"):
        (folder / f"{name}.html").write_bytes(Html().compare_page(compared(hostile=name == "hostile")))
    return lambda name: (folder / f"{name}.html").as_uri()


def test_every_table_row_chart_and_section_has_a_name_and_every_id_is_one(show):
    browser = show("result")
    assert browser.execute_script(UNNAMED) == 0
    assert browser.execute_script(REPEATED) == []


def test_markup_from_another_machine_is_text(show):
    browser = show("hostile")
    browser.execute_script(OPEN_ALL)
    assert browser.title == "2 machines compared · harness"
    assert browser.find_elements(By.CSS_SELECTOR, "script, img") == []
    assert "<script>" in browser.find_element(By.TAG_NAME, "body").text


def test_a_buyer_reads_the_answer_first_and_can_follow_its_cost(show):
    browser = show("result")
    assert "cannot be told apart in cost" in browser.find_element(By.TAG_NAME, "h1").text
    headings = [part.text for part in browser.find_elements(By.TAG_NAME, "h2")]
    assert headings[:2] == ["Why", "What could change it"]
    rows = browser.find_elements(By.CSS_SELECTOR, "#lines-1-1 tbody tr")
    lines = {row.find_element(By.TAG_NAME, "th").text: row.find_elements(By.TAG_NAME, "td")[1].text for row in rows}
    rate, used, hourly, price, cost = (float(re.match(r"[\d,.]+", value)[0].replace(",", "")) for value in lines.values())
    assert hourly == pytest.approx(rate * used / 100 * 3600, rel=1e-6)
    assert cost == pytest.approx(price / hourly * 1e6, rel=1e-6)


def test_keyboard_users_reach_what_could_change_the_answer_at_once(show):
    browser = show("result")
    skip = browser.find_element(By.CSS_SELECTOR, "a.skip")
    assert skip.get_attribute("href").endswith("#main")
    assert browser.find_element(By.CSS_SELECTOR, "#main h2").text == "What could change it"
