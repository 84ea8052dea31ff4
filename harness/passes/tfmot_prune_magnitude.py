"""See TfmotPruneMagnitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _keras_training, _training
from harness.passes._keras_training import Optimizer, Schedule, Settings
from harness.passes._losses import Loss

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

Kind = Literal[
    "Dense",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "SeparableConv1D",
    "SeparableConv2D",
    "Embedding",
    "MultiHeadAttention",
    "LSTM",
    "GRU",
]
UPDATES = 20
"""How often the mask is drawn anew on the way to the final sparsity, unless ``frequency`` says so."""
MOST_TOLD = 12
ROUNDING = 0.005
"""A layer has a whole number of weights: its share of zeros may be this much under what was asked for."""


class TfmotPruneMagnitude(Options):
    """TensorFlow Model Optimization's magnitude pruning: weights become zero, the smallest first, while the model trains.

    From ``begin_step`` to ``end_step`` (three quarters of the training) each layer's share of zeros grows from ``initial_sparsity`` to
    ``final_sparsity`` as a polynomial of ``power``; ``schedule_kind: constant`` has it at once. The mask is drawn anew every ``frequency``
    steps. ``block_size`` zeroes whole blocks, ``m_by_n: [2, 4]`` two of every four weights in a row (and no schedule). ``layers`` are the
    kinds of layer, ``exclude`` names some to leave alone. A share ``held_out`` of data.training is not trained on: of the epochs at the
    final sparsity the best on it stays. Dense kernels multiply zeros too: ``convert_tflite: {sparse: true}`` makes the file smaller.
    """

    extra: ClassVar[str | None] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "tensorflow-model-optimization")
    accepts: ClassVar[tuple[str, ...]] = ("keras_model",)
    produces: ClassVar[str] = "keras_model"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation", "training")

    initial_sparsity: float = Field(0.0, ge=0, lt=1)
    final_sparsity: float = Field(0.5, gt=0, lt=1)
    schedule_kind: Literal["polynomial", "constant"] = "polynomial"
    power: float = Field(3, gt=0)
    begin_step: int = Field(0, ge=0)
    end_step: int | None = Field(None, ge=1)
    frequency: int | None = Field(None, ge=1)
    block_size: tuple[int, int] = (1, 1)
    block_pooling: Literal["avg", "max"] = "avg"
    m_by_n: tuple[int, int] | None = None
    layers: tuple[Kind, ...] = ("Dense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D")
    exclude: tuple[str, ...] = ()
    loss: Loss = "auto"
    epochs: int = Field(4, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    optimizer: Optimizer = "adam"
    schedule: Schedule = "constant"
    held_out: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits_together(self) -> TfmotPruneMagnitude:
        if self.final_sparsity <= self.initial_sparsity:
            raise ValueError("'final_sparsity' is above 'initial_sparsity'")
        if self.m_by_n is not None and not 0 < self.m_by_n[0] < self.m_by_n[1]:
            raise ValueError("'m_by_n' is how many of how many weights are zero, such as [2, 4]")
        if self.m_by_n is not None and self.block_size != (1, 1):
            raise ValueError("'m_by_n' and 'block_size' are two ways to choose weights: take one")
        return self

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Train under the schedule, strip the wrappers, prove the zeros. Raises CannotMeasure when a layer has fewer than asked for."""
        from harness.formats import keras_model

        model = _keras_training.opened("tfmot_prune_magnitude", artifact, context.seed)
        data = context.data("training")
        lesson = _keras_training.lesson(model, data, Settings.of(self), context.seed)
        total = lesson.settings.epochs * lesson.steps_an_epoch
        end, frequency = self._steps(total)
        before = _keras_training.held_out_loss(model, lesson)
        model, wrapped = self._wrapped(model, end, frequency)
        from_epoch = 0 if self.m_by_n else min(-(-(end + 1) // lesson.steps_an_epoch), lesson.settings.epochs) - 1
        import tensorflow_model_optimization as tfmot

        told = _keras_training.train(model, lesson, before, [tfmot.sparsity.keras.UpdatePruningStep()], from_epoch)
        model = tfmot.sparsity.keras.strip_pruning(model)
        zeros = {name: (sum(int((kernel.numpy() == 0).sum()) for kernel in kernels), _size(kernels)) for name, kernels in wrapped.items()}
        self._check_zeros(zeros)
        every = sum(size for _, size in zeros.values())
        share = sum(count for count, _ in zeros.values()) / every
        notes = [f"{share:.1%} of {every:,} weights in {len(zeros)} layers are zero", *self._told(end, frequency, zeros), *told]
        notes += _training.seen_before(data, context.data("evaluation"))
        step = AppliedStep("tfmot_prune_magnitude", self.model_dump_json(), tuple(notes))
        made = keras_model.save(model, context.folder, example=context.data("evaluation"), root=context.root, steps=(*artifact.steps, step))
        if _places(made) != _places(artifact):
            raise CannotMeasure("'tfmot_prune_magnitude' would change what goes in or comes out of the model")
        return made

    def _steps(self, total: int) -> tuple[int, int]:
        """The step of the final mask, counted from 0, and the steps between two masks. Raises BadInput when training ends before it."""
        end = 3 * total // 4 if self.end_step is None else self.end_step
        end = max(end, self.begin_step + 1) if self.end_step is None else end
        if not self.begin_step < end < total:
            hint = "train for more 'epochs', or set 'begin_step' and 'end_step' below that"
            raise BadInput(Problem(f"pruning goes from step {self.begin_step} to {end}, and training has {total} steps", hint=hint))
        frequency = self.frequency or max(1, (end - self.begin_step) // UPDATES)
        if frequency > end - self.begin_step:
            raise BadInput(Problem(f"'frequency' is {frequency}, more than the {end - self.begin_step} steps of the schedule"))
        return end - (end - self.begin_step) % frequency, frequency

    def _wrapped(self, model: tf_keras.Model, end: int, frequency: int) -> tuple[tf_keras.Model, dict[str, list[tf.Variable]]]:
        """A copy whose layers are pruned in training, and the weights that will be, by layer. Raises as the pruning passes do."""
        import tensorflow_model_optimization as tfmot
        from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

        from harness.formats import keras_model
        from harness.formats.tensorflow_package import framework

        keras = framework().keras
        every = [layer for layer in keras_model.layers(model) if layer is not model]
        _keras_training.check_names("tfmot_prune_magnitude", self.exclude, [layer.name for layer in every])
        chosen = {
            layer.name
            for layer in every
            if type(layer).__name__ in self.layers and layer.name not in self.exclude and PruneRegistry.supports(layer)
        }
        sparsity = tfmot.sparsity.keras
        if self.m_by_n:
            how: dict[str, object] = {"sparsity_m_by_n": self.m_by_n, "pruning_schedule": sparsity.ConstantSparsity(0.5, 0, -1, 1)}
        elif self.schedule_kind == "constant":
            schedule = sparsity.ConstantSparsity(self.final_sparsity, self.begin_step, end, frequency)
            how = {"pruning_schedule": schedule, "block_size": self.block_size, "block_pooling_type": self.block_pooling.upper()}
        else:
            schedule = sparsity.PolynomialDecay(self.initial_sparsity, self.final_sparsity, self.begin_step, end, self.power, frequency)
            how = {"pruning_schedule": schedule, "block_size": self.block_size, "block_pooling_type": self.block_pooling.upper()}

        def wrap(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            if isinstance(layer, keras.Model):
                return keras.models.clone_model(layer, clone_function=wrap)
            return sparsity.prune_low_magnitude(layer, **how) if layer.name in chosen else layer

        try:
            made = keras.models.clone_model(model, clone_function=wrap)
        except ValueError as error:
            said = str(error).strip().splitlines()[0]
            raise CannotMeasure(f"tfmot cannot prune this model: {said}", hint="leave the layer out with 'exclude'") from error
        wrappers = [layer for layer in keras_model.layers(made) if hasattr(layer, "pruning_vars")]
        found = {layer.layer.name: [weight for weight, _, _ in layer.pruning_vars] for layer in wrappers}
        if not found:
            kinds = sorted({type(layer).__name__ for layer in every})
            raise CannotMeasure(f"no {' or '.join(self.layers)} layer to prune in this model", hint=f"it has {', '.join(kinds)}")
        self._check_blocks(found)
        return made, found

    def _check_blocks(self, wrapped: dict[str, list[tf.Variable]]) -> None:
        """tfmot makes blocks of kernels with two axes alone, and fails in the middle of training where a block fills one of them."""
        for name, kernels in wrapped.items():
            for kernel in kernels:
                shape = [length for length in kernel.shape if length > 1]
                if self.block_size != (1, 1) and any(a <= b for a, b in zip(shape, self.block_size, strict=True)):
                    told = (
                        f"a block of {self.block_size[0]} x {self.block_size[1]} fills an axis of layer '{name}', whose kernel is {shape}"
                    )
                    raise CannotMeasure(told, hint=f"choose a smaller 'block_size', or add 'exclude: [{name}]'")

    def _check_zeros(self, zeros: Mapping[str, tuple[int, int]]) -> None:
        """Raises CannotMeasure, naming the layer, when one has fewer zeros (of so many weights) than was asked for."""
        wanted = self.m_by_n[0] / self.m_by_n[1] if self.m_by_n else self.final_sparsity
        for name, (count, size) in zeros.items():
            if count / size < wanted - max(ROUNDING, 1 / size):
                hint = f"leave it out with 'exclude: [{name}]', or choose other blocks"
                raise CannotMeasure(f"{count / size:.1%} of the weights of layer '{name}' are zero, {wanted:.1%} were asked for", hint=hint)

    def _told(self, end: int, frequency: int, zeros: Mapping[str, tuple[int, int]]) -> list[str]:
        how = f"{self.m_by_n[0]} of every {self.m_by_n[1]} in a row" if self.m_by_n else f"{self.schedule_kind} schedule"
        steps = "" if self.m_by_n else f", final from step {end}, a mask every {frequency} steps"
        blocks = "" if self.block_size == (1, 1) else f", blocks of {self.block_size[0]} x {self.block_size[1]}"
        layers = [f"{name} {count / size:.1%}" for name, (count, size) in zeros.items()]
        return [f"{how}{steps}{blocks}", f"by layer: {', '.join(layers[:MOST_TOLD])}{' ...' if len(layers) > MOST_TOLD else ''}"]


def _places(artifact: ModelArtifact) -> list[list[tuple[object, ...]]]:
    """Dtypes and shapes of what goes in and comes out, with the names where there are several to tell apart."""
    return [
        [(spec.dtype, spec.shape, spec.name if len(specs) > 1 else "") for spec in specs] for specs in (artifact.inputs, artifact.outputs)
    ]


def _size(kernels: Sequence[tf.Variable]) -> int:
    return sum(int(kernel.shape.num_elements()) for kernel in kernels)


PLUGIN = TfmotPruneMagnitude
