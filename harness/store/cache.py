"""The artifact cache: folders by content digest, under the user's cache folder.

An entry is a folder that was made once, with the digest of every file in ``manifest.json``. It is checked each time it is used (hashing
takes about a second a GB): a corrupt entry is thrown away and made again. That guards against accidents, not against people: models in it
are opened as pickles, so whoever may write the folder may run code as its user, and it is made for that user alone. A lock for each key
lets two processes share the cache; the least recently used entries go when it grows beyond its limit, but never one that a living process
uses.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.units import Unit, parse_quantity
from harness.store.files import hint_for

log = logging.getLogger(__name__)
FOLDER_VARIABLE = "HARNESS_CACHE_DIR"
SIZE_VARIABLE = "HARNESS_CACHE_SIZE"
DEFAULT_BYTES = 20 * 2**30
MANIFEST = "manifest.json"
LAYOUT = 1


def cache_folder() -> Path:
    """``$HARNESS_CACHE_DIR``, else ``harness`` under the user's cache folder."""
    import platformdirs

    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else platformdirs.user_cache_path("harness")


def cache_limit() -> int:
    """``$HARNESS_CACHE_SIZE`` (such as ``40 GiB``) in bytes, else 20 GiB."""
    text = os.environ.get(SIZE_VARIABLE)
    if not text:
        return DEFAULT_BYTES
    try:
        quantity = parse_quantity(text)
        if quantity.unit is not Unit.BYTES or quantity.value <= 0:
            raise ValueError(f"{text!r} is not a size")
    except ValueError as error:
        raise BadInput(Problem(f"{SIZE_VARIABLE}: {error}", hint="write it as '40 GiB'")) from error
    return int(quantity.value)


@dataclass(slots=True)
class Cache:
    """Open it with ``with``: what was used stays until the block is left, whoever else cleans up."""

    folder: Path
    limit_bytes: int
    used: set[str] = field(default_factory=set)

    def __enter__(self) -> Cache:
        with contextlib.suppress(OSError):
            if self.folder.stat().st_mode & stat.S_IWOTH:
                log.warning("everyone may write the artifact cache %s, and what lies in it is run: chmod o-w it", self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        for key in self.used:
            with contextlib.suppress(OSError):
                self._marker(key).unlink(missing_ok=True)
        self.used.clear()

    def get(self, key: str, make: Callable[[Path], None], *, waiting: Callable[[], None] = lambda: None) -> Path:
        """The entry's folder; ``make(folder)`` fills an empty one where there is none, or where the present one is corrupt.

        ``waiting`` is told when another process holds the entry. Raises CannotMeasure when the cache cannot be written.
        """
        entry = self.path(key)
        with self._locked(key, waiting):
            self._use(key)
            if _is_whole(entry):
                _renew(entry)
                return entry
            if entry.exists():
                log.warning("cache entry %s is damaged: it is made again", key[:12])
                shutil.rmtree(entry, ignore_errors=True)
            with self._scratch(key) as made:
                try:
                    make(made)
                    (made / MANIFEST).write_text(json.dumps({"layout": LAYOUT, "files": _digests(made)}, indent=1))
                    entry.parent.mkdir(parents=True, exist_ok=True)
                    made.replace(entry)
                except OSError as error:
                    raise _unwritable(self.folder, error) from error
        self.shrink()
        return entry

    def holds(self, key: str) -> bool:
        """Whether the entry is there and whole; it is then kept until this cache is closed."""
        with self._locked(key, lambda: None):
            if not _is_whole(self.path(key)):
                return False
            self._use(key)
            _renew(self.path(key))
            return True

    def shrink(self) -> None:
        """Remove what was not used for longest until the cache is within its limit. What is in use stays, however large.

        What a killed process left half made goes first.
        """
        entries = []
        for path in self._entries():
            with contextlib.suppress(OSError):  # another process removes it at this moment
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                entries.append((_last_use(path), size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                return
            lock = FileLock(self._lock_path(path.name))
            try:
                with lock.acquire(timeout=0):
                    if not self._is_used(path.name):
                        shutil.rmtree(path, ignore_errors=True)
                        total -= size
            except OSError:  # held by another process (Timeout), or not ours to lock
                continue

    @contextmanager
    def _locked(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / "locks").mkdir(exist_ok=True)
            lock = FileLock(self._lock_path(key))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                lock.acquire()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            yield
        finally:
            lock.release()

    def _use(self, key: str) -> None:
        marker = self._marker(key)
        try:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.used.add(key)

    def _is_used(self, key: str) -> bool:
        import psutil

        for marker in (self.folder / "uses").glob(f"{key}.*"):
            pid = int(marker.suffix[1:])
            if pid == os.getpid() or psutil.pid_exists(pid):
                return True
            marker.unlink(missing_ok=True)
        return False

    def _entries(self) -> list[Path]:
        """Entries and what is being made; both bear the name of their key, whose lock keeps them."""
        return [*(self.folder / "entries").glob("*/*"), *(self.folder / "scratch").glob("*")]

    @contextmanager
    def _scratch(self, key: str) -> Iterator[Path]:
        """An empty folder to make an entry in; the lock of the key is held."""
        path = self.folder / "scratch" / key
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def path(self, key: str) -> Path:
        """Where the entry of a key lies."""
        return self.folder / "entries" / key[:2] / key

    def _lock_path(self, key: str) -> Path:
        return self.folder / "locks" / f"{key}.lock"

    def _marker(self, key: str) -> Path:
        return self.folder / "uses" / f"{key}.{os.getpid()}"


def _renew(entry: Path) -> None:
    """Make an entry the latest used one."""
    with contextlib.suppress(OSError):
        os.utime(entry / MANIFEST)


def _last_use(entry: Path) -> float:
    """When an entry was used last, in seconds; 0 where it has no manifest and so is of no use."""
    try:
        return (entry / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0


def _is_whole(entry: Path) -> bool:
    try:
        manifest = json.loads((entry / MANIFEST).read_text())
        expected = manifest["files"]
        return manifest["layout"] == LAYOUT and all(_digest(entry / name) == digest for name, digest in expected.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unwritable(folder: Path, error: OSError) -> CannotMeasure:
    hint = hint_for(error) or f"set {FOLDER_VARIABLE} to a folder that can be written"
    return CannotMeasure(f"the artifact cache {folder} cannot be written: {error.strerror or error}", hint=hint)
