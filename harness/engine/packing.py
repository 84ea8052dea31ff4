"""Arrays of scores and answers as short text, for files that people review."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

from harness.core.errors import CannotMeasure
from harness.core.result import Packed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CHARACTERS = 60_000
"""A longer text would not be small enough to review: see ``pack``."""


def pack(values: NDArray[np.generic]) -> Packed | None:
    """A one-dimensional array as text: zeros and ones as bits, integers in the smallest type, floats as float32.

    None where the text would be longer than 60,000 characters (about 400,000 right-or-wrong answers, or 12,000 floats).
    """
    import numpy as np

    array = np.asarray(values)
    if np.isin(array, (0, 1)).all():
        name, raw = "bits", np.packbits(array.astype(bool)).tobytes()
    elif np.issubdtype(array.dtype, np.integer):
        smallest = np.result_type(np.min_scalar_type(array.min()), np.min_scalar_type(array.max()))
        name, raw = smallest.name, array.astype(smallest).astype(smallest.newbyteorder("<")).tobytes()
    else:
        name, raw = "float32", array.astype("<f4").tobytes()
    text = base64.b64encode(zlib.compress(raw, 9)).decode()
    return Packed(name, len(array), text) if len(text) <= MOST_CHARACTERS else None


def unpack(packed: Packed) -> NDArray[np.generic]:
    """What ``pack`` packed; bits come back as float64 zeros and ones. Raises CannotMeasure when the text is damaged."""
    import numpy as np

    if len(packed.data) > MOST_CHARACTERS:  # nothing that 'pack' made; a short text can stand for much
        raise CannotMeasure(f"packed values are damaged: {len(packed.data):,} characters")
    try:
        raw = zlib.decompress(base64.b64decode(packed.data, validate=True))
        if packed.dtype == "bits":
            whole = 0 <= 8 * len(raw) - packed.count < 8  # numpy would make up what is missing
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=packed.count if whole else None)
            found: NDArray[np.generic] = bits.astype(np.float64)
        else:
            found = np.frombuffer(raw, np.dtype(packed.dtype).newbyteorder("<")).astype(packed.dtype)
    except (ValueError, TypeError, zlib.error) as error:
        raise CannotMeasure(f"packed values are damaged: {error}") from error
    if len(found) != packed.count:
        raise CannotMeasure(f"packed values are damaged: {len(found)} of {packed.count} are there")
    return found
