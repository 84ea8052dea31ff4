"""Why a recipe that was to make the model smaller did not: from what its file stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.core.units import Unit, format_value
from harness.engine.reasons.passes import PRUNING, ZEROING, half_precision, is_one_of, listed, quantizes

if TYPE_CHECKING:
    from harness.core.inspection import Contents, StoredWeights
    from harness.core.scenario import PluginRef

SMALLER = 0.9
"""A recipe whose file has more than this share of its reference's bytes is not clearly smaller."""
TELLING_SHARE = 0.1
"""Less than this share of a file's bytes explains nothing."""
MOST_REASONS = 3
WIDE = ("float32", "float64")


def is_to_shrink(passes: Sequence[PluginRef]) -> bool:
    """Whether one of the passes stores weights in fewer bits, or fewer of them."""
    return any(quantizes(ref) or is_one_of(ref, PRUNING) or _halves(ref) for ref in passes)


def reasons(contents: Contents, size_bytes: int, passes: Sequence[PluginRef]) -> list[str]:
    """What the file says, what has most bytes first; at most three sentences. ``size_bytes`` is the whole file's."""
    told = sorted(_told(contents, size_bytes, passes), key=lambda one: -one[0])
    return [sentence for share, sentence in told if share >= TELLING_SHARE][:MOST_REASONS]


def _told(contents: Contents, size_bytes: int, passes: Sequence[PluginRef]) -> Iterator[tuple[float, str]]:
    """(share of the file's bytes, sentence) of each kind of reason."""
    zeroing = [ref.name for ref in passes if is_one_of(ref, ZEROING)]
    if zeroing:
        told = f"{100 * contents.zeros:.0f} % of its weights are zero and stored like any other value: '{zeroing[0]}' takes none out"
        yield max(TELLING_SHARE, contents.zeros * contents.stored_bytes / size_bytes), told
    narrowing = [ref.name for ref in passes if quantizes(ref) or _halves(ref)]
    if contents.rounded_late:
        late = [one for one in contents.weights if one.dtype in WIDE and set(one.names) & set(contents.rounded_late)]
        told = f"weights are stored in float, and QuantizeLinear rounds them when the model is opened: {listed(contents.rounded_late)}"
        yield sum(one.stored_bytes for one in late) / size_bytes, told
    elif narrowing:
        wide = [one for one in contents.weights if one.dtype in WIDE]
        told = f"{_percent(wide, size_bytes)} of its bytes are {WIDE[0]} weights that '{narrowing[-1]}' left as they were: {_kinds(wide)}"
        yield _bytes(wide) / size_bytes, told
    if contents.idle_bytes:
        told = f"{format_value(contents.idle_bytes, Unit.BYTES)} of its data file belong to no tensor of the graph any more"
        yield contents.idle_bytes / size_bytes, told
    if (rest := size_bytes - contents.stored_bytes - contents.idle_bytes) > 0:
        told = (
            f"only {format_value(contents.stored_bytes, Unit.BYTES)} of its {format_value(size_bytes, Unit.BYTES)} are weights: "
            "the rest is graph, names and packing, which no pass makes smaller"
        )
        yield (rest / size_bytes if rest >= contents.stored_bytes / 2 else 0.0), told


def _kinds(weights: Sequence[StoredWeights]) -> str:
    """``Embedding (table, 1.00 MiB), Linear (fc, 2.50 KiB)``, the most bytes first."""
    large = [one for one in weights if one.stored_bytes >= TELLING_SHARE * weights[0].stored_bytes]
    return listed([f"{one.kind} ({listed(one.names, 1)}, {format_value(one.stored_bytes, Unit.BYTES)})" for one in large])


def _percent(weights: Sequence[StoredWeights], size_bytes: int) -> str:
    return f"{100 * _bytes(weights) / size_bytes:.0f} %"


def _bytes(weights: Sequence[StoredWeights]) -> int:
    return sum(one.stored_bytes for one in weights)


def _halves(ref: PluginRef) -> bool:
    """Whether weights are stored in 16 bits; autocast keeps them as they are."""
    return half_precision(ref) is not None and ref.name != "autocast"
