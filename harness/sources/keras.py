"""See Keras."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles


class Keras(Options):
    """A Keras model: a Python function beside the scenario that returns one, or a saved .keras or .h5 file.

    Written ``keras: models/net.py:build`` (the scenario's ``model.args`` are its keyword arguments) or ``keras: model.keras``. In a factory
    ``tf.keras`` is Keras 2 (the package tf_keras), which TensorFlow Model Optimization works on; models of Keras 3 (``import keras``) run
    and convert, and tfmot passes refuse them. A saved file is opened with what is Keras's own: a Lambda or another class in it is refused.
    """

    extra: ClassVar[str | None] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "keras")
    short: ClassVar[str | None] = "target"
    produces: ClassVar[str] = "keras_model"

    target: str

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        file, _, name = self.target.rpartition(":")
        if name and file.endswith(".py"):
            return SourceFiles(code=(scenario_folder / file,))
        if not self.target.endswith((".keras", ".h5", ".hdf5")):
            hint = "write 'file.py:function', or the path of a .keras or .h5 file; a SavedModel folder is 'saved_model: folder'"
            raise BadInput(Problem(f"'{self.target}' is no Keras model", hint=hint))
        return SourceFiles(files=(scenario_folder / self.target,))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Make or open the model and save it. Raises BadInput when it is none, or would run code that came with a file."""
        from harness import plugins
        from harness.formats import keras_model, tensorflow_package, user_code

        for package in ("tensorflow", "tf_keras"):
            plugins.require(package, plugin="keras", extra="tensorflow")
        tensorflow_package.framework()
        tensorflow_package.repeatable(context.seed)
        if self.depends_on(context.scenario_folder).files:
            model = keras_model.read_file(context.scenario_folder / self.target)
        else:
            model = user_code.call_factory(self.target, folder=context.scenario_folder, root=context.root, args=context.args)
        generation = keras_model.generation(model)
        if generation is None:
            raise BadInput(Problem(f"{self.target} returned {type(model).__name__}, a Keras model is needed", key="model.keras"))
        count = f"{model.count_params():,} parameters, " if model.built else ""  # a model that is built by its first call has none yet
        step = AppliedStep("keras", self.model_dump_json(), (f"{count}Keras {generation}",))
        return keras_model.save(model, context.folder, example=context.data("evaluation"), root=context.root, steps=(step,))


PLUGIN = Keras
