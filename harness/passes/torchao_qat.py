"""See TorchaoQat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _supervised, _torchao_training
from harness.passes._losses import Loss
from harness.passes._training import Optimizer, Schedule, Settings
from harness.passes.torchao_int4_weight_only import TorchaoInt4WeightOnly
from harness.passes.torchao_int8_dynamic import TorchaoInt8Dynamic

if TYPE_CHECKING:
    import torch

OWN = {"int8": ("activations", "reduce_range"), "int4": ("group_size",)}
"""The options of each kind of weights."""


class TorchaoQat(Options):
    """Quantization-aware training of Linear layers by torchao: train with weights and activations rounded as int8 or int4, then quantize.

    With ``weights: int8`` the result is what torchao_int8_dynamic gives, with ``int4`` what torchao_int4_weight_only gives, of weights that
    were trained as such: use it where that one costs too much accuracy. ``activations`` and ``reduce_range`` are of int8, ``group_size`` of
    int4, whose activations stay in float; they and ``exclude`` are as there, the training options as in finetune.
    """

    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "training")

    weights: Literal["int8", "int4"] = "int8"
    activations: Literal["symmetric", "asymmetric"] = "symmetric"
    reduce_range: bool = False
    group_size: Literal[32, 64, 128] = 128
    exclude: tuple[str, ...] = ()
    loss: Loss = "auto"
    epochs: int = Field(3, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    optimizer: Optimizer = "adamw"
    weight_decay: float = Field(0.0, ge=0)
    schedule: Schedule = "cosine"
    warm_up_steps: int = Field(0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    held_out: float = Field(0.1, ge=0, lt=1)
    patience: int | None = Field(3, ge=1)
    keep_zeros: bool = True

    @model_validator(mode="after")
    def _check(self) -> TorchaoQat:
        for kind, names in OWN.items():
            wrong = [name for name in names if kind != self.weights and getattr(self, name) != type(self).model_fields[name].default]
            if wrong:
                raise ValueError(f"'{wrong[0]}' is an option of {kind} weights, and 'weights' is {self.weights}")
        return self

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Train, quantize. Raises CannotMeasure as the pass that only quantizes does, and as finetune does."""
        untrained = "torchao_int8_dynamic" if self.weights == "int8" else "torchao_int4_weight_only"

        def train(module: torch.nn.Module, layers: Sequence[torch.nn.Module]) -> list[str]:
            lesson = _supervised.lesson(self.loss, module, artifact, context, untrained)
            bits = 7 if self.reduce_range else 8
            if self.weights == "int4":
                weights, activations = _torchao_training.int4_groups(self.group_size), None
            else:
                weights = _torchao_training.int8_rows(bits)
                activations = weights if self.activations == "symmetric" else _torchao_training.int8_tokens(bits)
            with _torchao_training.rounded(layers, weights, activations, wide=self.weights == "int4"):
                notes = lesson.teach(module, Settings.of(self), context)
            return [*notes, *(_torchao_training.unseen(layers) if activations is not None else ())]

        if self.weights == "int4":
            alone = TorchaoInt4WeightOnly(group_size=self.group_size, exclude=self.exclude).quantize
        else:
            alone = TorchaoInt8Dynamic(activations=self.activations, reduce_range=self.reduce_range, exclude=self.exclude).quantize
        return alone("torchao_qat", artifact, context, self.model_dump_json(), train)


PLUGIN = TorchaoQat
