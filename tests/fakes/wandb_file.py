"""What an offline run of W&B left in its ``.wandb`` file: records of W&B's own messages in blocks of LevelDB's log format."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

HEADER, BLOCK = 7, 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """One run as ``wandb sync`` would send it: the last value of every key of its config and summary, and its artifacts' files."""

    id: str = ""
    name: str = ""
    group: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    exit_code: int | None = None
    config: dict[str, object] = field(default_factory=dict)
    summary: dict[str, object] = field(default_factory=dict)
    artifacts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)


def records_in(path: Path):
    """The messages of the file, in order. Raises AssertionError where it is no such file."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        assert kind in (FULL, FIRST, MIDDLE, LAST)
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def read_offline_run(folder: Path) -> OfflineRun:
    """The run in a folder that W&B wrote while it was offline."""
    (path,) = folder.glob("*.wandb")
    told = OfflineRun()
    for record in records_in(path):
        kind = record.WhichOneof("record_type")
        told.kinds.add(kind)
        if kind == "run":
            told.id, told.name, told.group = record.run.run_id, record.run.display_name, record.run.run_group
            told.project, told.tags = record.run.project, tuple(record.run.tags)
            _take(told.config, record.run.config)
        elif kind == "config":
            _take(told.config, record.config)
        elif kind == "summary":
            _take(told.summary, record.summary)
        elif kind == "artifact":
            told.artifacts[record.artifact.name] = tuple(entry.path for entry in record.artifact.manifest.contents)
        elif kind == "exit":
            told.exit_code = record.exit.exit_code
    return told


def _take(into: dict[str, object], part) -> None:
    for item in part.update:
        into[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
