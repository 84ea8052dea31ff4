"""Samples of a data set as tensors, and what a module answers to some of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import DataRole

if TYPE_CHECKING:
    import torch


def inputs_of(data: Dataset, artifact: ModelArtifact, role: DataRole) -> dict[str, torch.Tensor]:
    """All inputs as tensors. Raises CannotMeasure when their names are not the model's (one input alone goes by position)."""
    import torch

    wanted = [spec.name for spec in artifact.inputs]
    if len(wanted) != len(data.inputs) or (len(wanted) > 1 and set(wanted) != set(data.inputs)):
        raise CannotMeasure(f"data.{role} gives the inputs {', '.join(data.inputs)}, and the model takes {', '.join(wanted)}")
    return {name: torch.from_numpy(values.copy()) for name, values in data.inputs.items()}


def targets_of(data: Dataset) -> torch.Tensor | None:
    """The targets as a tensor, or None where there are no labels."""
    import torch

    return None if data.targets is None else torch.from_numpy(data.targets.copy())


def take(inputs: Mapping[str, torch.Tensor], rows: torch.Tensor | slice) -> dict[str, torch.Tensor]:
    """Some of the samples."""
    return {name: values[rows] for name, values in inputs.items()}


def principal(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The principal output of a call, with its gradient where one is asked for. Floating inputs are given in the module's dtype."""
    from harness.formats import torch_module
    from harness.formats.precision import input_dtype

    dtype = input_dtype(module)
    given = {name: values.to(dtype) if values.is_floating_point() else values for name, values in inputs.items()}
    return next(iter(torch_module.flatten(torch_module.invoke(module, given)).values()))


def answers(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], batch_size: int) -> torch.Tensor:
    """The principal output for all samples, in batches."""
    import torch

    count = len(next(iter(inputs.values())))
    with torch.no_grad():
        return torch.cat([principal(module, take(inputs, slice(start, start + batch_size))) for start in range(0, count, batch_size)])
