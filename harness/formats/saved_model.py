"""The format ``saved_model``: TensorFlow's SavedModel, a folder of a graph and its variables, which is called by its serving signature."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.core.errors import BadInput, Problem
from harness.formats.files import digest_of, size_of
from harness.formats.tensorflow_package import framework, quiet

if TYPE_CHECKING:
    import tensorflow as tf

FOLDER = "saved_model"
GRAPH = "saved_model.pb"
SIGNATURE = "serving_default"
NOT_SHIPPED = ("keras_metadata.pb", "fingerprint.pb")
"""What is not read to serve the model. The first may hold code, the second numbers that are drawn anew whenever a model is saved."""


def files_of(folder: Path) -> tuple[Path, ...]:
    """The files of a SavedModel that are read to serve it, sorted; a link to elsewhere is the caller's to refuse."""
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_SHIPPED))


def copy(source: Path, into: Path, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
    """Copy a SavedModel and describe it by its signature. Raises BadInput when it cannot be opened, or has no such signature."""
    for file in files_of(source):
        place = into / FOLDER / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    _, function = load(into / FOLDER)
    files = list(files_of(into / FOLDER))
    return ModelArtifact(
        folder=into,
        format="saved_model",
        main=f"{FOLDER}/{GRAPH}",
        inputs=tuple(_spec(name, spec) for name, spec in function.structured_input_signature[1].items()),
        outputs=tuple(_spec(name, spec) for name, spec in function.structured_outputs.items()),
        size_bytes=size_of(files),
        sha256=digest_of(files),
        steps=steps,
    )


def load(folder: Path) -> tuple[object, tf.ConcreteFunction]:
    """The loaded object, which owns the variables, and its serving function. Raises BadInput when there is none."""
    tf = framework()
    with quiet():
        try:
            loaded = tf.saved_model.load(str(folder))
        except (ValueError, OSError, RuntimeError, AttributeError, KeyError, tf.errors.OpError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(Problem(f"{folder.name} cannot be opened as a SavedModel: {said[:300]}", key="model.saved_model")) from error
    signatures = dict(getattr(loaded, "signatures", {}))
    if SIGNATURE not in signatures:
        told = ", ".join(sorted(signatures)) or "none"
        hint = f"save it with model.export(), or tf.saved_model.save(..., signatures={{'{SIGNATURE}': function}})"
        message = f"the SavedModel has no signature '{SIGNATURE}'; its signatures: {told}"
        raise BadInput(Problem(message, key="model.saved_model", hint=hint))
    return loaded, signatures[SIGNATURE]


def _spec(name: str, spec: tf.TensorSpec) -> TensorSpec:
    if spec.shape.rank is None:
        raise BadInput(Problem(f"'{name}' of the SavedModel has no known number of axes", key="model.saved_model"))
    return TensorSpec(name, spec.dtype.name, tuple(spec.shape))
