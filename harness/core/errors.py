"""The error tree. Every error says where, what and the next step, and carries its exit code.

    HarnessError
      BadInput            2   what the user wrote is wrong; holds every Problem found, not only the first
      CannotMeasure       3   the machine, a worker or a file did not let us measure or decide
        MissingPackage    3   an optional package is not installed; says the install line
      Interrupted       130   Ctrl-C; what was measured is saved

Anything else that reaches the command line is a bug in this program: exit code 70.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the process tells the shell."""

    PASS = 0
    REGRESSION = 1
    BAD_INPUT = 2
    NOT_DECIDED = 3
    BUG = 70
    INTERRUPTED = 130


class HarnessError(Exception):
    """The root of all errors that are not bugs: a message for people and an exit code."""

    exit_code: ExitCode = ExitCode.NOT_DECIDED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in what the user wrote: file, line (1-based), key path, message, next step."""

    message: str
    path: Path | None = None
    line: int | None = None
    key: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        where = "" if self.path is None else str(self.path) + (f":{self.line}" if self.line else "")
        head = " ".join(part for part in (where, self.key) if part)
        text = f"{head}: {self.message}" if head else self.message
        return text if self.hint is None else f"{text}\n  {self.hint}"


class BadInput(HarnessError):
    """What the user wrote is wrong. Holds all problems of the file at once."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("BadInput needs at least one problem")
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class CannotMeasure(HarnessError):
    """Nothing is known to be slower or wrong: it could not be measured, read or decided."""

    exit_code = ExitCode.NOT_DECIDED


class MissingPackage(CannotMeasure):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, needed_by: str) -> None:
        super().__init__(
            f"{needed_by} needs the package '{package}', which is not installed",
            hint=f"install it with: pip install 'harness[{extra}]'",
        )
        self.package = package
        self.extra = extra


class Interrupted(HarnessError):
    """The user pressed Ctrl-C, or the process was asked to end."""

    exit_code = ExitCode.INTERRUPTED
