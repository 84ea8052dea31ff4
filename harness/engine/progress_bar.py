"""Progress on stderr: bars where a person watches, a line for each phase in CI and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.core.plain_text import plain_text
from harness.core.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """What suits stderr: it is left clean when the block is left."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Watched(bars)


class Watched:
    """A spinner with the present step and the time since the phase began."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._title = ""
        self._task: TaskID | None = None

    def phase(self, title: str, steps: int) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._title = title
        self._task = self._bars.add_task(title, total=None)

    def step(self, text: str) -> None:
        if self._task is None:
            self.phase("Working", 0)
        assert self._task is not None
        self._bars.update(self._task, description=plain_text(f"{self._title}: {text}"))


class Lines:
    """One line for each phase, and for each trial as it begins: a CI log shows where the time goes."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._last = ""

    def phase(self, title: str, steps: int) -> None:
        self._tell(f"{title} {steps} {'trial' if steps == 1 else 'trials'}")

    def step(self, text: str) -> None:
        subject = text.partition(":")[0]
        if subject != self._last:
            self._last = subject
            self._tell(f"  {text}")

    def _tell(self, text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._begin:6.1f} s] {plain_text(text)}\n")
        sys.stderr.flush()
