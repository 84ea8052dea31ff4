"""Training of Keras models, as the tfmot passes share it."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.passes._losses import Loss

if TYPE_CHECKING:
    import numpy as np
    import tf_keras
    from numpy.typing import NDArray

    from harness.core.plugin import Options

log = logging.getLogger(__name__)
Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine"]
LOOKED_AT = 256
"""Samples that are asked to see what a model gives: logits or probabilities."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train; the passes have these as options and explain them."""

    loss: Loss
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    schedule: Schedule
    held_out: float

    @classmethod
    def of(cls, options: Options) -> Settings:
        """The settings among a pass's options."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})


@dataclass(frozen=True, slots=True)
class Lesson:
    """The training samples, shuffled and split, and the loss that fits them."""

    inputs: dict[str, NDArray[np.generic]]
    targets: NDArray[np.generic]
    rows: NDArray[np.intp]
    held: NDArray[np.intp]
    loss: tf_keras.losses.Loss
    told: str
    settings: Settings

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.rows) / self.settings.batch_size)

    def part(self, rows: NDArray[np.intp]) -> tuple[object, NDArray[np.generic]]:
        """Some samples as Keras takes them, and their targets."""
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        return next(iter(inputs.values())) if len(inputs) == 1 else inputs, self.targets[rows]


def opened(name: str, artifact: ModelArtifact, seed: int) -> tf_keras.Model:
    """A model that tfmot can work on. Raises CannotMeasure for one of Keras 3, with layers in code alone, or in training for int8."""
    from harness import plugins
    from harness.formats import keras_model, tensorflow_package

    for package in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
        plugins.require(package, plugin=name, extra="tensorflow")
    tensorflow_package.framework()
    tensorflow_package.repeatable(seed)
    model = keras_model.load(artifact)
    if keras_model.generation(model) != 2:
        hint = "make it with tf.keras (or tf_keras) in place of 'import keras'"
        raise CannotMeasure(f"'{name}' works on Keras 2, and this is a model of Keras 3", hint=hint)
    if keras_model.trained_for_int8(model):
        raise CannotMeasure(
            f"this model is in training for int8 already, and '{name}' comes before that", hint="put it before tfmot_quantize"
        )
    if not getattr(model, "_is_graph_network", False):
        hint = "tfmot copies layer by layer: build it as Sequential or with the functional API"
        raise CannotMeasure(f"'{type(model).__name__}' is a subclass of Model: which layer follows which is in its code alone", hint=hint)
    return model


def check_names(name: str, exclude: Sequence[str], known: Collection[str]) -> None:
    """Raises BadInput for every layer to leave alone that the model does not have."""
    problems = []
    for unknown in (layer for layer in exclude if layer not in known):
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"its layers are {', '.join(list(known)[:10])}"
        problems.append(Problem(f"'{name}' excludes the layer '{unknown}', which is not in this model", hint=hint))
    if problems:
        raise BadInput(*problems)


def lesson(model: tf_keras.Model, data: Dataset, settings: Settings, seed: int) -> Lesson:
    """What is trained on. Raises CannotMeasure when there are no targets, or no loss fits them."""
    import numpy as np

    from harness.formats import keras_model

    if data.targets is None:
        raise CannotMeasure("data.training has no targets to train on", hint="give targets in its data factory")
    names = list(model.input_names)
    if len(data.inputs) != len(names) or (len(names) > 1 and set(names) != set(data.inputs)):
        raise CannotMeasure(f"data.training gives the inputs {', '.join(data.inputs)}, and the model takes {', '.join(names)}")
    if len(model.outputs) != 1:
        raise CannotMeasure(f"this model has {len(model.outputs)} outputs: which of them the targets are for is not known")
    if data.count < 2:
        raise CannotMeasure(f"data.training has {data.count} sample: training needs at least 2")
    seen = min(data.count, LOOKED_AT)
    (outputs,) = keras_model.call(model, data.batch(0, seen)).values()
    loss, told = _choose(settings.loss, outputs.numpy(), data.targets[:seen])
    if told.startswith("cross_entropy") and data.targets.ndim == outputs.shape.rank - 1:
        low, high = int(data.targets.min()), int(data.targets.max())
        if low < 0 or high >= outputs.shape[-1]:
            raise CannotMeasure(f"the targets are classes {low} to {high}, and the model has {outputs.shape[-1]} outputs")
    order = np.random.default_rng(seed).permutation(data.count)
    held = min(max(1, round(settings.held_out * data.count)), data.count - 1) if settings.held_out else 0
    return Lesson(dict(data.inputs), data.targets, order[held:], order[:held], loss, told, settings)


def held_out_loss(model: tf_keras.Model, lesson: Lesson) -> float | None:
    """The mean over the held-out samples; None where there are none."""
    if not len(lesson.held):
        return None
    from harness.formats.tensorflow_package import quiet

    inputs, targets = lesson.part(lesson.held)
    with quiet():
        return float(lesson.loss(targets, model.predict(inputs, batch_size=lesson.settings.batch_size, verbose=0)))


def train(
    model: tf_keras.Model, lesson: Lesson, before: float | None, callbacks: Sequence[tf_keras.callbacks.Callback], from_epoch: int = 0
) -> tuple[str, ...]:
    """Train in place and tell what was done. Of the epochs from ``from_epoch`` (counted from 0) the best on held-out samples stays.

    Raises CannotMeasure, naming the epoch, when the loss is not finite.
    """
    from harness.formats.tensorflow_package import framework, quiet

    keras = framework().keras
    settings = lesson.settings
    total = settings.epochs * lesson.steps_an_epoch
    rate: object = settings.learning_rate
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, total)
    optimizer = keras.optimizers.Adam(rate) if settings.optimizer == "adam" else keras.optimizers.SGD(rate, momentum=0.9)
    best: list[tuple[float, int, list[NDArray[np.generic]]]] = []

    class KeepBest(keras.callbacks.Callback):  # type: ignore[name-defined,misc]  # the class of whichever Keras there is
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            logs = logs or {}
            if not all(math.isfinite(value) for value in logs.values()):
                hint = "lower 'learning_rate'"
                raise CannotMeasure(f"the loss is {logs['loss']} in epoch {epoch + 1} of {settings.epochs}", hint=hint)
            log.info("epoch %d of %d: %s", epoch + 1, settings.epochs, ", ".join(f"{name} {value:.4g}" for name, value in logs.items()))
            value = logs.get("val_loss", -epoch)  # without held-out samples the last epoch is the best
            if epoch >= from_epoch and (not best or value < best[0][0]):
                best[:] = [(value, epoch, self.model.get_weights())]

    model.compile(optimizer=optimizer, loss=lesson.loss)
    inputs, targets = lesson.part(lesson.rows)
    with quiet():
        model.fit(
            inputs,
            targets,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            validation_data=lesson.part(lesson.held) if len(lesson.held) else None,
            callbacks=[*callbacks, KeepBest()],
            verbose=0,
        )
    ((value, epoch, kept),) = best
    model.set_weights(kept)
    notes = [f"loss: {lesson.told}", f"{total} steps ({settings.epochs} epochs of {len(lesson.rows)} samples), {settings.optimizer}"]
    if before is not None:
        told = f"held-out loss {before:.4g} before, {value:.4g} after epoch {epoch + 1}, whose weights are kept"
        notes.append(f"{told} ({len(lesson.held)} samples)")
    return tuple(notes)


def _choose(loss: Loss, outputs: NDArray[np.generic], targets: NDArray[np.generic]) -> tuple[tf_keras.losses.Loss, str]:
    """The loss that fits, and its name: class numbers with one axis less than the outputs, one of them hot, truth values, numbers."""
    import numpy as np

    from harness.formats.tensorflow_package import framework

    losses = framework().keras.losses
    whole = targets.dtype.kind in "iub"
    classes = whole and outputs.shape[:-1] == targets.shape and outputs.shape[-1] > 1
    same = outputs.size == targets.size and len(outputs) == len(targets)
    truths = same and bool(np.isin(targets, (0, 1)).all())
    one_hot = truths and outputs.ndim > 1 and outputs.shape[-1] > 1 and bool((targets.reshape(outputs.shape).sum(axis=-1) == 1).all())
    fits = {"cross_entropy": classes or one_hot, "binary_cross_entropy": truths, "mse": same}
    wanted = loss
    if loss == "auto":
        wanted = "cross_entropy" if classes or one_hot else "binary_cross_entropy" if truths else "mse"
    if not fits[wanted] or outputs.dtype.kind != "f":
        raise CannotMeasure(
            f"outputs {outputs.dtype} {list(outputs.shape)} and targets {targets.dtype} {list(targets.shape)}: '{loss}' does not fit them",
            hint="cross_entropy takes class numbers, with one axis less than the outputs, or one-hot rows; binary_cross_entropy 0 and 1, "
            "mse numbers, both of the outputs' shape",
        )
    if wanted == "mse":
        return losses.MeanSquaredError(), "mse"
    bounded = bool(np.min(outputs) >= 0 and np.max(outputs) <= 1)
    if wanted == "binary_cross_entropy":
        return losses.BinaryCrossentropy(from_logits=not bounded), f"binary_cross_entropy on {'probabilities' if bounded else 'logits'}"
    sums = bounded and bool(np.allclose(outputs.sum(axis=-1), 1, atol=1e-3))
    kind = losses.CategoricalCrossentropy if one_hot else losses.SparseCategoricalCrossentropy
    return kind(from_logits=not sums), f"cross_entropy on {'probabilities' if sums else 'logits'}"
