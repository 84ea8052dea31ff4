"""See SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles


class SavedModel(Options):
    """A TensorFlow SavedModel: a folder beside the scenario, called by its serving signature.

    Written ``saved_model: exported/net``, what ``model.export()`` or ``tf.saved_model.save`` has written. The signature is
    ``serving_default``, and the batch comes first. It is a graph: what prunes or trains Keras layers cannot take it.
    """

    extra: ClassVar[str | None] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow",)
    short: ClassVar[str | None] = "path"
    produces: ClassVar[str] = "saved_model"

    path: str

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        from harness.formats import saved_model

        folder = scenario_folder / self.path
        if not (folder / saved_model.GRAPH).is_file():
            hint = f"looked for {folder / saved_model.GRAPH}"
            raise BadInput(Problem(f"'{self.path}' is no SavedModel: it has no {saved_model.GRAPH}", hint=hint))
        return SourceFiles(files=saved_model.files_of(folder))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Copy the folder, opened once. Raises BadInput when it cannot be opened or has no serving signature."""
        from harness import plugins
        from harness.formats import saved_model

        plugins.require("tensorflow", plugin="saved_model", extra="tensorflow")
        plugins.require("tf_keras", plugin="saved_model", extra="tensorflow")
        self.depends_on(context.scenario_folder)
        step = AppliedStep("saved_model", self.model_dump_json())
        return saved_model.copy(context.scenario_folder / self.path, context.folder, (step,))


PLUGIN = SavedModel
