"""What every format shares: the files that a deployment ships, their size and digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over files in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files together."""
    return sum(path.stat().st_size for path in paths)
