"""A project as one archive, so that a node without a checkout measures the very files that lie here."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.engine.read_environment import NOT_SOURCE, git

MOST_BYTES = 2 * 2**30
"""Held in memory here and on the node; larger weights are for a model hub."""
_WHEN = (2020, 1, 1, 0, 0, 0)
"""Of every member, so that the same project is the same archive."""


def pack_project(root: Path, needed: Iterable[Path] = ()) -> bytes:
    """Every file that git tracks or does not ignore, as it lies on disk, and ``needed``, ignored or not; without version control every
    file that is not hidden. Raises BadInput when they are too large."""
    names = sorted({*_listed(root), *(path.relative_to(root).as_posix() for path in needed if path.is_relative_to(root))})
    files = [(name, root / name) for name in names if (root / name).is_file()]
    total = sum(path.stat().st_size for _, path in files)
    if total > MOST_BYTES:
        largest = max(files, key=lambda item: item[1].stat().st_size)[0]
        hint = f"the largest is {largest}: let git ignore what no scenario names"
        raise BadInput(Problem(f"the project has {total / 2**30:.1f} GiB of files, too many to send to a node", root, hint=hint))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, path in files:
            member = zipfile.ZipInfo(name, _WHEN)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (path.stat().st_mode & 0o777) << 16
            archive.writestr(member, path.read_bytes())
    return made.getvalue()


def unpack_project(data: bytes, folder: Path) -> None:
    """The files of ``pack_project`` under ``folder``. The archive is the caller's own: whoever may send it may run code here anyway."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            path = (folder / member.filename).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise CannotMeasure(f"the project's archive names {member.filename!r}, which lies outside of it")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(member))
            path.chmod((member.external_attr >> 16) & 0o777 or 0o644)


def _listed(root: Path) -> Iterable[str]:
    told = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = _not_hidden(root) if told is None else [name for name in told.split("\0") if name]
    return [name for name in names if name.partition("/")[0] not in NOT_SOURCE]


def _not_hidden(root: Path) -> list[str]:
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return [name for name in names if not any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))]
