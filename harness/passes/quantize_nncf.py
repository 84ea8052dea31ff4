"""See QuantizeNncf."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import SAME, BuildContext, DataRole, Options
from harness.passes import _nncf_accuracy, _openvino_check
from harness.passes._nncf_graph import Graph, Model

if TYPE_CHECKING:
    import nncf

ADVISED_SAMPLES = 300
ROUNDING = 1e-9
"""1.00 - 0.99 is a little more than 0.01 to a computer."""


class QuantizeNncf(Options):
    """NNCF post-training quantization of an OpenVINO model or an ONNX graph: int8 weights and activations, ranges from calibration data.

    The format stays what it was; in an ONNX graph the quantized operators stand between Q/DQ pairs. The first ``calibration_samples`` of
    ``data.calibration`` give the ranges. ``preset`` makes activations symmetric (performance) or not (mixed); ``model_type: transformer``
    leaves out what hurts attention and smooths activations. ``exclude``, ``exclude_patterns`` and ``exclude_types`` name operators to leave
    in float. ``fast_bias_correction: false`` corrects biases layer by layer: slower, often more accurate. ``max_drop`` turns on the
    accuracy-aware mode: layers go back to float until top-1 accuracy falls by no more than this fraction, told on labelled calibration
    samples that gave no ranges, never on the evaluation set that the verdict is from.
    """

    extra: ClassVar[str | None] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf", "onnx", "onnxruntime")
    accepts: ClassVar[tuple[str, ...]] = ("openvino", "onnx")
    produces: ClassVar[str] = SAME
    needs: ClassVar[tuple[DataRole, ...]] = ("calibration",)

    calibration_samples: int = Field(default=ADVISED_SAMPLES, ge=1)
    preset: Literal["performance", "mixed"] | None = None
    model_type: Literal["transformer"] | None = None
    fast_bias_correction: bool = True
    exclude: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    exclude_types: tuple[str, ...] = ()
    max_drop: float | None = Field(default=None, gt=0, lt=1)

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Calibrate, quantize, and prove it. Raises CannotMeasure when nothing was quantized or ``max_drop`` cannot be kept."""
        graph = _graph_of(artifact)
        self._check(graph)
        data = context.data("calibration")
        count = min(self.calibration_samples, data.count if self.max_drop is None else data.count // 2)
        if self.max_drop is None:
            quantized, told = self._quantize(graph, data, count), list[str]()
        else:
            quantized, told = self._quantize_within(self.max_drop, graph, data, count)
        done, total, left = graph.share(quantized)
        if done == 0:
            kinds = ", ".join(graph.kinds())
            hint = (
                f"the operators are {kinds}" if self.max_drop is None else f"'max_drop' of {self.max_drop:g} leaves none of them quantized"
            )
            raise CannotMeasure("'quantize_nncf' left every operator with weights in float", hint=hint)
        share = f"{done} of {total} operators with weights quantized"
        if left:
            share += f"; in float: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}"
        few = f": NNCF advises {ADVISED_SAMPLES}" if count < ADVISED_SAMPLES else ""
        notes = (share, *graph.told(quantized), f"ranges from {count} calibration samples{few}", *told)
        step = AppliedStep("quantize_nncf", self.model_dump_json(), notes)
        return graph.save(quantized, context, (*artifact.steps, step))

    def _check(self, graph: Graph) -> None:
        """Refuse what NNCF would take in silence: a model that is quantized, and (with the nearest right names) unknown operators."""
        if refused := graph.unfit():
            raise CannotMeasure(refused[0], hint=refused[1])
        problems = []
        for option, given, known in (("exclude", self.exclude, graph.names()), ("exclude_types", self.exclude_types, graph.kinds())):
            for unknown in (name for name in given if name not in known):
                near = [name for name in known if unknown.lower() in name.lower()] or difflib.get_close_matches(unknown, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known[:10])}{' ...' if len(known) > 10 else ''}"
                problems.append(Problem(f"quantize_nncf's '{option}' names '{unknown}', which is not in this model", hint=hint))
        if problems:
            raise BadInput(*problems)

    def _arguments(self, count: int) -> dict[str, object]:
        import nncf

        return {
            "preset": None if self.preset is None else nncf.QuantizationPreset(self.preset),
            "subset_size": count,
            "fast_bias_correction": self.fast_bias_correction,
            "model_type": None if self.model_type is None else nncf.ModelType(self.model_type),
            "ignored_scope": nncf.IgnoredScope(list(self.exclude), list(self.exclude_patterns), list(self.exclude_types)),
        }

    def _quantize(self, graph: Graph, data: Dataset, count: int) -> Model:
        import nncf

        from harness.formats import openvino_model

        with _openvino_check.quiet():
            try:
                return nncf.quantize(graph.model, _calibration(graph, data, count), **self._arguments(count))
            except Exception as error:  # the library's errors share no base class below Exception
                raise CannotMeasure(f"NNCF cannot quantize this model: {openvino_model.reason(error)}") from error

    def _quantize_within(self, max_drop: float, graph: Graph, data: Dataset, count: int) -> tuple[Model, list[str]]:
        """Quantize, and where that costs more than ``max_drop``, again in NNCF's accuracy-aware mode; and what came of it."""
        import nncf

        from harness.formats import openvino_model

        kept = _nncf_accuracy.held_out(data, count, max_drop)
        whole = _nncf_accuracy.accuracy(graph.model, kept, graph)
        plain = self._quantize(graph, data, count)
        quantized = _nncf_accuracy.accuracy(plain, kept, graph)
        told = f"top-1 on {kept.count} held-out calibration samples {whole:.2%}, quantized {quantized:.2%}"
        if whole - quantized <= max_drop + ROUNDING:
            return plain, [f"{told}: no layer had to go back to float"]
        with _openvino_check.quiet():
            try:
                restored = nncf.quantize_with_accuracy_control(
                    graph.model,
                    calibration_dataset=_calibration(graph, data, count),
                    validation_dataset=nncf.Dataset(range(kept.count), lambda row: graph.feed(kept.batch(row, 1))),
                    validation_fn=_nncf_accuracy.score_on(kept, graph),
                    max_drop=max_drop,
                    drop_type=nncf.DropType.ABSOLUTE,
                    **self._arguments(count),
                )
            except Exception as error:  # as above
                said = openvino_model.reason(error)
                raise CannotMeasure(f"NNCF's accuracy-aware mode cannot quantize this model: {said}") from error
        final = _nncf_accuracy.accuracy(restored, kept, graph)
        before, after = (set(graph.share(one)[2]) for one in (plain, restored))
        back = sorted(after - before)
        if whole - final > max_drop + ROUNDING:
            raise CannotMeasure(
                f"{told}; with {len(back)} operators back in float {final:.2%}: still more than the 'max_drop' of {max_drop:g}",
                hint="allow a larger 'max_drop', or keep this model in float",
            )
        return restored, [
            f"{told}, with {len(back)} operators back in float {final:.2%}: {', '.join(back[:5])}{' ...' if len(back) > 5 else ''}"
        ]


def _graph_of(artifact: ModelArtifact) -> Graph:
    """The model of an artifact. Raises MissingPackage without the packages that its format takes."""
    from harness import plugins
    from harness.formats import openvino_model

    for package in ("openvino", "nncf"):
        plugins.require(package, plugin="quantize_nncf", extra="openvino")
    openvino_model.framework()  # without its telemetry, whatever imports it next
    if artifact.format == "onnx":
        from harness.passes import _nncf_onnx, _onnx_graph

        _onnx_graph.require("quantize_nncf", "onnx", "onnxruntime")
        return _nncf_onnx.OnnxGraph(artifact)
    from harness.passes import _nncf_openvino

    return _nncf_openvino.OpenvinoGraph(artifact)


def _calibration(graph: Graph, data: Dataset, count: int) -> nncf.Dataset:
    """Samples one by one: in larger batches NNCF takes the ranges of a batch, not of its samples."""
    import nncf

    return nncf.Dataset(range(count), lambda row: graph.feed(data.batch(row, 1)))


PLUGIN = QuantizeNncf
