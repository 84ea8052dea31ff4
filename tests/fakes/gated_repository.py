"""A user's repository on a runner, with a stand-in for harness that finds what it is told to."""

from __future__ import annotations

import json
from pathlib import Path

from fakes.github import FakeGithub, Job, Runner
from fakes.workplaces import Workplace

ROOT = Path(__file__).parents[2]
GATE = ROOT / ".github" / "actions" / "gate"
FORK, SHA = "stranger/model", "5ba9" * 10
LEFT = "harness-comment-performance-report"
REPORT = "## 🔺 REGRESSED: 1 metric regressed\n\n| <code>tiny/base-cpu-b1</code> | **×2.000** (exact) |\n"
STUB = """\
import json, pathlib, sys
words = sys.argv[1:]
if words[0] == "report":
    sys.exit(print("::error file=scenarios/tiny.yaml,line=12::slower"))
pathlib.Path("asked.json").write_text(json.dumps(words))
print("::warning::what a gate prints is no command")
run = pathlib.Path(words[words.index("--reports") + 1], "20261124-101112-0a1b")
run.mkdir(parents=True)
told = json.loads(pathlib.Path("told.json").read_text())
for name, text in told["files"].items():
    (run / name).write_text(text)
sys.exit(told["code"])
"""


class Repository:
    """``tell`` sets what the stand-in finds."""

    def __init__(self, folder: Path, github: FakeGithub) -> None:
        self.root, self.github = folder / "repository", github
        self.root.mkdir()
        (self.root / "stub.py").write_text(STUB)
        place = Workplace(self.root, folder / "cache")
        self.runner = Runner(self.root, folder / "runner", place.environment(), github)
        self.tell("REGRESSED", 1)

    def tell(self, verdict: str, code: int, report: str = REPORT) -> None:
        files = {"summary.json": json.dumps({"verdict": verdict}), "report.md": report, "report.html": "<!doctype html>"}
        (self.root / "told.json").write_text(json.dumps({"code": code, "files": files}))

    def gate(self, number: int | None = 7, **inputs: str) -> Job:
        event = {"ref": "refs/heads/main"} if number is None else {"pull_request": {"number": number}}
        return self.runner.job(GATE, event, **({"install": ":", "command": "python3 stub.py"} | inputs))

    def second(self, *, sha: str = SHA, fork: str | None = FORK, event: str = "pull_request") -> Job:
        """The workflow that runs when the gate's has ended."""
        head = None if fork is None else {"full_name": fork, "owner": {"login": fork.split("/")[0]}}
        run = {"id": 99, "event": event, "head_sha": sha, "head_branch": "change", "head_repository": head}
        return self.runner.job(GATE / "comment", {"workflow_run": run})


def bodies(github: FakeGithub, number: int = 7) -> list[str]:
    """The comments of a pull request, oldest first."""
    return [comment["body"] for comment in github.comments[number]]
