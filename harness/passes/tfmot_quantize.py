"""See TfmotQuantize."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _keras_training, _tfmot_ranges, _training
from harness.passes._keras_training import Optimizer, Schedule, Settings
from harness.passes._losses import Loss

if TYPE_CHECKING:
    import tf_keras

ZEROS = 0.05
"""A model in which this share of the weights is zero was pruned."""
_UNSUPPORTED = re.compile(r"Layer (\S+?):<class '([\w.]+)'> is not supported")


class TfmotQuantize(Options):
    """TensorFlow Model Optimization's quantization-aware training: the model trains while it is rounded as int8 will round it.

    Weights (of convolutions by channel) and activations of every layer are rounded in training, and gradients pass through; batch norms
    are folded into the convolutions before them. Ranges of activations start from ``calibration_samples`` of data.training and follow a
    moving average. What comes out still computes in float32: ``convert_tflite: {quantization: qat}``
    after it makes int8 of it with the ranges that were trained. ``exclude`` names layers to leave in float. ``keep_zeros`` holds the
    zeros of a pruned model at zero. A share ``held_out`` of data.training is not trained on: the epoch that does best on it stays.
    """

    extra: ClassVar[str | None] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "tensorflow-model-optimization")
    accepts: ClassVar[tuple[str, ...]] = ("keras_model",)
    produces: ClassVar[str] = "keras_model"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "training")

    exclude: tuple[str, ...] = ()
    keep_zeros: bool = True
    calibration_samples: int = Field(128, ge=1)
    loss: Loss = "auto"
    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    optimizer: Optimizer = "adam"
    schedule: Schedule = "cosine"
    held_out: float = Field(0.1, ge=0, lt=1)

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Wrap and train. Raises CannotMeasure, naming the layer, when tfmot has no quantizer for one."""
        from harness.formats import keras_model

        model = _keras_training.opened("tfmot_quantize", artifact, context.seed)
        data = context.data("training")
        lesson = _keras_training.lesson(model, data, Settings.of(self), context.seed)
        before = _keras_training.held_out_loss(model, lesson)
        zeros = _zeros(model)
        held = self.keep_zeros and zeros > ZEROS
        quantized = self._quantized(model, held, keras_model.prepare(artifact))
        rows = lesson.rows[: self.calibration_samples]
        batches = [lesson.part(rows[start : start + self.batch_size])[0] for start in range(0, len(rows), self.batch_size)]
        ranges = _tfmot_ranges.start_ranges(quantized, batches)
        notes = [_share(quantized), f"{ranges} ranges of activations start from {len(rows)} training samples"]
        notes += _keras_training.train(quantized, lesson, before, [])
        if zeros > ZEROS:
            notes.append(f"{zeros:.1%} of the weights were zero before, {_zeros(quantized):.1%} are after")
        notes += _training.seen_before(data, context.data("evaluation"))
        step = AppliedStep("tfmot_quantize", self.model_dump_json(), tuple(notes))
        return keras_model.save(
            quantized, context.folder, example=context.data("evaluation"), root=context.root, steps=(*artifact.steps, step)
        )

    def _quantized(self, model: tf_keras.Model, held: bool, custom: Mapping[str, object]) -> tf_keras.Model:
        import tensorflow_model_optimization as tfmot

        from harness.formats import keras_model
        from harness.formats.tensorflow_package import framework, quiet

        keras, quantization = framework().keras, tfmot.quantization.keras
        inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
        if inner:
            hint = "make one Sequential or functional model of all layers"
            raise CannotMeasure(f"layer '{inner[0].name}' is a model inside the model, which tfmot cannot quantize", hint=hint)
        _keras_training.check_names("tfmot_quantize", self.exclude, [layer.name for layer in model.layers])
        _check_activations(model, self.exclude)
        scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme() if held else None

        def annotate(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            return layer if layer.name in self.exclude else quantization.quantize_annotate_layer(layer)

        with quiet(), keras.utils.custom_object_scope(dict(custom)):
            try:
                annotated = keras.models.clone_model(model, clone_function=annotate)
                options = {} if scheme is None else {"scheme": scheme}
                made = quantization.quantize_apply(annotated, quantized_layer_name_prefix="", **options)
            except (RuntimeError, ValueError) as error:
                raise _refusal(error) from error
        if not keras_model.trained_for_int8(made):
            raise CannotMeasure("'tfmot_quantize' left every layer in float: 'exclude' names them all")
        return made


def _check_activations(model: tf_keras.Model, exclude: Collection[str]) -> None:
    """Raises CannotMeasure, naming the first layer with an activation that tfmot does not know: its own error names none."""
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_aware_activation import QuantizeAwareActivation as Aware

    known = {*Aware._PRE_QUANT_ACTIVATIONS, *Aware._POST_QUANT_ACTIVATIONS, *Aware._NO_QUANTIZE_ACTIVATIONS}
    for layer in model.layers:
        name = getattr(getattr(layer, "activation", None), "__name__", None)
        if layer.name not in exclude and type(layer).__name__ != "Activation" and name is not None and name not in known:
            hint = f"leave it in float with 'exclude: [{layer.name}]', or make the activation a layer of its own and leave that one out"
            raise CannotMeasure(f"tfmot has no quantizer for the activation '{name}' of layer '{layer.name}'", hint=hint)


def _refusal(error: BaseException) -> CannotMeasure:
    """The library's refusal, with the layer where it tells one."""
    if found := _UNSUPPORTED.match(str(error)):
        name, kind = found[1], found[2].rpartition(".")[2]
        return CannotMeasure(f"tfmot has no quantizer for layer '{name}', a {kind}", hint=f"leave it in float with 'exclude: [{name}]'")
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CannotMeasure(f"tfmot cannot quantize this model: {said[:300]}", hint="leave the layer in float with 'exclude'")


def _share(model: tf_keras.Model) -> str:
    """How many layers with kernels round them, and which do not."""
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

    rounded, left = 0, []
    for layer in model.layers:
        if not any(len(weight.shape) >= 2 for weight in layer.weights):
            continue
        if isinstance(layer, QuantizeWrapper) and layer._weight_vars:
            rounded += 1
        else:
            left.append(layer.name)
    told = f"; in float: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}" if left else ""
    return f"{rounded} of {rounded + len(left)} layers with weights round them as int8{told}"


def _zeros(model: tf_keras.Model) -> float:
    """The share of zeros in the kernels."""
    from harness.formats import keras_model

    kernels = list(keras_model.weights(model).values())
    return sum(int((kernel == 0).sum()) for kernel in kernels) / max(1, sum(kernel.size for kernel in kernels))


PLUGIN = TfmotQuantize
