"""See Finetune."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _losses, _pruning, _samples, _training
from harness.passes._losses import Loss
from harness.passes._training import Optimizer, Schedule

if TYPE_CHECKING:
    import torch


class Finetune(Options):
    """Train further on the scenario's training data, mostly to win back what pruning lost.

    For ``epochs``, or so many ``steps`` in place of them. ``loss: auto`` takes cross entropy for class numbers, binary cross entropy for 0
    and 1, mean squared error for numbers. A share ``held_out`` of the samples is not trained on: the weights of the epoch that does best on
    it are kept, and after ``patience`` epochs without a better one training stops; 0 keeps the last weights. The learning rate warms up for
    ``warm_up_steps`` and follows ``schedule``. ``keep_zeros`` holds zeros in weights at zero, as pruning left them.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "training")

    loss: Loss = "auto"
    epochs: int = Field(3, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    optimizer: Optimizer = "adamw"
    weight_decay: float = Field(0.01, ge=0)
    schedule: Schedule = "cosine"
    warm_up_steps: int = Field(0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    held_out: float = Field(0.1, ge=0, lt=1)
    patience: int | None = Field(3, ge=1)
    keep_zeros: bool = True

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Train and keep the best. Raises CannotMeasure without targets, with a loss that is not finite, or when nothing became better."""
        module = _pruning.open_float("finetune", artifact)
        data = context.data("training")
        inputs, targets = _samples.inputs_of(data, artifact, "training"), _samples.targets_of(data)
        if targets is None:
            hint = "give targets in its data factory, or use 'distill', which learns from the model's own answers"
            raise CannotMeasure("data.training has no targets to train on", hint=hint)
        outputs = _samples.answers(module, _samples.take(inputs, slice(2)), 2)
        loss = _losses.choose(self.loss, outputs, targets[:2])
        _losses.check_labels(loss, outputs.shape[-1], targets)

        def objective(answers: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return _losses.mean(loss, answers, targets[rows].to(answers.device))

        settings = _training.Settings.of(self)
        notes = _training.train(module, inputs, objective, settings, seed=context.seed, device=context.device)
        notes = (f"loss: {loss}", *notes, *_training.seen_before(data, context.data("evaluation")))
        return _pruning.save("finetune", self.model_dump_json(), module, artifact, context, notes)


PLUGIN = Finetune
