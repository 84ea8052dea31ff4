"""See TfliteFile."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.plugin import BuildContext, Options, SourceFiles


class TfliteFile(Options):
    """A TFLite file beside the scenario.

    Written ``tflite: model.tflite``. Neither TensorFlow nor Keras is needed to run it.
    """

    extra: ClassVar[str | None] = "litert"
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    short: ClassVar[str | None] = "path"
    produces: ClassVar[str] = "tflite"

    path: str

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        return SourceFiles(files=(scenario_folder / self.path,))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Copy the file, opened once. Raises BadInput when it is no TFLite model."""
        from harness import plugins
        from harness.formats import tflite

        plugins.require("ai_edge_litert", plugin="tflite", extra="litert")
        count = len(tflite.operators(tflite.opened(context.scenario_folder / self.path)))
        shutil.copyfile(context.scenario_folder / self.path, context.folder / tflite.MAIN)
        return tflite.describe(context.folder, (AppliedStep("tflite", self.model_dump_json(), (f"{count:,} operators",)),))


PLUGIN = TfliteFile
