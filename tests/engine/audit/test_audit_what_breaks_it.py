"""A bundle holds on another machine with nothing but this program, and after any one change it does not, and what changed is named."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.audits import FAST, SLOW, copied, listed_again, rewritten
from fakes.served_audits import made_again

from harness.engine.audit import sign
from harness.engine.audit.page import page_of
from harness.engine.audit.verify import verify
from harness.store.bundles import pack

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
ACCURACY, P99 = "accuracy: at least 99 %", "latency_p99: at most 2 s"
LAST_DAY = "2999-12-31"
WAIVER = f"""\
version: 1
waivers:
  - clause: "{ACCURACY}"
    who: Ada Example
    why: the new labels come with 1.1
    until: {LAST_DAY}
"""
ALONE = """
import socket, sys
class Frameworks:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "onnxruntime", "openvino", "tensorflow", "transformers", "locust", "ray", "sklearn"}:
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Frameworks())
def refuse(*_, **__):
    raise OSError("this machine has no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from harness.cli import main
main()
"""
"""The program on a machine that has no framework and no network."""


@dataclass(frozen=True)
class Proof:
    """A signed bundle in which one promise is broken and waived, the file that vouches for its signer, and a forger's key."""

    bundle: Path
    allowed: Path
    forger: Path


@pytest.fixture(scope="module")
def proof(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    for name in ("ada", "forger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    (folder / "allowed").write_text(f"ada@example.com {(folder / 'ada.pub').read_text()}")
    made = copied(bundle, folder / "bundle")
    scenario = made / "source" / "scenarios" / "tiny.yaml"
    scenario.write_text(scenario.read_text().replace("accuracy: at least 90 %", ACCURACY, 1))
    (made / "waivers").mkdir()
    (made / "waivers" / "tiny.yaml").write_text(WAIVER)
    made_again(made, waiver_files={"tiny": "waivers/tiny.yaml"})
    sign.sign(made, folder / "ada")
    return Proof(made, folder / "allowed", folder / "forger")


def a_byte(bundle, proof):
    file = bundle / "run" / "launches.jsonl"
    data = bytearray(file.read_bytes())
    data[data.index(b'"latencies_ns":[') + 16] ^= 1
    file.write_bytes(data)


def a_raw_file(bundle, proof):
    (bundle / "samples" / f"{FAST}.csv").unlink()


def the_journal(bundle, proof):
    (bundle / "run" / "launches.jsonl").unlink()


def a_figure_with_its_hash(bundle, proof):
    rewritten(bundle, "audit.json", lambda audit: audit["clauses"][0].update(bound=audit["clauses"][0]["bound"] / 2))
    listed_again(bundle)


def a_clause(bundle, proof):
    rewritten(bundle, "audit.json", lambda audit: audit.update(clauses=[one for one in audit["clauses"] if one["clause"] != P99]))
    listed_again(bundle)


def the_signature(bundle, proof):
    sign.sign(bundle, proof.forger)


def found(proof, bundle, day=LAST_DAY):
    return verify(bundle, page_of, proof.allowed, today=day)


def test_it_holds_as_it_was_made(proof):
    honest = found(proof, proof.bundle)
    assert (honest.problems, honest.signed.told) == ((), "signed by ada@example.com")
    assert (honest.audit.exit_code, honest.audit.headline) == (0, "kept, except 2 waived")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (a_byte, "run/launches.jsonl: changed, its SHA-256 is not the one in SHA256SUMS"),
        (a_raw_file, f"samples/{FAST}.csv: listed in SHA256SUMS and missing"),
        (the_journal, "run/launches.jsonl: listed in SHA256SUMS and missing"),
        (a_figure_with_its_hash, f"'{P99}' on {FAST}: bound is "),
        (a_clause, f"'{P99}' on {SLOW}: promised by the scenario and missing from audit.json"),
        (the_signature, "the key of the signature is not in "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_after_any_one_change_it_does_not_hold_and_what_changed_is_named(proof, tmp_path, change, named):
    bundle = copied(proof.bundle, tmp_path / "bundle")
    change(bundle, proof)
    told = found(proof, bundle)
    assert not told.holds and any(problem.startswith(named) for problem in told.problems), told.problems


def test_after_its_waiver_has_expired_it_does_not_hold_and_the_waiver_is_named(proof):
    told = found(proof, proof.bundle, day="3000-01-01")
    assert told.problems == tuple(
        f"'{ACCURACY}' on {trial} is BROKEN, and the waiver of Ada Example that stood for it expired on {LAST_DAY}"
        for trial in (FAST, SLOW)
    )


def test_on_a_machine_without_frameworks_network_cache_or_git_it_is_verified(proof, tmp_path):
    pack(proof.bundle, tmp_path / "bundle.zip")

    def verified(*more):
        command = [sys.executable, "-c", ALONE, "audit", "verify", "bundle.zip", "--as-of", LAST_DAY, *more]
        nothing = {"PATH": str(tmp_path), "HOME": str(tmp_path), "HARNESS_CACHE_DIR": str(tmp_path / "none")}
        return subprocess.run(command, cwd=tmp_path, env=nothing, capture_output=True, text=True, check=False)

    done = verified()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bundle.zip holds: 10 promises follow from its raw data, ")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.zip"]


def test_a_day_that_is_none_is_refused(tmp_path):
    command = [sys.executable, "-m", "harness.cli", "audit", "verify", "bundle.zip", "--as-of", "soon"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--as-of 'soon' is not a day: write it as '2027-01-31'" in done.stderr
