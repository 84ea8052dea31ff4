"""Evidence as a folder whose every file is listed by digest, and as one file of it.

SHA256SUMS           'sha256sum --check' reads it; it lists all but itself, the statement and the signature
statement.json       an in-toto statement over the same files and the list
statement.json.sig   an SSH signature of the statement, where it was signed

An archive's bytes follow from its files alone: names in order, no times, no owners.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.store.files import hint_for, write_atomically

SUMS, STATEMENT = "SHA256SUMS", "statement.json"
SIGNATURE = f"{STATEMENT}.sig"
APART = (SUMS, STATEMENT, SIGNATURE)
ARCHIVES = (".zip", ".tar.gz", ".tgz")
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can tell."""
MOST_BYTES = 16 * 2**30
MOST_FILES = 100_000
Read = Callable[[int], bytes]
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """The paths of all files of a bundle, sorted. Raises CannotMeasure for links, devices and the like: a bundle holds plain files."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise CannotMeasure(f"{path} is no plain file: a bundle holds nothing else")
        if stat.S_ISREG(mode):
            found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def write_sums(folder: Path) -> dict[str, str]:
    """List every file of the folder by digest; the digests by path, the list's own among them."""
    digests = {name: digest_of(folder / name) for name in files_of(folder) if name not in APART}
    write_atomically(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode())
    return {**digests, SUMS: digest_of(folder / SUMS)}


def read_sums(folder: Path) -> dict[str, str]:
    """What the list tells. Raises CannotMeasure where it is missing or no such list."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotMeasure(f"{SUMS} cannot be read", hint="is this a bundle that 'harness audit' wrote?") from error
    told: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in told:
            raise CannotMeasure(f"{SUMS} line {number}: not '<sha256>  <path>', or a path that is listed twice")
        told[match[2]] = match[1]
    return told


def differences(folder: Path, told: Mapping[str, str]) -> list[str]:
    """What is not as the list tells: changed, missing, and not listed, a sentence each."""
    there = [name for name in files_of(folder) if name not in APART]
    changed = [
        f"{name}: changed, its SHA-256 is not the one in {SUMS}"
        for name in there
        if name in told and digest_of(folder / name) != told[name]
    ]
    missing = [f"{name}: listed in {SUMS} and missing" for name in told if name not in there]
    return [*changed, *missing, *(f"{name}: not listed in {SUMS}" for name in there if name not in told)]


def is_archive(path: Path) -> bool:
    return path.name.endswith(ARCHIVES)


def stem_of(path: Path) -> Path:
    """A bundle's path without the ending of an archive."""
    ending = next((ending for ending in ARCHIVES if path.name.endswith(ending)), "")
    return path.with_name(path.name.removesuffix(ending))


def pack(folder: Path, archive: Path) -> None:
    """Write one file of a folder, by the archive's ending. The same files give the same bytes, with the same zlib."""
    top = stem_of(archive).name
    try:
        with tempfile.NamedTemporaryFile(dir=archive.parent, prefix=f".{archive.name}.", delete=False) as scratch:
            try:
                (_zip if archive.name.endswith(".zip") else _tar)(folder, top, scratch)  # type: ignore[arg-type]
                scratch.flush()
                Path(scratch.name).chmod(0o644)
                Path(scratch.name).replace(archive)
            except BaseException:
                Path(scratch.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CannotMeasure(f"{archive} cannot be written: {error.strerror or error}", hint=hint_for(error)) from error


def _zip(folder: Path, top: str, into: io.BufferedWriter) -> None:
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in files_of(folder):
            info = zipfile.ZipInfo(f"{top}/{name}", LONG_AGO)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, (folder / name).read_bytes())


def _tar(folder: Path, top: str, into: io.BufferedWriter) -> None:
    with gzip.GzipFile("", "wb", 9, into, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in files_of(folder):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mode, info.mtime = (folder / name).stat().st_size, 0o644, 0
            with (folder / name).open("rb") as file:
                archive.addfile(info, file)


@contextmanager
def opened(bundle: Path) -> Iterator[Path]:
    """A bundle's folder: the folder that it is, or a temporary one with what the archive holds.

    Raises BadInput where there is no such bundle, and for an archive that would write elsewhere than into its own folder.
    """
    if bundle.is_dir():
        yield bundle
        return
    if not bundle.is_file():
        raise BadInput(Problem("does not exist", path=bundle, hint="name the folder or the .zip or .tar.gz that 'harness audit' wrote"))
    with tempfile.TemporaryDirectory(prefix="harness-audit-") as scratch:
        try:
            count = _unpack(bundle, Path(scratch))
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise BadInput(Problem(f"is no bundle that can be read: {error}", path=bundle)) from error
        tops = sorted(path.name for path in Path(scratch).iterdir())
        if not count or len(tops) != 1:
            raise BadInput(Problem(f"holds {count} files under {len(tops)} folders: a bundle is one folder", path=bundle))
        yield Path(scratch) / tops[0]


def _unpack(bundle: Path, into: Path) -> int:
    """Write the members that are plain files; how many there were."""
    seen: dict[str, int] = {}
    for name, size, read in _members(bundle):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0] or len(path.parts) < 2:
            raise BadInput(Problem(f"holds '{name}', which does not lie in the bundle's folder", path=bundle))
        if name in seen:
            raise BadInput(Problem(f"holds '{name}' twice", path=bundle))
        seen[name] = size
        if sum(seen.values()) > MOST_BYTES or len(seen) > MOST_FILES:
            raise BadInput(Problem(f"holds more than {MOST_BYTES // 2**30} GiB or {MOST_FILES:,} files", path=bundle))
        target = into.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            left = size
            while chunk := read(min(2**20, left)):  # no more than was told
                file.write(chunk)
                left -= len(chunk)
        if left:
            raise BadInput(Problem(f"'{name}' ends early", path=bundle))
    return len(seen)


def _members(bundle: Path) -> Iterator[tuple[str, int, Read]]:
    """Name, size and reader of every member. Raises BadInput for what is neither a plain file nor a folder."""
    if zipfile.is_zipfile(bundle):
        with zipfile.ZipFile(bundle) as archive:
            for info in archive.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise BadInput(Problem(f"holds '{info.filename}', which is no plain file", path=bundle))
                if not info.is_dir():
                    with archive.open(info) as member:
                        yield info.filename, info.file_size, member.read
        return
    with tarfile.open(bundle, "r:gz") as packed:
        for item in packed:
            if not item.isreg() and not item.isdir():
                raise BadInput(Problem(f"holds '{item.name}', which is no plain file", path=bundle))
            if item.isreg() and (content := packed.extractfile(item)) is not None:
                yield item.name, item.size, content.read


def is_taken(path: Path) -> bool:
    """Whether something is there already that would be written over."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))
