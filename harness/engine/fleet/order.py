"""What is asked of a node, and what it answers, as lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Base64Bytes, Discriminator, TypeAdapter


@dataclass(frozen=True, slots=True)
class Order:
    """Trials of one scenario for one target. ``project_bytes`` is the size of the archive that follows; ``scenario`` a path in it.

    ``labels`` are the node's; ``earlier`` is the journal of the same order on the same node, where that was interrupted.
    """

    program: str
    project_bytes: int
    scenario: str
    trials: tuple[str, ...]
    overrides: tuple[str, ...]
    labels: Mapping[str, str]
    remote_code: bool
    earlier: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the work stands."""

    text: str
    kind: Literal["step"] = "step"


@dataclass(frozen=True, slots=True)
class Journal:
    """Lines of the node's journal, as soon as they are written."""

    lines: str
    kind: Literal["journal"] = "journal"


@dataclass(frozen=True, slots=True)
class Refused:
    """The node did not measure, and says why."""

    message: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Done:
    """The whole run of the node, as ``store/run_archives`` writes it."""

    archive: Base64Bytes
    kind: Literal["done"] = "done"


Event = Step | Journal | Refused | Done
_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Discriminator("kind")])


def order_line(order: Order) -> bytes:
    return _ORDER.dump_json(order) + b"\n"


def read_order(line: bytes) -> Order:
    return _ORDER.validate_json(line)


def event_line(event: Event) -> bytes:
    return _EVENT.dump_json(event) + b"\n"


def read_event(line: bytes) -> Event:
    return _EVENT.validate_json(line)
