"""Every kind of page at the width of a telephone, a desk and a wide screen, light and dark: readable, silent, nothing that axe-core finds.

axe-core (https://github.com/dequelabs/axe-core) comes with the development package axe-playwright-python; nothing else of that is used.
"""

from importlib import resources

import pytest
from fakes.looks import CONTRASTS, OPEN_ALL, OVERFLOWING, requests
from fakes.pages import PAGES

pytestmark = pytest.mark.browser
NAMES = [name for name in PAGES if name != "suite"]
RUN_AXE = """
const done = arguments[0];
const told = (found) => found.violations.flatMap((one) => one.nodes.map((node) =>
  `${one.id} (${one.impact}): ${node.target.join(' ')}: ${node.html.slice(0, 120)}: ${node.failureSummary.replace(/\\s+/g, ' ')}`));
const how = {resultTypes: ['violations'], preload: false, iframes: false};
(async () => [
  ...told(await axe.run(document, {...how, rules: {'color-contrast': {enabled: false}}})),
  ...told(await axe.run({exclude: [['svg']]}, {...how, runOnly: ['color-contrast']})),
])().then(done, (error) => done([String(error)]));
"""
"""Text in charts has nothing behind it that axe could tell and takes it most of its time: CONTRASTS looks at it."""
LOOKS = [
    pytest.param(360, "dark"),
    pytest.param(1280, "light", marks=pytest.mark.slow),
    pytest.param(1920, "dark", marks=pytest.mark.slow),
    pytest.param(360, "light", marks=pytest.mark.slow),
    pytest.param(1280, "dark", marks=pytest.mark.slow),
    pytest.param(1920, "light", marks=pytest.mark.slow),
]
CUT_OFF = """
return [...document.querySelectorAll('body *')]
  .filter((part) => part.scrollWidth > part.clientWidth + 1 && ['hidden', 'clip'].includes(getComputedStyle(part).overflowX)
          && !part.closest('svg, thead'))
  .map((part) => part.tagName + '.' + part.className);
"""
STACKED = """
return [...document.querySelectorAll('table.recipes, table.comparisons, table.sla, table.trials, table.audit')]
  .map((table) => table.parentElement).filter((part) => part.getClientRects().length && part.scrollWidth > part.clientWidth + 1)
  .map((part) => part.firstElementChild.id);
"""
"""Tables that a telephone shows as a list: none of them needs to be scrolled sideways."""


@pytest.fixture(scope="module")
def axe():
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The address of each kind of page, which is rendered once."""
    folder = tmp_path_factory.mktemp("every-page")

    def address(name):
        path = folder / f"{name}.html"
        if not path.is_file():
            path.write_bytes(PAGES[name]())
        return path.as_uri()

    return address


@pytest.mark.parametrize(("width", "theme"), LOOKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_readable_silent_and_accessible(show, axe, name, width, theme):
    browser = show(name, width=width, theme=theme)
    browser.execute_script(OPEN_ALL)
    assert requests(browser) == [browser.current_url] and browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == [] and browser.execute_script(CUT_OFF) == []
    if width == 360:
        assert browser.execute_script(STACKED) == []
    assert browser.execute_script(CONTRASTS) == []
    browser.execute_script(axe)
    browser.set_script_timeout(120)
    assert browser.execute_async_script(RUN_AXE) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_page_of_a4_cuts_nothing_off(show, name):
    browser = show(name, width=718)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script(OPEN_ALL)
    wide = browser.execute_script(
        "return [...document.querySelectorAll('body *')].filter((part) => part.getBoundingClientRect().right > 719 && !part.closest('svg'))"
        ".map((part) => part.tagName + '.' + part.className + ' ' + (part.closest('table') || {}).id);"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert wide == []


def test_what_axe_finds_fails(show, axe):
    browser = show("run")
    bad = "<img src='data:,'><p style='color:#ddd'>pale</p>"
    browser.execute_script("document.querySelector('h1').insertAdjacentHTML('afterend', arguments[0])", bad)
    browser.execute_script(axe)
    browser.set_script_timeout(120)
    found = browser.execute_async_script(RUN_AXE)
    assert {one.partition(" ")[0] for one in found} == {"image-alt", "color-contrast"}
