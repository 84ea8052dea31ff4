"""What a look into a model's file shows: which weights it stores, and which layers answer otherwise than they did before a pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """All values of one kind of layer that are stored in one type.

    ``kind`` is the layer's class, or the operator that reads them; ``dtype`` numpy's name (``int4`` where two share a byte); ``zeros`` the
    share of the values that are zero; ``names`` the layers or tensors with most bytes, the first three.
    """

    kind: str
    dtype: str
    stored_bytes: int
    zeros: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The weights of an artifact, most bytes first.

    ``idle_bytes`` lie in its data files and belong to no tensor. ``rounded_late`` are layers whose weights are stored in float and rounded
    to int8 when the model is opened.
    """

    weights: tuple[StoredWeights, ...]
    idle_bytes: int = 0
    rounded_late: tuple[str, ...] = ()

    @property
    def stored_bytes(self) -> int:
        return sum(one.stored_bytes for one in self.weights)

    @property
    def zeros(self) -> float:
        """The share of all bytes that hold a zero."""
        return sum(one.zeros * one.stored_bytes for one in self.weights) / (self.stored_bytes or 1)


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """How far one layer's output is from what it was before, for the same inputs.

    ``relative`` is the root of the mean over channels of |x - y|² / |x|², each at most 1 (0.1: noise of a tenth; 1: nothing is left): one
    large channel hides no small ones. None where the layer gives NaN or infinity now. ``name`` is what a pass's ``exclude`` takes.
    """

    name: str
    kind: str
    relative: float | None
