"""See Offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.core.measurement import Slice
from harness.core.plugin import Options


class Offline(Options):
    """Batches back to back, timed as a whole: for throughput. Latencies of single queries are absent.

    Where a session computes several at once (OpenVINO with several streams), it has as many in flight; elsewhere one follows the other.
    """

    def take_slice(self, run: Callable[[object], object], prepared: Sequence[object], queries: int, clock: Callable[[], int]) -> Slice:
        """``queries`` batches between one pair of clock reads."""
        batches = [prepared[index % len(prepared)] for index in range(queries)]
        begin = clock()
        for batch in batches:
            run(batch)
        return Slice(begin, clock() - begin, queries, ())

    def take_slice_of_all(
        self, run_many: Callable[[Sequence[object]], None], prepared: Sequence[object], queries: int, clock: Callable[[], int]
    ) -> Slice:
        """``queries`` batches handed over at once, from the first to the end of the last."""
        batches = [prepared[index % len(prepared)] for index in range(queries)]
        begin = clock()
        run_many(batches)
        return Slice(begin, clock() - begin, queries, ())


PLUGIN = Offline
