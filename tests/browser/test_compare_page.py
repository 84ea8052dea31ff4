import re

import pytest
from fakes import machines
from fakes.looks import CONTRASTS, OPEN_ALL, OVERFLOWING, requests
from selenium.webdriver.common.by import By

from harness.core.comparison import SlaState
from harness.core.purchase import Assumptions
from harness.engine.compare_machines.compare import HOURS_A_MONTH, compare_runs
from harness.engine.compare_machines.prices import Prices
from harness.engine.compare_machines.read_runs import Named
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
    older = machines.PARTS | {"model": "9999ffff"}
    runs = [
        machines.run("relic", 150, price=0.1, parts=older, text=machines.TEXT.replace("width: 64", "width: 48"), recipes={"fp32": 0.4}),
        machines.run("small", 100, number=2, cores=1, states={"latency_p99": SlaState.BROKEN}, recipes={"fp32": 0.4}),
        machines.run("large-with-a-name-as-long-as-names-may-be", 190, price=2.1, number=3, recipes={"fp32": 0.4}),
        machines.run("twin", 190, price=2.1, number=4, recipes={"fp32": 0.4}, energy_j=0.3),
        machines.run("unpriced", 250, price=None, number=5, recipes={"fp32": 0.4}),
    ]
    evil = "<script>document.title = 'mine'</script><img src=x onerror=\"document.title='mine'\">"
    hostile = [
        machines.run("a", parts=machines.PARTS | {"model": evil}, text=evil, program_version=evil),
        machines.run("b", number=2),
        machines.run("c", number=3, program_version=f"2{evil}"),
    ]
    said = Assumptions(0.6, "--utilisation", None, None, 0.15, HOURS_A_MONTH)
    folder = tmp_path_factory.mktemp("compare")
    for name, given in (("result", runs), ("hostile", hostile)):
        found = compare_runs([Named(None, one) for one in given], Prices({}, {}), said, (50.0, 5_000.0))
        (folder / f"{name}.html").write_bytes(Html().compare_page(found))
    return lambda name: (folder / f"{name}.html").as_uri()


def test_the_page_opens_without_a_request_or_a_complaint(show):
    browser = show("result")
    browser.execute_script(OPEN_ALL)
    assert requests(browser) == [browser.current_url]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 800, 1920])
def test_nothing_is_wider_than_the_page(show, width):
    browser = show("result", width=width)
    browser.execute_script(OPEN_ALL)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == []


def test_a_printed_page_of_a4_cuts_nothing_off(show):
    browser = show("result", width=718)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script(OPEN_ALL)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert width <= 718


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_all_text_is_readable_in_both_themes(show, theme, width):
    browser = show("result", theme=theme, width=width)
    browser.execute_script(OPEN_ALL)
    assert browser.execute_script(CONTRASTS) == []


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
