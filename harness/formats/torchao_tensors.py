"""Weights that torchao has quantized: tensors of classes of its own, in modules that keep theirs."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LOUD = ("torchao", "torch.utils._pytree", "torch.ao", "torch.export")
"""Loggers that speak of libraries for other hardware, and of what changes in a later version, whenever they are imported or called."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No advice of torchao's or torch's reaches the screen, and none of it becomes an error."""
    loggers = [logging.getLogger(name) for name in LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def import_quietly() -> None:
    """Import torchao without the words about its CUDA libraries that an import costs otherwise."""
    with quiet():
        import torchao.quantization  # noqa: F401 - for what it registers


def quantized_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter of torchao's classes by name ("encoder.0.weight"); empty, and no import, where torchao was never imported."""
    if "torchao" not in sys.modules:
        return {}
    from torchao.utils import TorchAOBaseTensor

    return {name: value for name, value in module.named_parameters() if isinstance(value, TorchAOBaseTensor)}


def data_of(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The plain tensors that a quantized weight is made of (integers, scales, zero points), by name."""
    names, _ = weight.__tensor_flatten__()
    return {name: getattr(weight, name) for name in names}


def bytes_of(weight: torch.Tensor) -> int:
    """Bytes of a weight as it is kept: of a quantized one, its integers with their scales and zero points."""
    parts = data_of(weight).values() if hasattr(weight, "__tensor_flatten__") else (weight,)
    return sum(part.numel() * part.element_size() for part in parts)


def width_of(weight: torch.Tensor) -> int:
    """Bits of one quantized weight. Where two share a byte there are half as many bytes as weights."""
    return int(8 * data_of(weight)["qdata"].numel() // weight.numel())
