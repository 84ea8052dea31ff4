"""Losses between a model's principal output and a data set's targets, chosen by what the targets are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.core.errors import CannotMeasure

if TYPE_CHECKING:
    import torch

Loss = Literal["auto", "cross_entropy", "binary_cross_entropy", "mse"]
IGNORED = -100
"""A class label that torch's cross entropy leaves out (padding of token labels)."""


def choose(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> Loss:
    """The loss that fits: class labels with one axis less than the outputs, truth values, or numbers of the outputs' shape.

    Both are those of a few samples. Raises CannotMeasure, with both shapes, where none fits or the wrong one is asked for.
    """
    whole = not targets.dtype.is_floating_point and not targets.dtype.is_complex
    classes = whole and outputs.shape[:-1] == targets.shape and outputs.shape[-1] > 1
    same = outputs.numel() == targets.numel() and len(outputs) == len(targets)
    truths = same and bool(((targets == 0) | (targets == 1)).all())
    fits: dict[Loss, bool] = {"cross_entropy": classes, "binary_cross_entropy": truths, "mse": same}
    wanted: Loss = loss
    if loss == "auto":
        wanted = "cross_entropy" if classes else "binary_cross_entropy" if whole else "mse"
    if not fits[wanted] or not outputs.dtype.is_floating_point:
        told = f"outputs {outputs.dtype} {list(outputs.shape)} and targets {targets.dtype} {list(targets.shape)}".replace("torch.", "")
        raise CannotMeasure(
            f"{told}: no loss fits them" if loss == "auto" else f"{told}: '{loss}' does not fit them",
            hint="cross_entropy takes class numbers, with one axis less than the outputs; binary_cross_entropy 0 and 1, mse numbers, "
            "both of the outputs' shape",
        )
    return wanted


def check_labels(loss: Loss, classes: int, targets: torch.Tensor) -> None:
    """Raises CannotMeasure when a class number is not among the outputs."""
    if loss == "cross_entropy":
        counted = targets[targets != IGNORED]
        if counted.numel() == 0:
            raise CannotMeasure("the targets name no class at all")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= classes:
            raise CannotMeasure(f"the targets are classes {low} to {high}, and the model has {classes} outputs")


def total(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over all elements that have a target."""
    return _value(loss, outputs, targets, "sum")


def mean(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean over all elements that have a target."""
    return _value(loss, outputs, targets, "mean")


def _value(loss: Loss, outputs: torch.Tensor, targets: torch.Tensor, reduction: str) -> torch.Tensor:
    from torch.nn import functional

    outputs = outputs.float()
    if loss == "cross_entropy":
        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten().long(), reduction=reduction, ignore_index=IGNORED)
    targets = targets.reshape(outputs.shape).float()
    if loss == "binary_cross_entropy":
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction=reduction)
    return functional.mse_loss(outputs, targets, reduction=reduction)
