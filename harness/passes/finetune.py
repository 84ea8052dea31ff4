"""See Finetune."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _pruning, _supervised, _training
from harness.passes._losses import Loss
from harness.passes._training import Optimizer, Schedule


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
        lesson = _supervised.lesson(self.loss, module, artifact, context, "'distill', which learns from the model's own answers")
        notes = lesson.teach(module, _training.Settings.of(self), context)
        return _pruning.save("finetune", self.model_dump_json(), module, artifact, context, notes)


PLUGIN = Finetune
