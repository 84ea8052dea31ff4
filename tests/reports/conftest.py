import os
from pathlib import Path

import pytest

REGENERATE = "HARNESS_REGENERATE_GOLDEN"


@pytest.fixture
def golden():
    """Compares bytes with a file that is checked in; with HARNESS_REGENERATE_GOLDEN=1 writes it, for a reviewer to read the difference."""

    def compare(path: Path, made: bytes) -> None:
        if os.environ.get(REGENERATE) == "1":
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(made)
        assert path.is_file(), f"{path} is missing: run with {REGENERATE}=1 and review it"
        assert made.decode() == path.read_text(encoding="utf-8"), f"differs from {path.name}: run with {REGENERATE}=1 if that is meant"

    return compare
