"""Saved runs: a folder under ``reports/`` that is written launch by launch, so that nothing measured is lost.

launches.jsonl   every process launch and every failure as soon as it happened, raw
result.json      the whole result (RunResult), written at the end
summary.json     what --json prints
report.html, report.md, junit.xml, report.txt
logs/            what workers printed
parts/           what the nodes of a fleet sent, where there was one
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, cast

from pydantic import TypeAdapter, ValidationError

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import Failure, Run
from harness.core.result import SCHEMA, RunResult
from harness.store.files import hint_for, write_atomically

DEFAULT_FOLDER = Path("reports")
"""Where the command line saves runs unless it is told otherwise."""
LATEST = "latest"
LAUNCHES = "launches.jsonl"
RESULT = "result.json"
PARTS = "parts"
"""What the nodes of a fleet sent, as they sent it; the run's own files have all of it that counts."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first line of a journal: what was asked for, so that the run can be gone on with."""

    schema: int
    id: str
    command: str
    started_at: str
    seed: int
    arguments: Mapping[str, object]
    kind: Literal["begun"] = "begun"

    @property
    def verb(self) -> str:
        """``run`` or ``gate``."""
        return self.command.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Launched:
    """One launch of one arm. ``content`` tells whether it is still of the same trial when the run is resumed."""

    trial: str
    content: str
    run: Run
    kind: Literal["launch"] = "launch"


@dataclass(frozen=True, slots=True)
class Broke:
    """A launch that failed, and why."""

    trial: str
    content: str
    failure: Failure
    kind: Literal["failure"] = "failure"


_BEGUN: TypeAdapter[Begun] = TypeAdapter(Begun)
_LAUNCHED: TypeAdapter[Launched] = TypeAdapter(Launched)
_EVENT: TypeAdapter[Begun | Launched | Broke] = TypeAdapter(Begun | Launched | Broke)
_RESULT: TypeAdapter[RunResult] = TypeAdapter(RunResult)


def new_run_id(now: datetime) -> str:
    """``20261124-201503-9f3a``: sorts by time; the end keeps two runs of one second apart."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def append(self, event: Begun | Launched | Broke) -> None:
        """Add one line to the journal. Raises CannotMeasure when the disk is full; what is written already stays."""
        line = json.dumps(_EVENT.dump_python(event, mode="json"), separators=(",", ":")).encode() + b"\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / LAUNCHES).open("a+b") as file:
                file.write(line if _ends_a_line(file) else b"\n" + line)
        except OSError as error:
            raise CannotMeasure(f"{self.path} cannot be written: {error.strerror or error}", hint=hint_for(error)) from error

    def add_launches(self, other: RunFolder) -> None:
        """Take over the journal of a part of this run: its launches and failures, those that are here already left out."""
        here = {line.rstrip(b"\n") for line in (self.path / LAUNCHES).read_bytes().splitlines()}
        for line in (other.path / LAUNCHES).read_bytes().splitlines():
            if line not in here and b'"kind":"begun"' not in line:
                self.append(_EVENT.validate_json(line))

    def begun(self) -> Begun:
        """How the run was started. Raises CannotMeasure when there is no journal that can be read."""
        try:
            with (self.path / LAUNCHES).open(encoding="utf-8", errors="replace") as file:
                return _BEGUN.validate_json(file.readline())
        except (OSError, ValidationError) as error:
            raise CannotMeasure(f"{self.path} holds no run that can be gone on with") from error

    def begun_by(self, verb: str) -> Begun:
        """How the run was started. Raises BadInput when another command than 'harness VERB' began it."""
        begun = self.begun()
        if begun.verb != verb:
            raise BadInput(Problem(f"run {self.id} was begun by 'harness {begun.verb}'", hint=self.how_to_go_on()))
        return begun

    def overrides(self) -> Sequence[str]:
        """What ``--set`` gave the run; none where there is no journal that tells."""
        try:
            return cast("list[str]", self.begun().arguments.get("overrides", []))
        except CannotMeasure:
            return ()

    def how_to_go_on(self) -> str:
        """The command that goes on with this run, from the folder that it was begun in."""
        name = self.id if self.path.parent.resolve() == DEFAULT_FOLDER.resolve() else self.path
        return f"go on with it: harness {self.begun().verb} --resume {name}"

    def launches(self, trial: str, content: str) -> Sequence[Run]:
        """The launches of a trial that were measured of this very content, in order; a torn last line is left out."""
        found: list[Run] = []
        with (self.path / LAUNCHES).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if '"kind":"launch"' not in line or f'"{content}"' not in line:
                    continue
                try:
                    event = _LAUNCHED.validate_json(line)
                except ValidationError:
                    continue
                if (event.trial, event.content) == (trial, content):
                    found.append(event.run)
        return found

    def whole_pairs(self, trial: str, content: str, arms: int) -> dict[str, list[Run]]:
        """The launches by arm, only of pairs that all ``arms`` have, numbered anew from 0."""
        pairs: dict[int, dict[str, Run]] = defaultdict(dict)
        for run in self.launches(trial, content):
            pairs[run.pair][run.arm] = run
        whole = [pair for _, pair in sorted(pairs.items()) if len(pair) == arms]
        found: dict[str, list[Run]] = defaultdict(list)
        for number, pair in enumerate(whole):
            for arm, run in pair.items():
                found[arm].append(dataclasses.replace(run, pair=number))
        return found

    def save(self, result: RunResult, reports: Mapping[str, bytes]) -> None:
        """Write the result and its reports; ``reports`` by file name."""
        text = json.dumps(_RESULT.dump_python(result, mode="python"), default=str, separators=(",", ":"))
        write_atomically(self.path / RESULT, (text + "\n").encode())
        for name, data in reports.items():
            write_atomically(self.path / name, data)

    def result(self) -> RunResult:
        """The saved result. Raises CannotMeasure when the run never finished or its file is damaged."""
        try:
            data = (self.path / RESULT).read_bytes()
        except FileNotFoundError as error:
            raise CannotMeasure(f"run {self.id} has no result: it did not finish", hint=self.how_to_go_on()) from error
        try:
            schema = json.loads(data).get("schema")
            if schema != SCHEMA:
                raise CannotMeasure(f"run {self.id} has schema {schema!r}, this program reads {SCHEMA}")
            return _RESULT.validate_json(data)
        except (ValidationError, ValueError, AttributeError) as error:
            raise CannotMeasure(f"{self.path / RESULT} is damaged: {str(error).splitlines()[0]}") from error


def _ends_a_line(file: BinaryIO) -> bool:
    """False after a line that an interrupted or failed write left torn: what follows must not become a part of it."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return True
    file.seek(end - 1)
    return file.read(1) == b"\n"


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a project, in one folder."""

    folder: Path

    def create(self, identity: str) -> RunFolder:
        """The folder of a new run; ``latest`` points to it from now on."""
        run = RunFolder(self.folder / identity)
        try:
            run.path.mkdir(parents=True)
        except OSError as error:
            raise CannotMeasure(f"{run.path} cannot be made: {error.strerror or error}", hint=hint_for(error)) from error
        self._point_latest(identity)
        return run

    def begin(self, command: str, now: datetime, seed: int, arguments: Mapping[str, object]) -> RunFolder:
        """A new run's folder, with what was asked for as the first line of its journal."""
        folder = self.create(new_run_id(now))
        folder.append(Begun(SCHEMA, folder.id, command, now.isoformat(timespec="seconds"), seed, arguments))
        return folder

    def find(self, name: str) -> RunFolder:
        """A run by its id, a unique beginning of it, ``latest``, or the path of its folder. Raises BadInput with the newest ids."""
        as_path = Path(name)
        if (as_path / LAUNCHES).is_file() or (as_path / RESULT).is_file():
            return RunFolder(as_path.resolve())
        known = self.ids()
        if name == LATEST and known:
            latest = self.folder / LATEST
            return RunFolder(self.folder / (latest.resolve().name if latest.exists() else known[-1]))
        matching = [identity for identity in known if identity.startswith(name)]
        if len(matching) == 1:
            return RunFolder(self.folder / matching[0])
        what = "is the beginning of several runs" if matching else "is not a run here"
        told = ", ".join(reversed((matching or known)[-5:])) or f"none under {self.folder}: 'harness run' makes one"
        raise BadInput(Problem(f"'{name}' {what}", hint=f"the newest are {told}" if known else told))

    def ids(self) -> list[str]:
        """The ids of all runs, oldest first."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{LAUNCHES}") if not path.parent.is_symlink())

    def _point_latest(self, identity: str) -> None:
        """A symbolic link, replaced in one step; where links cannot be made there is none."""
        scratch = self.folder / f".latest-{os.getpid()}"
        try:
            scratch.unlink(missing_ok=True)
            scratch.symlink_to(identity)
            scratch.replace(self.folder / LATEST)
        except OSError:
            scratch.unlink(missing_ok=True)
