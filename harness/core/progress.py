"""How long work tells where it stands, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told by the pipeline, shown by the command line: a phase with a known number of steps, then each step as it begins."""

    def phase(self, title: str, steps: int) -> None: ...
    def step(self, text: str) -> None: ...


class Silent:
    """Nobody listens: for programs and tests."""

    def phase(self, title: str, steps: int) -> None:
        return

    def step(self, text: str) -> None:
        return
