import re
import shutil
from dataclasses import replace

import pytest
from fakes.told_audits import audit
from selenium.webdriver.common.by import By

from harness.core.comparison import SlaState
from harness.engine.audit.page import page_of
from harness.engine.audit.print_page import print_page

pytestmark = pytest.mark.browser


@pytest.fixture
def shown(show, pages, tmp_path, monkeypatch):
    """Opens the page of an audit at a width in a theme."""

    def open_page(told, **how):
        page = tmp_path / "report.html"
        page.write_bytes(page_of(told))
        browser = show("result", **how)
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(page.as_uri())
        return browser

    return open_page


def text_of(browser):
    return browser.find_element(By.TAG_NAME, "body").text


def test_the_verdict_comes_first_and_what_is_not_kept_before_what_is(shown):
    browser = shown(audit())
    assert "Broken" in browser.find_element(By.TAG_NAME, "h1").text
    states = [row.find_element(By.TAG_NAME, "td").text for row in browser.find_elements(By.CSS_SELECTOR, "#clauses tbody tr")]
    assert [state.split()[-1] for state in states] == ["Broken", "Unproven", "Unmeasured", "Kept", "Broken"]  # the last is waived
    assert "Unproven is not kept." in text_of(browser)


def test_a_waiver_is_shown_beside_the_promise_and_changes_no_state(shown):
    told = text_of(shown(audit()))
    assert "Waived by Ada Example until 2026-12-31: the new kernel comes with 1.5" in told
    assert "The waiver of Bob Example expired on 2026-01-31 and does not count" in told
    kept = tuple(one for one in audit().clauses if one.state is SlaState.KEPT or one.clause.startswith("latency_p50"))
    browser = shown(audit(clauses=kept))
    assert "Kept, except 1 waived" in browser.find_element(By.TAG_NAME, "h1").text
    assert [mark.text for mark in browser.find_elements(By.CSS_SELECTOR, "#clauses .badge.broken")] == ["▲ Broken"]


def test_source_that_was_not_committed_is_told_at_the_top(shown):
    browser = shown(audit())
    assert browser.find_element(By.CSS_SELECTOR, "header .note").text.startswith("The source was not a clean commit")


def test_a_script_in_what_people_wrote_never_runs(shown):
    waiver = replace(audit().waivers[0], who="<script>document.title = 'run'</script>", why="<img src=x onerror=alert(1)>")
    browser = shown(audit(release="<b>1</b>", clauses=(replace(audit().clauses[1], waivers=(waiver,)),)))
    assert browser.title.startswith("Release <b>1</b>") and not browser.find_elements(By.CSS_SELECTOR, "script, img, h1 b")


@pytest.mark.skipif(shutil.which("chromium") is None and shutil.which("google-chrome") is None, reason="needs Chromium")
def test_the_page_is_printed_and_tells_no_moment_of_printing(tmp_path):
    page, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_bytes(page_of(audit()))
    assert print_page(page, pdf)
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF-") and len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
    assert set(re.findall(rb"/(?:CreationDate|ModDate) \(D:(\d{14})", data)) <= {b"19800101000000"}


def test_without_a_browser_nothing_is_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    page = tmp_path / "report.html"
    page.write_bytes(page_of(audit()))
    assert not print_page(page, tmp_path / "report.pdf") and not (tmp_path / "report.pdf").exists()
