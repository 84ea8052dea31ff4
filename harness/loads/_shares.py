"""How what a load has in all is shared out among its generator processes."""

from __future__ import annotations


def share(total: int, process: int, processes: int) -> int:
    """One process's part of a total; the parts add up to it."""
    return total // processes + (process < total % processes)
