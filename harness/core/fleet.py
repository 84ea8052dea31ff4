"""Machines elsewhere that trials are measured on: what a fleet offers, without knowing who runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from harness.core.errors import CannotMeasure


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a fleet. ``id`` is never given twice, ``name`` is for people; ``cpus`` and ``gpus`` are what it lends."""

    id: str
    name: str
    labels: Mapping[str, str]
    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.name} ({labels_told(self.labels) or 'no labels'}; {self.cpus} CPU{'s' * (self.cpus != 1)})"


def labels_told(labels: Mapping[str, str]) -> str:
    """``hw=edge, zone=b``."""
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


class NodeLost(CannotMeasure):
    """A node ended or could no longer be reached while it was working."""


class Fleet(Protocol):
    """Machines that take orders.

    ``measure`` starts ``python -m harness.commands._on_node`` on the node, with the whole machine held for it alone, writes ``order`` and
    then ``project`` to its standard input, which stays open for as long as the work is wanted, and gives every line of its standard
    output as it comes. It raises NodeLost when the node is lost or the process ends by itself before its work is done. ``stop`` ends all
    work that goes on, from another thread too: each ``measure`` then ends or raises NodeLost.
    """

    def nodes(self) -> tuple[Node, ...]: ...
    def measure(self, order: bytes, project: bytes, node: Node) -> Iterator[bytes]: ...
    def stop(self) -> None: ...
