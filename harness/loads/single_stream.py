"""See SingleStream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.core.measurement import Slice
from harness.core.plugin import Options


class SingleStream(Options):
    """The next query is issued when the previous one has finished; each query is timed."""

    def take_slice(self, run: Callable[[object], object], prepared: Sequence[object], queries: int, clock: Callable[[], int]) -> Slice:
        """``queries`` consecutive queries, two clock reads each; nothing else happens between them but a list store."""
        batches = [prepared[index % len(prepared)] for index in range(queries)]
        latencies = [0] * queries
        begin = clock()
        for index, batch in enumerate(batches):
            start = clock()
            run(batch)
            latencies[index] = clock() - start
        return Slice(begin, clock() - begin, queries, tuple(latencies))


PLUGIN = SingleStream
