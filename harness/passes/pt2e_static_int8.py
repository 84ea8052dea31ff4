"""See Pt2eStaticInt8."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _pt2e


class Pt2eStaticInt8(Options):
    """Static int8 quantization of an exported graph for torch's x86 compiler (PT2E): weights and activations, with calibrated ranges.

    It pays under the runtime torch_compile with freezing, where quantize, operator and dequantize become one int8 kernel, and is slower
    than float without. Reaches convolutions (2d, with the batch norm behind them folded in) and Linear layers. The first
    ``calibration_samples`` of the scenario's ``data.calibration`` are run through the float graph. ``reduce_range`` gives 7 bits where a
    CPU without VNNI would saturate. ``exclude`` names layers, or blocks of them, that stay in float.
    """

    extra: ClassVar[str | None] = "torchao"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "exported_program"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "calibration")

    calibration_samples: int = Field(default=128, ge=1)
    reduce_range: bool = False
    exclude: tuple[str, ...] = ()

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Export, calibrate, convert. Raises CannotMeasure where torch.export cannot follow, or where nothing can be quantized."""
        module = _pt2e.opened("pt2e_static_int8", artifact)
        import torch
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

        from harness.formats import exported_program, torch_module
        from harness.formats.torchao_tensors import quiet

        wanted = _pt2e.quantizer("pt2e_static_int8", module, self.exclude, reduce_range=self.reduce_range, training=False)
        data = context.data("calibration")
        count = min(self.calibration_samples, data.count)
        with quiet(), torch.no_grad():
            prepared = prepare_pt2e(exported_program.capture(module, context.data("evaluation")).module(), wanted)
            try:
                for batch in _pt2e.batches(data, count):
                    torch_module.invoke(prepared, batch)
            except (RuntimeError, TypeError, ValueError, AssertionError) as error:  # what torch raises for inputs that do not fit a graph
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise CannotMeasure(f"the calibration samples do not fit this model: {reason}") from error
        notes = (f"calibrated on {count} samples",)
        return _pt2e.finish("pt2e_static_int8", prepared, artifact, context, self.model_dump_json(), notes)


PLUGIN = Pt2eStaticInt8
