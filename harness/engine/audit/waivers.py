"""``waivers.yaml``: who puts up with which promise not being kept, why, and until when."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from harness.core.audit import Waiver
from harness.core.errors import BadInput, Problem
from harness.core.scenario import Model
from harness.engine.explain import explain
from harness.engine.read_yaml import Document, read_yaml

Told = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


def _read_day(value: object) -> object:
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError(f"{value!r} is not a day: write it as '2027-01-31', the last day that the waiver counts") from error


class WaiverEntry(Model):
    """One waiver."""

    clause: Told
    """The promise as the scenario writes it, key and all: ``int8.latency_p99: at most 5 ms``."""
    trials: Told | None = None
    """A pattern on trial ids; all trials of the clause where absent."""
    who: Told
    """Who signs for it."""
    why: Told
    """The reason, for whoever reads the audit."""
    until: Annotated[str, BeforeValidator(_read_day)]
    """The last day that it counts, in UTC."""


class WaiverFile(Model):
    """The file."""

    version: Literal[1]
    """The version of this form."""
    waivers: Annotated[tuple[WaiverEntry, ...], Field(min_length=1)]
    """One entry for each promise that is put up with."""


def read_waivers(path: Path, told: str) -> tuple[Waiver, ...]:
    """The waivers of a file that is called ``told`` in the bundle. Raises BadInput with every problem, file and line."""
    return _entries(path, told)[0]


def check_waivers(path: Path, promises: Iterable[tuple[str, str]]) -> tuple[Waiver, ...]:
    """The same, each of them about something that is promised: ``promises`` are (clause, trial id).

    Raises BadInput for a clause that is not promised and for a pattern that no trial of the clause matches, with what comes nearest.
    """
    promises = tuple(promises)
    waivers, document = _entries(path, path.name)
    problems = [problem for number, waiver in enumerate(waivers) for problem in _pointless(number, waiver, document, path, promises)]
    if problems:
        raise BadInput(*problems)
    return waivers


def _entries(path: Path, told: str) -> tuple[tuple[Waiver, ...], Document]:
    document = read_yaml(path)
    try:
        read = WaiverFile.model_validate(document.value)
    except ValidationError as error:
        raise BadInput(*explain(error, document, WaiverFile, path=path)) from error

    def line(number: int) -> int:
        place = document.place(f"waivers[{number}]")
        return place.line if place else 1

    found = (
        Waiver(entry.clause, entry.trials, entry.who, entry.why, entry.until, told, line(number))
        for number, entry in enumerate(read.waivers)
    )
    return tuple(found), document


def _pointless(number: int, waiver: Waiver, document: Document, path: Path, promises: Sequence[tuple[str, str]]) -> list[Problem]:
    def wrong(key: str, message: str, hint: str) -> list[Problem]:
        place = document.place(f"waivers[{number}].{key}")
        return [Problem(message, path, place.line if place else waiver.line, f"waivers[{number}].{key}", hint)]

    clauses = list(dict.fromkeys(clause for clause, _ in promises))
    if waiver.clause not in clauses:
        near = difflib.get_close_matches(waiver.clause, clauses, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"promised are {'; '.join(clauses)}"
        return wrong("clause", f"'{waiver.clause}' is not promised by the scenario", hint)
    trials = [trial for clause, trial in promises if clause == waiver.clause]
    if waiver.trials is not None and not fnmatch.filter(trials, waiver.trials):
        return wrong("trials", f"no trial of this clause matches '{waiver.trials}'", f"it is about {', '.join(trials[:8])}")
    return []
