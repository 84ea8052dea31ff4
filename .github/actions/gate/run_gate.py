"""Runs ``harness gate`` with what the action was given, and tells the result: annotations, the job's summary, the step's outputs.

Ends with 0 whatever the verdict: a later step ends the job with the gate's own exit code, when all is told and kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from workflow_commands import add_to_summary, set_output, tell

CODES = {
    1: "a regression, or a broken SLA clause",
    2: "bad input",
    3: "could not be measured or decided",
    70: "a bug in harness",
    127: "harness could not be started",
    130: "stopped",
}
LAST_LINES = 60
MOST_ERRORS = 10
"""GitHub shows no more annotations of one kind from one step."""
PROBLEM = re.compile(r"^(?:error: )?(?P<file>[^\s:]+\.ya?ml)(?::(?P<line>\d+))?:? (?P<message>.+(?:\n  .+)?)", re.MULTILINE)
"""``scenarios/a.yaml:14 recipes.int8: unknown pass``, and perhaps a hint in the next line: the form in which harness tells bad input."""


def main() -> int:
    name = os.environ["GATE_NAME"]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", name):
        return _wrong_input(f"name: '{name}' is not up to 64 letters, digits, spaces and . _ -, the first a letter or a digit")
    switch = os.environ["GATE_STRICT"]
    if switch not in ("true", "false"):
        return _wrong_input(f"strict: '{switch}' is neither 'true' nor 'false'")
    os.environ.setdefault("HARNESS_CACHE_SIZE", "4 GiB")  # a repository has 10 GB for all its caches
    place = Path(tempfile.mkdtemp(prefix="gate-", dir=os.environ["RUNNER_TEMP"]))
    cached = _entries()
    code, errors = _run([*shlex.split(os.environ["GATE_COMMAND"]), "gate", *_arguments(place / "reports")])
    set_output("exit-code", code)
    if (built := _entries()) != cached:
        set_output("cache-key", hashlib.sha256("\n".join(built).encode()).hexdigest()[:20])
    folder = _result(place / "reports")
    if folder is None:
        body = _without_result(code, errors)
        _annotate(errors, code)
    else:
        set_output("verdict", json.loads((folder / "summary.json").read_text(encoding="utf-8"))["verdict"])
        set_output("report", folder / "report.html")
        set_output("folder", folder)
        body = (folder / "report.md").read_text(encoding="utf-8")
        _run([*shlex.split(os.environ["GATE_COMMAND"]), "report", str(folder), "--format", "github"], commands=True)
    page = place / "comment.md"
    page.write_text(f"**{name}**\n\n{body}", encoding="utf-8")
    set_output("body", page)
    add_to_summary(page.read_text(encoding="utf-8"))
    return 0


def _arguments(reports: Path) -> list[str]:
    """A folder of its own keeps an earlier run from being taken for this one."""
    words = [*shlex.split(os.environ["GATE_PATHS"]), "--reports", str(reports)]
    for option, variable in (("--against", "GATE_AGAINST"), ("--budget", "GATE_BUDGET"), ("--new-baselines", "GATE_NEW_BASELINES")):
        words += [option, os.environ[variable]] if os.environ[variable] else []
    words += ["--strict"] if os.environ["GATE_STRICT"] == "true" else []
    return words + shlex.split(os.environ["GATE_ARGUMENTS"])


def _run(words: list[str], *, commands: bool = False) -> tuple[int, list[str]]:
    """Exit code and last lines of stderr; both streams go to the log as they come.

    Only where ``commands`` is true does the runner carry out workflow commands that stand in them.
    """
    token = secrets.token_hex(16)
    _say("" if commands else f"::stop-commands::{token}\n")
    try:
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace") as process:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                sys.stderr.write(line)
                lines = [*lines[1 - LAST_LINES :], line.rstrip("\n")]
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    except OSError as error:
        code, lines = 127, [f"{words[0]} could not be started: {error.strerror}"]
    finally:
        _say("" if commands else f"\n::{token}::\n")
    return code, lines


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _result(reports: Path) -> Path | None:
    """The folder of the run, where there is one with a result."""
    found = sorted(path.parent.resolve() for path in reports.glob("*/summary.json"))
    return found[0] if found else None


def _without_result(code: int, errors: list[str]) -> str:
    told = "\n".join(errors)[-8000:]
    shown = "".join(character for character in told if character.isprintable() or character == "\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"## ⛔ No result: {CODES.get(code, 'an unknown end')} (exit code {code})\n\n{fence}text\n{shown}\n{fence}\n"


def _annotate(errors: list[str], code: int) -> None:
    """Bad input at its line of the file, paths as the repository has them; any other end as one error."""
    here = Path(os.path.relpath(Path.cwd(), os.environ["GITHUB_WORKSPACE"]))
    problems = [match for match in PROBLEM.finditer("\n".join(errors)) if code == 2]
    for match in problems[:MOST_ERRORS]:
        tell("error", match["message"], file=os.path.normpath(here / match["file"]), line=match["line"], title="bad input")
    if not problems:
        tell("error", "\n".join(errors[-8:]) or "nothing was said", title=f"No result: {CODES.get(code, f'exit code {code}')}")


def _entries() -> list[str]:
    """The names of what the artifact cache holds: each is a digest of all that went into it."""
    return sorted(path.name for path in Path(os.environ["HARNESS_CACHE_DIR"]).glob("entries/*/*"))


def _wrong_input(message: str) -> int:
    tell("error", message, title="input of the action")
    set_output("exit-code", 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
