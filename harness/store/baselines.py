"""Baselines on disk: ``baselines/<scenario>/<trial>.json``, small enough to review, committed with the source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.core.baseline import BASELINE_SCHEMA, Baseline
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.store.files import pretty_json, write_atomically

FOLDER = "baselines"
_BASELINE: TypeAdapter[Baseline] = TypeAdapter(Baseline)


class Unreadable(CannotMeasure):
    """A baseline file that is damaged or of another schema: named, never skipped."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baselines of one project."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / FOLDER

    def path(self, trial: str) -> Path:
        """The file of a trial id such as ``digits-resnet50/int8-cpu-b1``. Raises BadInput for one that leads out of the project."""
        scenario, _, name = trial.partition("/")
        path = self.folder / scenario / f"{name}.json"
        if ".." in Path(trial).parts or not path.resolve().is_relative_to(self.root.resolve()):
            raise BadInput(Problem(f"the baseline of '{trial}' would lie outside the project", hint=f"baselines stay inside {self.folder}"))
        return path

    def read(self, trial: str) -> Baseline | None:
        """A trial's baseline, None where there is no file. Raises Unreadable, naming the file, when it is damaged."""
        path = self.path(trial)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(f"{self._told(path)} cannot be read: {error.strerror}") from error
        hint = f"restore it with 'git checkout -- {self._told(path)}', or make a new one: 'harness run', then 'harness baseline accept'"
        try:
            document = json.loads(data)
            schema = document.get("schema") if isinstance(document, dict) else None
            if schema != BASELINE_SCHEMA:
                raise Unreadable(f"{self._told(path)} has schema {schema!r}, this program reads {BASELINE_SCHEMA}", hint=hint)
            baseline = _BASELINE.validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Unreadable(f"{self._told(path)} is damaged at {where}: {first['msg']}", hint=hint) from error
        except ValueError as error:
            raise Unreadable(f"{self._told(path)} is damaged: {error}", hint=hint) from error
        if baseline.trial != trial:
            raise Unreadable(f"{self._told(path)} is the baseline of '{baseline.trial}', not of '{trial}'", hint=hint)
        return baseline

    def write(self, baseline: Baseline) -> Path:
        """Write one baseline, whole or not at all."""
        path = self.path(baseline.trial)
        write_atomically(path, pretty_json(_BASELINE.dump_python(baseline, mode="json")))
        return path

    def remove(self, trial: str) -> Path:
        """Remove a trial's baseline. Raises BadInput when there is none."""
        if trial not in self.trials():
            raise BadInput(Problem(f"there is no baseline of '{trial}'", hint="'harness baseline list' shows those that there are"))
        path = self.path(trial)
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        return path

    def trials(self) -> tuple[str, ...]:
        """The ids of all trials that have a baseline file."""
        return tuple(sorted(f"{path.parent.name}/{path.stem}" for path in self.folder.glob("*/*.json")))

    def _told(self, path: Path) -> Path:
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path


def shown(baseline: Baseline) -> Mapping[str, object]:
    """A baseline as JSON values, for people: without the packed and sampled parts."""
    document: dict[str, object] = _BASELINE.dump_python(baseline, mode="json")
    portable, measured = document["portable"], document["measured"]
    assert isinstance(portable, dict) and isinstance(measured, dict)
    for key in ("scores", "answers", "scenario_text"):
        portable.pop(key)
    for part in measured.values():
        for launch in part["distribution"]["launches"]:
            launch.pop("sample_ns")
    return document
