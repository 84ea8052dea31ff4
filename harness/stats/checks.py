"""What every function of this folder demands of its input."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def finite(values: Iterable[float], *, least: int = 1) -> NDArray[np.float64]:
    """The values as a float array. Raises ValueError when there are fewer than ``least`` or one is NaN or infinite."""
    array = np.asarray(list(values) if not isinstance(values, np.ndarray) else values, dtype=np.float64)
    if array.ndim != 1 or len(array) < least:
        raise ValueError(f"{least} values are needed, there are {array.size}")
    if not np.isfinite(array).all():
        raise ValueError("NaN or infinity among the values")
    return array
