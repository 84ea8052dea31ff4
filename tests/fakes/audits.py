"""A release whose audit was made by the real command, and forgers who try to change it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from fakes.workplaces import Workplace, workplace

SCENARIO = """\
version: 1
name: tiny
model:
  fake: {latency_us: 100, wrong: 0.05}
data:
  evaluation: data.py:test_set
  task: classification
recipes:
  base: {runtime: fake}
  slow: {runtime: {fake: {add_latency_us: 100}}}
reference: base
measure: {duration: 0.15 s, warm_up: 0.05 s, launches: 2}
sla:
  latency_p99: at most 2 s
  latency_p50: at most 1 s
  accuracy: at least 90 %
  slow.latency_p50: at most 5000 % of base
  slow.accuracy: at most 1 point below base
  model_size: at most 1 MB
"""
FAST, SLOW = "tiny/base-cpu-b1", "tiny/slow-cpu-b1"


def audited(base: Path, scenario: str = SCENARIO) -> Workplace:
    """A repository whose release 1.0 was audited: 'out' and 'out.zip' beside it are the bundle."""
    place = workplace(base / "repository", base / "cache", scenario)
    ended = place.harness("audit", "scenarios", "--release", "1.0", "--output", str(base / "out.zip"), "--no-pdf")
    assert ended.code == 0, ended
    return place


def copied(bundle: Path, into: Path) -> Path:
    return Path(shutil.copytree(bundle, into))


def rewritten(bundle: Path, name: str, change: Callable[[dict], None]) -> None:
    """One of the bundle's JSON files, changed."""
    told = json.loads((bundle / name).read_bytes())
    change(told)
    (bundle / name).write_text(json.dumps(told))


def listed_again(bundle: Path) -> None:
    """What a forger does who knows how a bundle is made: new digests in the list and in the statement."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    apart = ("SHA256SUMS", "statement.json", "statement.json.sig")
    digests = {
        path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name not in apart
    }
    (bundle / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    digests["SHA256SUMS"] = hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()

    def relist(statement: dict) -> None:
        statement["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]

    rewritten(bundle, "statement.json", relist)
