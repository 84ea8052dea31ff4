"""Files that are whole or not there at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

from harness.core.errors import CannotMeasure


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, then rename over it: a reader never sees half a file.

    Raises CannotMeasure when the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotMeasure(f"{path} cannot be written: {error.strerror or error}", hint=hint_for(error)) from error


def hint_for(error: OSError) -> str | None:
    """The next step for an error of the file system, where there is one worth telling."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some space, or point HARNESS_CACHE_DIR and --reports elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "this user may not write there: change the folder's owner, or point HARNESS_CACHE_DIR and --reports elsewhere"
    return None


def pretty_json(value: object) -> bytes:
    """JSON for people and version control: two spaces, a newline at the end; lists of plain numbers stay on one line."""
    return (_laid_out(value, "") + "\n").encode()


def strict_json_value(value: object) -> object:
    """The value with null for every number that is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: strict_json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _laid_out(value: object, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = (f"{inner}{json.dumps(str(key), ensure_ascii=False)}: {_laid_out(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
        return "[\n" + ",\n".join(inner + _laid_out(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, default=str)
