"""The raw data of a trial as plain files that need no program to be read: samples and the model's files as CSV, launches as the journal.

run/launches.jsonl            every launch of the run with every latency in ns, as it was written while measuring
run/<path>                    files that launches name, where they name some
samples/<trial>.csv           a line for each evaluation sample: label and answer, and its score by metric
artifacts/<trial>.csv         the model's files in order: name, bytes, SHA-256
source/<path>                 the scenario, what it extends, hardware.yaml, as they are in the project
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.estimate import Absent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.plugin import Predictions

RUN, SOURCE, SAMPLES, ARTIFACTS, MODELS = "run", "source", "samples", "artifacts", "models"
NOTES_OF_THE_CACHE = ("artifact.json", "manifest.json")
MOST_FILES_TRIED = 6
_ANSWERS = ("target", "answer")
_FILE = ("file", "bytes", "sha256")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that a deployment ships."""

    name: str
    size_bytes: int
    sha256: str


def samples_path(trial: str) -> str:
    return f"{SAMPLES}/{trial}.csv"


def artifacts_path(trial: str) -> str:
    return f"{ARTIFACTS}/{trial}.csv"


def samples_csv(predictions: Predictions, scores: Mapping[str, NDArray[np.float64] | Absent]) -> bytes | None:
    """A line a sample: label and answer where there are labels, then each metric's score in full; accuracy is told by label and answer.

    None where no sample has any score.
    """
    import numpy as np

    columns: dict[str, Sequence[object]] = {}
    kept = {name: values for name, values in scores.items() if not isinstance(values, Absent)}
    right = kept.get("accuracy")
    if right is not None and predictions.targets is not None:
        answers = np.asarray(predictions.outputs[0]).reshape(len(right), -1).argmax(axis=1)
        labels = np.asarray(predictions.targets).reshape(-1)
        if len(labels) == len(right) and np.array_equal(labels == answers, right == 1):
            columns = {"target": [f"{label:.17g}" for label in labels], "answer": [str(answer) for answer in answers]}
            del kept["accuracy"]
    columns |= {name: [repr(float(value)) for value in values] for name, values in kept.items()}
    if not columns:
        return None
    return _csv(("sample", *columns), ((number, *row) for number, row in enumerate(zip(*columns.values(), strict=True))))


def read_samples(path: Path) -> dict[str, NDArray[np.float64]]:
    """Each metric's score of every sample. Raises CannotMeasure, naming the line, for what is no such file."""
    import numpy as np

    rows = _rows(path)
    names = rows[0] if rows else []
    if not names or names[0] != "sample" or len(set(names)) != len(names):
        raise CannotMeasure(f"{path.name} line 1: not the head of a table of samples")
    columns: dict[str, list[float]] = {name: [] for name in names[1:]}
    for number, row in enumerate(rows[1:]):
        try:
            if len(row) != len(names) or int(row[0]) != number:
                raise ValueError("samples are numbered from 0 without a gap")
            for name, value in zip(names[1:], row[1:], strict=True):
                columns[name].append(_finite(value))
        except ValueError as error:
            raise CannotMeasure(f"{path.name} line {number + 2}: {error}") from error
    scores = {name: np.asarray(values) for name, values in columns.items() if name not in _ANSWERS}
    if set(_ANSWERS) <= set(columns):
        scores["accuracy"] = (np.asarray(columns["target"]) == np.asarray(columns["answer"])).astype(np.float64)
    return {name: scores[name] for name in sorted(scores)}


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no finite number")
    return value


def model_files(artifact: ModelArtifact) -> tuple[ModelFile, ...]:
    """The files of an artifact that its size and its digest are of, in the order that the digest takes them.

    Raises CannotMeasure where no choice of its files gives them: the artifact is damaged.
    """
    found = []
    for path in sorted(artifact.folder.rglob("*")):
        name = path.relative_to(artifact.folder).as_posix()
        if path.is_file() and name not in NOTES_OF_THE_CACHE:
            with path.open("rb") as file:
                found.append(ModelFile(name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))
    main = [file for file in found if file.name == artifact.main]
    likely: list[Sequence[ModelFile]] = [found, [*main, *(file for file in found if file not in main)], main]
    some = found[:MOST_FILES_TRIED]
    others = (order for count in range(1, len(some) + 1) for order in itertools.permutations(some, count))
    for files in itertools.chain(likely, others):
        if sum(file.size_bytes for file in files) == artifact.size_bytes and digest_of(files) == artifact.sha256:
            return tuple(files)
    raise CannotMeasure(
        f"the files of {artifact.folder} are not those that its size and digest are of", hint="measure anew: leave --run out"
    )


def digest_of(files: Sequence[ModelFile]) -> str:
    """An artifact's digest: SHA-256 over the files' own SHA-256 digests (their 32 bytes each), in order."""
    return hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()


def artifacts_csv(files: Sequence[ModelFile]) -> bytes:
    return _csv(_FILE, ((file.name, file.size_bytes, file.sha256) for file in files))


def read_artifact(path: Path) -> ModelArtifact:
    """A model as its list of files tells it: size and digest. Raises CannotMeasure, naming the line, for what is no such list."""
    rows = _rows(path)
    files = []
    for number, row in enumerate(rows, 1):
        try:
            if number == 1:
                if tuple(row) != _FILE:
                    raise ValueError("not the head of a list of model files")
                continue
            name, size, sha256 = row
            if int(size) < 0 or len(bytes.fromhex(sha256)) != 32:
                raise ValueError("not a size and a SHA-256 digest")
            files.append(ModelFile(name, int(size), sha256))
        except ValueError as error:
            raise CannotMeasure(f"{path.name} line {number}: {error}") from error
    size_bytes = sum(file.size_bytes for file in files)
    return ModelArtifact(path.parent, "", "", (), (), size_bytes, digest_of(files), ())


def read_model_files(path: Path) -> tuple[ModelFile, ...]:
    """The files that such a list names."""
    return tuple(ModelFile(name, int(size), sha256) for name, size, sha256 in _rows(path)[1:])


def _csv(head: Sequence[str], rows: object) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


def _rows(path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(path.read_bytes().decode())))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotMeasure(f"{path.name} cannot be read: {error}") from error
