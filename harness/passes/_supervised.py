"""What the passes that learn from targets share: the loss that fits, as an objective for ``_training.train``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext
from harness.passes import _losses, _samples, _training
from harness.passes._losses import Loss
from harness.passes._training import Objective, Settings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Lesson:
    """The training inputs, the loss between a module's answers and their targets, and notes about both for people."""

    inputs: dict[str, torch.Tensor]
    loss: Loss
    objective: Objective
    seen_before: tuple[str, ...]

    def teach(self, module: torch.nn.Module, settings: Settings, context: BuildContext) -> list[str]:
        """Train the module in place, and tell what was done. Raises CannotMeasure as ``_training.train`` does."""
        trained = _training.train(module, self.inputs, self.objective, settings, seed=context.seed, device=context.device)
        return [f"loss: {self.loss}", *trained, *self.seen_before]


def lesson(loss: Loss, module: torch.nn.Module, artifact: ModelArtifact, context: BuildContext, untrained: str) -> Lesson:
    """What ``data.training`` teaches this module. Raises CannotMeasure without targets, naming the pass ``untrained`` that needs none, and
    where the loss does not fit."""
    data = context.data("training")
    inputs, targets = _samples.inputs_of(data, artifact, "training"), _samples.targets_of(data)
    if targets is None:
        raise CannotMeasure("data.training has no targets to train on", hint=f"give targets in its data factory, or use {untrained}")
    outputs = _samples.answers(module, _samples.take(inputs, slice(2)), 2)
    chosen = _losses.choose(loss, outputs, targets[:2])
    _losses.check_labels(chosen, outputs.shape[-1], targets)

    def objective(answers: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return _losses.mean(chosen, answers, targets[rows].to(answers.device))

    return Lesson(inputs, chosen, objective, _training.seen_before(data, context.data("evaluation")))
