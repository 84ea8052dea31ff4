"""Whether the same question gets the same answer: the first samples of an evaluation set are asked again in the same session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.core.measurement import Repeat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Outputs = Sequence[NDArray[np.generic]]

MOST_SAMPLES = 256


def ask_twice(
    ask: Callable[[int], Outputs], first: Sequence[Outputs], batch_size: int, count: int, limit_ns: int, clock: Callable[[], int]
) -> Repeat:
    """Compare the batches of the ``first`` pass with what ``ask(start)`` gives now, to the bit.

    Up to 256 samples of the ``count`` that there are, in whole batches, and no batch is begun after ``limit_ns``; one is always asked.
    """
    samples, differing, other_answers, greatest = 0, 0, 0, 0.0
    begin = clock()
    for index, before in enumerate(first):
        start = index * batch_size
        rows = min(batch_size, min(count, MOST_SAMPLES) - start)
        if rows <= 0 or (index and clock() - begin >= limit_ns):
            break
        pairs = [(old[:rows], new[:rows]) for old, new in zip(before, ask(start), strict=True)]
        samples += rows
        differing += sum(any(old[row].tobytes() != new[row].tobytes() for old, new in pairs) for row in range(rows))
        other_answers += sum(int(old.argmax()) != int(new.argmax()) for old, new in zip(*pairs[0], strict=True) if old.size)
        greatest = max(greatest, *(_distance(old, new) for old, new in pairs))
    return Repeat(samples, differing, other_answers, greatest)


def _distance(old: NDArray[np.generic], new: NDArray[np.generic]) -> float:
    """The greatest difference of two arrays' values; 1 where values that are no numbers differ."""
    import numpy as np

    if old.size == 0 or np.array_equal(old, new):
        return 0.0
    if not (np.issubdtype(old.dtype, np.number) or old.dtype == np.bool_):
        return 1.0
    wide = np.complex128 if np.issubdtype(old.dtype, np.complexfloating) else np.float64
    return float(np.abs(old.astype(wide) - new.astype(wide)).max())
