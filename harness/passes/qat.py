"""See Qat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _pt2e, _samples, _supervised, _training
from harness.passes._losses import Loss
from harness.passes._training import Optimizer, Schedule

if TYPE_CHECKING:
    import torch


class Qat(Options):
    """Quantization-aware training for torch's x86 compiler (PT2E): int8 weights and activations that were trained as such.

    The counterpart of pt2e_static_int8, of the same layers and for the same runtime, where that one costs too much accuracy. In training
    every weight and activation is rounded as int8 will round it, and gradients pass through. Ranges start from ``calibration_samples`` of
    ``data.training`` and follow a moving average. ``exclude`` and ``reduce_range`` are as there, the training options as in finetune.
    """

    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "exported_program"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "training")

    calibration_samples: int = Field(default=128, ge=1)
    reduce_range: bool = False
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

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Export, train, convert. Raises CannotMeasure as pt2e_static_int8 and finetune do."""
        module = _pt2e.opened("qat", artifact)
        lesson = _supervised.lesson(self.loss, module, artifact, context, "pt2e_static_int8")
        graph, dropouts = self._prepared(module, lesson.inputs, context)
        notes = lesson.teach(graph, _training.Settings.of(self), context)
        if dropouts:
            notes.append(f"dropout inside {dropouts} fused attentions was off in training")
        return _pt2e.finish("qat", graph, artifact, context, self.model_dump_json(), notes)

    def _prepared(
        self, module: torch.nn.Module, inputs: dict[str, torch.Tensor], context: BuildContext
    ) -> tuple[torch.fx.GraphModule, int]:
        """The graph that rounds as int8 will, with ranges from the first samples, and how many attentions lost their dropout."""
        import torch
        from torchao.quantization.pt2e import enable_observer
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

        from harness.formats import exported_program
        from harness.formats.torchao_tensors import quiet

        wanted = _pt2e.quantizer("qat", module, self.exclude, reduce_range=self.reduce_range, training=True)
        with quiet(), _training.own_random_state(context.seed, context.device):
            captured = exported_program.capture(module.train(), context.data("evaluation")).module()
            dropouts = _pt2e.without_attention_dropout(captured)
            graph = prepare_qat_pt2e(captured, wanted)
            _pt2e.follow_modes(graph)
            graph.eval().apply(enable_observer)
            _pt2e.refuse_random(graph)
            with torch.no_grad():
                count = min(self.calibration_samples, len(next(iter(inputs.values()))))
                for start in range(0, count, self.batch_size):
                    _samples.principal(graph, _samples.take(inputs, slice(start, min(start + self.batch_size, count))))
        return graph, dropouts


PLUGIN = Qat
