"""The format ``keras_model``: a saved Keras model, of Keras 2 or 3, with the project's own code that its layers need.

A folder holds ``model.keras`` and, where layers are the project's own, ``code/``. A model in training for int8 (quantization-aware) is
``model.h5``: its wrapped layers cannot be read back from the native file. Optimizer state is left out: a deployment does not ship it.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact, TensorSpec
from harness.core.errors import BadInput, Problem
from harness.formats import keras_config, project_code, torch_module
from harness.formats.files import digest_of, size_of
from harness.formats.tensorflow_package import framework, quiet

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    import tf_keras
    from numpy.typing import NDArray

MAIN = "model.keras"
IN_TRAINING = "model.h5"
WRITTEN = (1980, 1, 1, 0, 0, 0)
"""The date of every file in the archive: equal models are equal files."""


def generation(model: object) -> int | None:
    """2 or 3 for a model of that Keras, None for what is no Keras model."""
    homes = {base.__module__.partition(".")[0] for base in type(model).__mro__ if base.__name__ == "Model"}
    return 2 if "tf_keras" in homes else 3 if "keras" in homes else None


def save(model: tf_keras.Model, folder: Path, *, example: Dataset, root: Path, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
    """Write a model, read it back, and describe it; ``example`` gives the inputs' names, dtypes and shapes.

    Raises BadInput when it cannot be saved, or answers otherwise when it has been read back.
    """
    import numpy as np

    inputs = example.batch(0, 2)
    specs = _input_specs(model, example)
    outputs = call(model, inputs)
    project_code.copy_code(folder, root, _homes(model))
    main = IN_TRAINING if trained_for_int8(model) else MAIN
    try:
        _write(model, folder / main)
        opened = _open(folder / main, _custom_objects(project_code.needed_modules(folder)))
        again = call(opened, inputs)
    except Exception as error:  # Keras raises whatever a layer's own code does
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "a layer of your own needs get_config(), and is a class at the top of its file; a Lambda cannot be saved safely"
        raise BadInput(Problem(f"the model cannot be saved and read back: {said[:300]}", hint=hint)) from error
    for name, value in outputs.items():
        if name not in again or not np.allclose(value, again[name], rtol=1e-5, atol=1e-6, equal_nan=True):
            hint = "a layer of your own saves what it holds only in variables that it makes with add_weight()"
            raise BadInput(Problem(f"the model answers otherwise in '{name}' when it has been saved and read back", hint=hint))
    if getattr(model, "optimizer", None) is not None:
        _write(opened, folder / main)
    files = [folder / main]
    return ModelArtifact(
        folder=folder,
        format="keras_model",
        main=main,
        inputs=specs,
        outputs=tuple(TensorSpec(name, value.dtype.name, (None, *value.shape[1:])) for name, value in outputs.items()),
        size_bytes=size_of(files),
        sha256=digest_of(files),
        steps=steps,
    )


def load(artifact: ModelArtifact) -> tf_keras.Model:
    """Open a saved model with the code that it was saved with."""
    framework()
    return _open(artifact.path, prepare(artifact))


def prepare(artifact: ModelArtifact) -> dict[str, object]:
    """Import what opening a saved model needs, and find its layers by name."""
    needed = project_code.needed_modules(artifact.folder)
    if needed:
        torch_module.restore_code(artifact.folder)
    if artifact.main == IN_TRAINING:
        with quiet():
            import tensorflow_model_optimization  # noqa: F401 - what its layers are made of
    return _custom_objects(needed)


def read_file(path: Path) -> tf_keras.Model:
    """Open a saved model from elsewhere, ``.keras`` or ``.h5``. Raises BadInput when it is none, or would run code of its own."""
    config, _ = keras_config.read_config(path)
    keras_config.refuse_code(config, path.name)
    try:
        return _open(path, {}, safe=True)
    except Exception as error:  # Keras raises whatever its layers do
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(Problem(f"{path.name} cannot be opened: {said[:300]}", key="model.keras", hint=keras_config.HINT)) from error


def call(model: tf_keras.Model, inputs: Mapping[str, object]) -> dict[str, tf.Tensor]:
    """Call a model as deployments do, in inference mode: one input by position, several by name. Outputs by name, the first one first.

    Raises BadInput when there is no tensor among the outputs.
    """
    given = next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
    return flatten(model(given, training=False), getattr(model, "output_names", None))


def flatten(outputs: object, names: Sequence[str] | None) -> dict[str, tf.Tensor]:
    """A tensor, a sequence or a mapping of tensors as a dict."""
    import tensorflow as tf

    if isinstance(outputs, tf.Tensor):
        found = {names[0] if names else "output": outputs}
    elif isinstance(outputs, Mapping):
        found = {str(name): value for name, value in outputs.items() if isinstance(value, tf.Tensor)}
    elif isinstance(outputs, Sequence):
        known = names if names and len(names) == len(outputs) else [f"output_{index}" for index in range(len(outputs))]
        found = {name: value for name, value in zip(known, outputs, strict=True) if isinstance(value, tf.Tensor)}
    else:
        found = {}
    if not found:
        raise BadInput(Problem(f"the model returned {type(outputs).__name__} without any tensor in it"))
    return found


def function_of(model: tf_keras.Model, artifact: ModelArtifact, batch_size: int | None = None, *, jit: bool = False) -> tf.ConcreteFunction:
    """A model as one graph: takes the inputs in the artifact's order, gives a dict of its outputs. The batch axis is open unless given."""
    import tensorflow as tf

    names = [spec.name for spec in artifact.inputs]
    signature = [tf.TensorSpec((batch_size, *spec.shape[1:]), spec.dtype, name=spec.name) for spec in artifact.inputs]

    @tf.function(input_signature=signature, autograph=False, jit_compile=jit or None)  # type: ignore[untyped-decorator]
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return call(model, dict(zip(names, tensors, strict=True)))

    return serve.get_concrete_function()


def variables(model: tf_keras.Model) -> list[tf.Variable]:
    """What a model holds, as TensorFlow's own variables: those of Keras 3 are wrapped."""
    return [getattr(variable, "value", variable) if generation(model) == 3 else variable for variable in model.variables]


def trained_for_int8(model: tf_keras.Model) -> bool:
    """Whether the model rounds as int8 will: it went through quantization-aware training."""
    return any(type(layer).__module__.startswith("tensorflow_model_optimization") for layer in layers(model))


def layers(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    """A model and all layers in it, at any depth."""
    return list(model._flatten_layers())


def weights(model: tf_keras.Model) -> dict[str, NDArray[np.generic]]:
    """The weights with two axes and more, by the name of their layer's variable."""
    found = {}
    for variable in model.trainable_variables:
        if len(variable.shape) >= 2:
            found[str(getattr(variable, "path", variable.name)).removesuffix(":0")] = variable.numpy()
    return found


def _write(model: tf_keras.Model, path: Path) -> None:
    with quiet():
        model.save(path)
    if path.suffix != ".keras":
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")}
    version = f'{{"keras_version": "{keras_config.read_config(path)[1]}"}}'
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, WRITTEN), version if name == "metadata.json" else content)


def _open(path: Path, custom: Mapping[str, object], *, safe: bool = False) -> tf_keras.Model:
    """What this program has written is trusted, as a pickle in its cache is; ``safe`` for other files."""
    _, version = keras_config.read_config(path)
    with quiet(), contextlib.ExitStack() as scopes:
        if version.startswith("3"):
            import keras

            return keras.saving.load_model(path, custom_objects=dict(custom), compile=False, safe_mode=safe)
        import tensorflow as tf

        if path.suffix == ".h5" and not safe:
            import tensorflow_model_optimization as tfmot

            scopes.enter_context(tfmot.quantization.keras.quantize_scope())
        return tf.keras.models.load_model(path, custom_objects=dict(custom), compile=False, safe_mode=safe)


def _input_specs(model: tf_keras.Model, example: Dataset) -> tuple[TensorSpec, ...]:
    """The model's own names and shapes where it has them, else the data's. Raises BadInput when they do not go together."""
    given = {name: (values.dtype.name, values.shape[1:]) for name, values in example.inputs.items()}
    tensors = list(getattr(model, "inputs", None) or ())
    if not tensors:
        return tuple(TensorSpec(name, dtype, (None, *shape)) for name, (dtype, shape) in given.items())
    names = list(getattr(model, "input_names", None) or [tensor.name for tensor in tensors])
    if len(given) != len(names) or (len(names) > 1 and set(names) != set(given)):
        raise BadInput(Problem(f"the model's inputs are {', '.join(names)}; the data gives {', '.join(given)}"))
    specs = []
    for name, tensor in zip(names, tensors, strict=True):
        kind, shape = getattr(tensor.dtype, "name", str(tensor.dtype)), tuple(tensor.shape)
        dtype, found = given.get(name) or next(iter(given.values()))
        if dtype != kind:
            raise BadInput(Problem(f"input '{name}' of the model is {kind}, the data gives {dtype}"))
        if len(shape) != len(found) + 1 or any(length not in (None, seen) for length, seen in zip(shape[1:], found, strict=True)):
            told = ", ".join("any" if length is None else str(length) for length in shape[1:])
            raise BadInput(Problem(f"input '{name}' of the model has the shape [{told}] of one sample, the data gives {list(found)}"))
        specs.append(TensorSpec(name, kind, (None, *shape[1:])))
    return tuple(specs)


def _homes(model: tf_keras.Model) -> set[str]:
    """The modules that the classes of a model and of its layers are from, and their activations."""
    every = layers(model)
    return {type(layer).__module__ for layer in every} | {
        str(getattr(getattr(layer, "activation", None), "__module__", "")) for layer in every
    }


def _custom_objects(modules: Sequence[str]) -> dict[str, object]:
    """The classes and functions of the project's own modules, by name."""
    found: dict[str, object] = {}
    for name in modules:
        module = sys.modules.get(name)
        parts = vars(module).items() if module is not None else ()
        found |= {key: part for key, part in parts if (inspect.isclass(part) or inspect.isfunction(part)) and part.__module__ == name}
    return found
