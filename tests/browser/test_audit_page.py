import re
import shutil
from dataclasses import replace

import pytest
from fakes.looks import CONTRASTS, OVERFLOWING, requests
from selenium.webdriver.common.by import By

from harness.core.artifact import AppliedStep
from harness.core.audit import SCHEMA, Audit, AuditedClause, AuditedScenario, AuditedTrial, LaunchLine, Waiver, verdict_of
from harness.core.comparison import SlaState
from harness.core.environment import Environment
from harness.core.measurement import SessionFacts
from harness.core.result import Content, TrialState
from harness.core.units import Unit
from harness.engine.audit.page import page_of
from harness.engine.audit.print_page import print_page

pytestmark = pytest.mark.browser
FAST, SMALL = "digits/fp32-cpu-b1", "digits/int8-cpu-b1"
RAW = ("run/launches.jsonl", "source/scenarios/digits.yaml")


def clause(text, trial, state, **more):
    metric = text.partition(":")[0].rpartition(".")[2]
    lines = tuple(LaunchLine(number, 400, 3 if state is SlaState.BROKEN else 0, 6_100_000, 4_900_000.0) for number in range(5))
    told = {
        "scenario": "digits", "trial": trial, "metric": metric, "clause": text, "line": 31, "limit": 5e6, "limit_unit": Unit.NANOSECONDS,
        "unit": Unit.NANOSECONDS, "state": state, "value": 4.9e6, "bound": 0.0042, "bound_of": "share of queries over the limit",
        "confidence": 0.975, "basis": "queries", "count": 2_000, "over": 0, "load": "single_stream", "batch_size": 1,
        "reason": "0 of 2,000 queries over 5.00 ms (0.00 %; at most 1 % may be)", "method": "Queries over the limit are counted.",
        "raw": RAW, "launches": lines,
    }  # fmt: skip
    return AuditedClause(**(told | more))


def trial(name, state=TrialState.MEASURED, **more):
    content = Content("4" * 64, "5" * 64, {"torch": "2.13.0"})
    facts = SessionFacts("cpu", "int8 (54 of 54 nodes)", 2)
    step = AppliedStep("factory", "{}")
    return AuditedTrial(
        name, state, "measured", content, "0a1b2c", f"{'4' * 24}-0a1b2c", "onnxruntime", ("export_onnx",), facts, (step,), "6" * 64,
        launches=5, queries=2_000, **more,
    )  # fmt: skip


def audit(**more):
    """Every state there is: kept, broken and waived, broken with an expired waiver, unproven, unmeasured; names as long as they come."""
    signed = Waiver("latency_p50: at most 1 ms", None, "Ada Example", "the new kernel comes with 1.5", "2026-12-31", "waivers/all.yaml", 3)
    expired = replace(signed, clause="int8.latency_p99: at most 5 ms", who="Bob Example", until="2026-01-31", line=8)
    clauses = (
        clause(
            "accuracy: at least 95 %", FAST, SlaState.KEPT, basis="samples", unit=Unit.FRACTION, value=0.978, launches=(), confidence=None
        ),
        clause("latency_p50: at most 1 ms", FAST, SlaState.BROKEN, waivers=(signed,)),
        clause("int8.latency_p99: at most 5 ms", SMALL, SlaState.BROKEN, waivers=(expired,), over=15),
        clause("latency_p99: at most 5 ms", FAST, SlaState.UNPROVEN, reason="about 73 more queries would tell"),
        clause(
            "throughput: at least 200 /s", "digits/fp32-cuda-b1", SlaState.UNMEASURED, value=None, bound=None, basis="nothing", launches=()
        ),
    )
    told = Audit(
        schema=SCHEMA,
        program_version="0.1.0",
        release="2026.11-rc1",
        audited_at="2026-11-28T18:28:56+00:00",
        project="digits",
        commit="eb0a3d4a05f015e44f26afeaf4a8866f3ebe5ef8",
        dirty=True,
        run="20261128-182857-3219",
        command="audit scenarios --release 2026.11-rc1",
        measured_from="2026-11-28T18:20:00+00:00",
        measured_until="2026-11-28T18:28:00+00:00",
        environment=Environment(
            "AMD EPYC", 2, ("avx2",), 2**34, (), "Debian 12", "6.1", "3.11.7", None, 0.4, True, {"torch": "2.13.0"}, {}, "eb0a3d4", True
        ),
        looks=(5, 12),
        confidence=0.9875,
        scenarios=(AuditedScenario("digits", "scenarios/digits.yaml"),),
        waiver_files={"digits": "waivers/all.yaml"},
        trials=(trial(FAST), trial(SMALL), trial("digits/fp32-cuda-b1", TrialState.SKIPPED)),
        notes=("the machine was busy at the start: load 6.9 on 2 CPUs",),
        clauses=clauses,
        waivers=(signed, expired),
    )
    told = replace(told, **more)
    verdict, waived, code, headline = verdict_of(told.clauses, told.day)
    return replace(told, verdict=verdict, waived=waived, exit_code=int(code), headline=headline)


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


@pytest.mark.parametrize("width", [360, 800, 1920])
def test_the_page_makes_no_request_and_nothing_is_wider_than_it(shown, width):
    browser = shown(audit(), width=width)
    assert requests(browser) == [browser.current_url] and browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_is_readable_in_both_themes(shown, theme):
    assert shown(audit(), theme=theme).execute_script(CONTRASTS) == []


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


def test_a_printed_page_of_a4_cuts_nothing_off(shown):
    browser = shown(audit(), width=718)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    width = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert width <= 718


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
