"""How far a scenario reaches: its project, and what the user allows beyond it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.allowed import Allowed
from harness.core.errors import BadInput, Problem
from harness.core.scenario import ScenarioFile

OUTSIDE_VARIABLE = "HARNESS_ALLOW_OUTSIDE"
REMOTE_CODE_VARIABLE = "HARNESS_TRUST_REMOTE_CODE"
REMOTE_CODE_KEY = "trust_remote_code"
REMOTE_CODE_OPTION = "--trust-remote-code"


def allowed_here(outside: Sequence[Path] = (), *, remote_code: bool = False) -> Allowed:
    """What the command line says, with what ``$HARNESS_ALLOW_OUTSIDE`` (folders, separated as in PATH) and
    ``$HARNESS_TRUST_REMOTE_CODE`` (1) add. Raises BadInput for another value and for what is no folder."""
    switch = os.environ.get(REMOTE_CODE_VARIABLE, "0") or "0"
    if switch not in ("0", "1"):
        raise BadInput(Problem(f"{REMOTE_CODE_VARIABLE} is '{switch}'", hint="write 1, or unset it"))
    named = [Path(name) for name in os.environ.get(OUTSIDE_VARIABLE, "").split(os.pathsep) if name]
    folders = [folder.resolve() for folder in (*outside, *named)]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise BadInput(Problem(f"{missing[0]} is no folder", hint=f"--allow-outside and {OUTSIDE_VARIABLE} name folders that are there"))
    return Allowed(tuple(dict.fromkeys(folders)), remote_code or switch == "1")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a scenario's files may lie: code in the project (``root``, resolved), what is only read also in the folders ``outside``."""

    root: Path
    outside: tuple[Path, ...] = ()

    def problem(self, path: Path, written: str, key: str | None, *, code: bool) -> Problem | None:
        """What is wrong with a path of the scenario before anything is read from it: it leads out, or nowhere that a file could be."""
        try:
            resolved = path.resolve()
            path.lstat()
        except FileNotFoundError:
            pass  # that is told elsewhere, with the nearest right name
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its links lead round in a circle"
            return Problem(f"'{_shortened(written)}' is no path of a file: {reason}", key=key)
        if resolved.is_relative_to(self.root):
            return None
        if any(resolved.is_relative_to(folder) for folder in self.outside):
            if not code:
                return None
            hint = f"--allow-outside is for files that are only read: code stays inside {self.root}"
            return Problem(f"'{written}' is code and lies outside the project", key=key, hint=hint)
        return Problem(
            f"'{written}' lies outside the project", key=key, hint=f"files of a scenario stay inside {self.root}{self._how(code)}"
        )

    def name_of(self, path: Path) -> str:
        """A file's name in a content digest: its path in the project, as it is written there or as it resolves, else the whole path."""
        lexical = Path(os.path.normpath(path))
        inside = [place for place in (path.resolve(), lexical) if place.is_relative_to(self.root)]
        return (inside[0].relative_to(self.root) if inside else lexical).as_posix()

    @staticmethod
    def _how(code: bool) -> str:
        return "" if code else ", or say where else they may lie: --allow-outside FOLDER"


def check_remote_code(files: Iterable[ScenarioFile]) -> None:
    """Raise BadInput for every scenario that asks to run code which comes with its model, where the user does not say so too."""
    problems = []
    for file in files:
        source = file.scenario.model.source
        if source.options.get(REMOTE_CODE_KEY) is True and not file.allowed.remote_code:
            key = f"model.{source.name}.{REMOTE_CODE_KEY}"
            message = "asks to run code that comes with the model, and the command line does not allow it"
            hint = f"read that code first; then give {REMOTE_CODE_OPTION} (or set {REMOTE_CODE_VARIABLE}=1), or remove this key"
            problems.append(Problem(message, file.path, file.lines.get(key), key, hint))
    if problems:
        raise BadInput(*problems)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
