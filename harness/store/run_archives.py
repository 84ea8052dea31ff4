"""A saved run as one file, for machines that share no disk: a zip with the digest of every file, checked whole before it becomes a run.

    RUN/SHA256SUMS       as 'sha256sum -c' reads it
    RUN/result.json, RUN/launches.jsonl, logs and records

Reports are left out: they are rendered again where the run arrives, so nobody opens a page that another machine wrote.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.result import RunResult
from harness.store.files import hint_for
from harness.store.runs import LAUNCHES, PARTS, RESULT, RunFolder, Runs

SUMS = "SHA256SUMS"
RENDERED = ("report.html", "report.md", "report.txt", "junit.xml", "summary.json")
MOST_FILES = 10_000
MOST_BYTES = 4 * 2**30
"""Unpacked: what a hostile file may cost. A run of 1,000 launches takes about 100 MB."""
_CHUNK = 2**20
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=@-]*(/[A-Za-z0-9_][A-Za-z0-9._+=@-]*){0,5}")
_SUM = re.compile(r"([0-9a-f]{64})  (.+)")
_WHEN = (2020, 1, 1, 0, 0, 0)
"""Of every member, so that the same run is the same file."""


def is_archive(name: str) -> bool:
    """Whether a name on the command line is such a file, and not the id of a run."""
    path = Path(name)
    return path.is_file() and path.name not in (RESULT, LAUNCHES)


def export_run(folder: RunFolder, path: Path) -> Path:
    """Write a finished run as one file; the same run gives the same bytes. Raises CannotMeasure when it has no result."""
    identity = folder.result().id
    files = {name: file for name, file in _files_of(folder.path) if name not in RENDERED}
    sums = "".join(f"{_digest(file)}  {name}\n" for name, file in files.items())
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        scratch = Path(made)
        with os.fdopen(descriptor, "wb") as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_member(f"{identity}/{SUMS}"), sums)
            for name, file in files.items():
                with file.open("rb") as source, archive.open(_member(f"{identity}/{name}"), "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, _CHUNK)
        scratch.chmod(0o644)
        scratch.replace(path)
    except OSError as error:
        raise CannotMeasure(f"{path} cannot be written: {error.strerror or error}", hint=hint_for(error)) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    return path


def import_run(path: Path, runs: Runs) -> tuple[RunFolder, bool]:
    """The run of such a file under ``runs``, and whether it is new there; ``latest`` stays where it points.

    Raises BadInput when the file is damaged or unsafe, or when the id is that of another run. Nothing of a refused file stays.
    """
    with _unpacked(path, runs.folder) as (arrived, sums):
        here = RunFolder(runs.folder / arrived.id)
        if here.path.exists():
            other = [name for name, digest in sums.items() if not _is_plain(here.path / name) or _digest(here.path / name) != digest]
            if other:
                hint = "move that folder away, or import with another --reports"
                raise BadInput(
                    Problem(f"run {arrived.id} is there already, and {', '.join(other[:3])} is not the same", here.path, hint=hint)
                )
            return here, False
        arrived.path.replace(here.path)
        return here, True


def read_archive(path: Path) -> RunResult:
    """The result in such a file, after every digest in it was checked; nothing stays on disk. Raises BadInput as ``import_run`` does."""
    with _unpacked(path, None) as (arrived, _):
        return arrived.result()


@contextmanager
def _unpacked(path: Path, beside: Path | None) -> Iterator[tuple[RunFolder, Mapping[str, str]]]:
    """A folder with the files of an archive, all checked, named like the run; and their digests. It is gone afterwards."""
    try:
        if beside is not None:
            beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=beside, ignore_cleanup_errors=True) as scratch:
            try:
                with zipfile.ZipFile(path) as archive:
                    identity, members = _checked_members(archive, path)
                    folder = RunFolder(Path(scratch) / identity)
                    sums = _unpack(archive, members, folder.path, path)
            except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
                raise _damaged(path, str(error)) from error
            try:
                result = folder.result()
            except CannotMeasure as error:
                raise _damaged(path, error.message) from error
            if result.id != identity:
                raise _damaged(path, f"its folder is named {identity}, its result {result.id}")
            yield folder, sums
    except OSError as error:
        raise CannotMeasure(f"{path} cannot be read or unpacked: {error.strerror or error}", hint=hint_for(error)) from error


def _checked_members(archive: zipfile.ZipFile, path: Path) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """The run's id and its files by name, only of names that stay inside its folder, plain files, and of a size that was allowed."""
    infos = archive.infolist()
    if not infos or len(infos) > MOST_FILES:
        raise _damaged(path, f"{len(infos):,} files, of which at most {MOST_FILES:,} are allowed")
    if sum(info.file_size for info in infos) > MOST_BYTES:
        raise _damaged(path, f"more than {MOST_BYTES / 2**30:.0f} GiB unpacked")
    identity = infos[0].filename.partition("/")[0]
    if not _IDENTITY.fullmatch(identity):
        raise _damaged(path, f"'{identity[:64]}' is not the id of a run")
    members: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for info in infos:
        folder, _, name = info.filename.partition("/")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if folder != identity or not _MEMBER.fullmatch(name) or kind not in (0, stat.S_IFREG) or info.flag_bits & 1:
            raise _damaged(path, f"'{info.filename[:100]}' is not a plain file inside the run")
        if name.casefold() in seen or name in RENDERED:
            raise _damaged(path, f"'{info.filename[:100]}' is there twice, or is a report")
        seen.add(name.casefold())
        members[name] = info
    for name in (SUMS, RESULT, LAUNCHES):
        if name not in members:
            raise _damaged(path, f"it has no {name}")
    return identity, members


def _unpack(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], folder: Path, path: Path) -> dict[str, str]:
    """Write every file and compare its digest with the list; both must name the same files."""
    listed: dict[str, str] = {}
    if members[SUMS].file_size > MOST_FILES * 600:
        raise _damaged(path, f"{SUMS} is too long")
    for line in archive.read(members[SUMS]).decode(errors="replace").splitlines():
        match = _SUM.fullmatch(line)
        if match is None:
            raise _damaged(path, f"{SUMS} has a line that is no digest")
        listed[match[2]] = match[1]
    if listed.keys() != members.keys() - {SUMS}:
        unlike = sorted(listed.keys() ^ (members.keys() - {SUMS}))
        raise _damaged(path, f"{SUMS} and the files do not agree on {', '.join(unlike[:3])}")
    for name, info in members.items():
        if name == SUMS:
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with archive.open(info) as source, target.open("xb") as out:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != listed[name]:
            raise _damaged(path, f"{name} is not what {SUMS} says")
    return listed


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Plain files by name, in order; links, hidden files and what a fleet's nodes sent are left out. Raises CannotMeasure for a name that
    no import takes."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not _is_plain(file) or any(part.startswith(".") for part in Path(name).parts) or name.startswith(f"{PARTS}/"):
            continue
        if not _MEMBER.fullmatch(name):
            raise CannotMeasure(f"'{name}' in {folder} is no file of a run", hint="move it out of the run's folder")
        yield name, file


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _WHEN)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _damaged(path: Path, why: str) -> BadInput:
    return BadInput(Problem(f"is not a run that can be taken over: {why}", path, hint="'harness export run RUN' writes one; copy it again"))
