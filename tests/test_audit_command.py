import json
import shutil
import subprocess
from pathlib import Path

import pytest
from fakes.audits import FAST, SCENARIO, SLOW, audited, copied, listed_again, rewritten
from fakes.workplaces import Workplace, workplace

WAIVER = """\
version: 1
waivers:
  - clause: "latency_p50: at most 0.01 ms"
    who: Ada Example
    why: the new kernel comes with 1.1
    until: {until}
"""
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A repository whose release 1.0 was audited, and its bundle; tests leave both as they are."""
    base = tmp_path_factory.mktemp("release")
    return audited(base), base / "out"


@pytest.fixture
def place(release, tmp_path):
    """A copy of that repository, with its runs, for a test to change."""
    return Workplace(Path(shutil.copytree(release[0].root, tmp_path / "repository", symlinks=True)), release[0].cache)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with nothing in it, and no artifact cache."""
    (tmp_path / "elsewhere").mkdir()
    return Workplace(tmp_path / "elsewhere", tmp_path / "no-cache")


def test_a_bundle_holds_in_an_empty_folder_of_another_machine(release, elsewhere):
    shutil.copy(release[1].with_suffix(".zip"), elsewhere.root / "bundle.zip")
    ended = elsewhere.harness("audit", "verify", "bundle.zip")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("bundle.zip holds: 10 promises follow from its raw data, ")
    assert "release 1.0: all 10 kept" in ended.out and "signature: not signed" in ended.out


def test_the_page_and_the_plain_files_are_all_there(release):
    names = {path.relative_to(release[1]).as_posix() for path in release[1].rglob("*") if path.is_file()}
    raw = {"run/launches.jsonl", "source/scenarios/tiny.yaml"} | {
        f"{kind}/{one}.csv" for kind in ("samples", "artifacts") for one in (FAST, SLOW)
    }
    assert names == raw | {"audit.json", "report.html", "README.txt", "SHA256SUMS", "statement.json"}
    told = json.loads((release[1] / "audit.json").read_bytes())
    assert told["commit"] == release[0].git("rev-parse", "HEAD") and told["dirty"] is False and told["release"] == "1.0"


def test_the_history_tells_the_head_room_of_the_release_by_its_name(release):
    ended = release[0].harness("history", "base", "--releases", "--metric", "accuracy", "--json")
    (room,) = ended.summary["head_room"]
    (point,) = room["points"]
    assert (room["trial"], room["clause"]) == (FAST, "accuracy: at least 90 %"), ended
    assert (point["release"], point["state"]) == ("1.0", "KEPT") and point["head_room"] == pytest.approx((point["value"] - 0.9) / 0.9)


def test_a_forged_bundle_is_named_and_exits_with_one(release, elsewhere):
    forged = copied(release[1], elsewhere.root / "forged")
    rewritten(forged, "audit.json", lambda audit: audit["clauses"][0].update(value=0.5))
    listed_again(forged)
    ended = elsewhere.harness("audit", "verify", "forged", "--json")
    assert ended.code == 1 and ended.summary["holds"] is False
    assert any(": value is " in problem for problem in ended.summary["problems"])
    assert "forged DOES NOT HOLD" in elsewhere.harness("audit", "verify", "forged").out


def test_a_run_is_audited_where_its_content_is_still_what_the_scenario_gives(place):
    ended = place.harness("audit", "scenarios", "--release", "1.0", "--run", "latest", "--no-pdf", "--output", "reports/again.tar.gz")
    assert ended.code == 0 and "bundle: reports/again.tar.gz" in ended.out, ended
    assert place.harness("audit", "verify", "reports/again.tar.gz").code == 0
    place.replace("scenarios/data.py", "np.arange(200)", "np.arange(300)")
    place.commit("more samples")
    refused = place.harness("audit", "scenarios", "--release", "1.1", "--run", "latest")
    assert refused.code == 2 and f"measured another content of {FAST}: code, data, options or files of it changed" in refused.err


def test_the_same_run_audited_twice_at_one_moment_is_the_same_file(place):
    bundle = place.root / "reports" / "bundle.zip"
    arguments = ("audit", "scenarios", "--release", "1.0", "--run", "latest", "--no-pdf", "--output", "reports/bundle.zip")
    made = []
    for _ in range(2):
        ended = place.harness(*arguments, env={"SOURCE_DATE_EPOCH": "1795000000"})
        assert ended.code == 0, ended
        made.append(bundle.read_bytes())
        bundle.unlink()
        shutil.rmtree(bundle.with_suffix(""))
    assert made[0] == made[1]


def test_source_that_no_commit_stands_for_is_refused(place):
    place.replace("scenarios/tiny.yaml", "at most 2 s", "at most 3 s")
    refused = place.harness("audit", "scenarios", "--release", "1.0")
    assert refused.code == 2 and "the source differs from commit" in refused.err and "--allow-dirty" in refused.err


def test_evidence_is_not_written_over(place):
    (place.root / "reports" / "audit-1.0").mkdir()
    (place.root / "reports" / "audit-1.0" / "something").touch()
    refused = place.harness("audit", "scenarios", "--release", "1.0")
    assert refused.code == 2 and "is there already: evidence is not written over" in refused.err


def test_a_scenario_that_promises_nothing_cannot_be_audited(place):
    place.write("scenarios/tiny.yaml", SCENARIO.partition("sla:")[0])
    place.commit()
    refused = place.harness("audit", "scenarios", "--release", "1.0")
    assert refused.code == 2 and "promises nothing: there is no 'sla' to audit" in refused.err


@pytest.mark.slow
def test_a_broken_promise_is_shown_with_its_waiver_and_an_expired_one_does_not_count(place):
    place.replace("scenarios/tiny.yaml", "latency_p50: at most 1 s", "latency_p50: at most 0.01 ms")
    place.write("scenarios/waivers.yaml", WAIVER.format(until="2026-01-31"))
    place.commit("a promise that cannot be kept, and a waiver that has expired")
    broken = place.harness(
        "audit", "scenarios", "--release", "1.0", "--run", "latest", "--no-pdf", "--allow-dirty", "--output", "reports/broken"
    )
    assert broken.code == 1 and "release 1.0: not kept: 2 broken, 8 kept" in broken.out, broken
    assert broken.out.count("waiver expired: Ada Example until 2026-01-31") == 2
    place.write("signed.yaml", WAIVER.format(until="2999-12-31"))
    waived = place.harness(
        *("audit", "scenarios", "--release", "1.0", "--run", "latest", "--no-pdf", "--allow-dirty"),
        "--waivers",
        "signed.yaml",
        "--output",
        "reports/waived",
    )
    assert waived.code == 0 and "release 1.0: kept, except 2 waived" in waived.out, waived
    assert waived.out.count("BROKEN ") == 2 and "waived: Ada Example until 2999-12-31: the new kernel comes with 1.1" in waived.out
    page = (place.root / "reports" / "waived" / "report.html").read_text()
    assert "Kept, except 2 waived" in page and "Waived by Ada Example until 2999-12-31" in page and page.count("Broken</span>") >= 2
    verified = place.harness("audit", "verify", "reports/waived.zip")
    assert verified.code == 0 and "kept, except 2 waived" in verified.out
    forged = copied(place.root / "reports" / "waived", place.root / "forged")
    file = forged / "waivers" / "all.yaml"
    file.write_text(file.read_text().replace("2999", "2025"))
    listed_again(forged)
    ended = place.harness("audit", "verify", "forged")
    assert ended.code == 1 and "audit.json: waived is 2, and 0 by the raw data" in ended.out


@pytest.mark.slow
def test_launches_are_added_until_the_promise_is_proved_or_the_budget_is_spent(tmp_path):
    scenario = SCENARIO.replace("latency_us: 100,", "latency_us: 3000,").replace("  latency_p50: at most 1 s\n", "")
    place = workplace(tmp_path / "repository", tmp_path / "cache", scenario)
    proved = place.harness("audit", "scenarios", "--release", "1.0", "--json", "--no-pdf")
    looks = proved.summary["looks"]
    assert proved.code == 0 and proved.summary["verdict"] == "KEPT", proved
    assert len(looks) > 1 and looks == sorted(looks) and looks[0] == 2
    assert proved.summary["confidence"] == 1 - 0.05 * 0.5 ** len(looks)
    assert place.harness("audit", "verify", "reports/audit-1.0.zip").code == 0
    spent = place.harness("audit", "scenarios", "--release", "1.1", "--no-pdf", "--budget", "1 ms", "--json")
    assert spent.code == 3 and spent.summary["verdict"] == "UNPROVEN" and spent.summary["looks"] == [2], spent
    gone_on = place.harness("audit", "--release", "1.1-more", "--no-pdf", "--resume", "latest", "--json")
    assert gone_on.code == 0 and gone_on.summary["looks"][0] == 2 and len(gone_on.summary["looks"]) > 1, gone_on


@pytest.fixture
def keys(tmp_path):
    """A key of Ada's, a key of a forger's, and the file that vouches for Ada alone."""
    for name in ("ada", "forger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)], check=True)
    (tmp_path / "allowed").write_text(f"ada@example.com {(tmp_path / 'ada.pub').read_text()}")
    return tmp_path


@pytest.mark.slow
@needs_ssh
def test_a_signature_holds_for_the_one_who_signed_and_for_nothing_that_was_changed(place, keys, elsewhere):
    arguments = ("audit", "scenarios", "--release", "1.0", "--run", "latest", "--no-pdf", "--output", str(elsewhere.root / "signed.zip"))
    assert place.harness(*arguments, "--sign", str(keys / "ada")).code == 0
    allowed = ("--allowed-signers", str(keys / "allowed"))
    holds = elsewhere.harness("audit", "verify", "signed.zip", *allowed)
    assert holds.code == 0 and "signature: signed by ada@example.com" in holds.out
    assert "for which nobody vouches" in elsewhere.harness("audit", "verify", "signed.zip").out
    other = elsewhere.harness("audit", "verify", "signed.zip", *allowed, "--signer", "eve@example.com")
    assert other.code == 1 and "is not one of eve@example.com" in other.out
    rewritten(elsewhere.root / "signed", "audit.json", lambda audit: audit.update(release="1.0 (final)"))
    listed_again(elsewhere.root / "signed")
    changed = elsewhere.harness("audit", "verify", "signed", *allowed)
    assert changed.code == 1 and "the signature is not one of ada@example.com for this statement" in changed.out


@pytest.mark.slow
@needs_ssh
def test_a_key_that_nobody_vouches_for_and_no_signature_at_all_do_not_hold(place, keys, release, elsewhere):
    arguments = ("audit", "scenarios", "--release", "1.0", "--run", "latest", "--no-pdf", "--output", str(elsewhere.root / "forged.zip"))
    assert place.harness(*arguments, "--sign", str(keys / "forger")).code == 0
    allowed = ("--allowed-signers", str(keys / "allowed"))
    unknown = elsewhere.harness("audit", "verify", "forged.zip", *allowed)
    assert unknown.code == 1 and "the key of the signature is not in" in unknown.out
    unsigned = elsewhere.harness("audit", "verify", str(release[1]), *allowed)
    assert unsigned.code == 1 and "not signed, and a signature was asked for" in unsigned.out


def test_without_ssh_keygen_signing_is_refused_before_anything_is_measured(place, tmp_path):
    key = place.write("reports/key", "")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git"))
    refused = place.harness("audit", "scenarios", "--release", "1.0", "--sign", str(key), env={"PATH": str(tools)})
    assert refused.code == 3 and "signatures need ssh-keygen, which is not installed" in refused.err
    assert "apt-get install openssh-client" in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["audit", "--release", "1"], "name a scenario file or a folder of scenarios"),
        (["audit", "scenarios"], "Missing option '--release'"),
        (["audit", "scenarios", "--release", "1", "--run", "latest", "--budget", "1s"], "--run audits what was measured"),
        (["audit", "verify"], "Missing argument 'BUNDLE'"),
        (["audit", "verify", "none"], "none: does not exist"),
        (["audit", "verify", "none", "--signer", "me"], "give --allowed-signers too"),
    ],
)
def test_what_is_asked_wrongly_is_told(elsewhere, words, told):
    ended = elsewhere.harness(*words)
    assert ended.code == 2 and told in ended.err and ended.out == ""
