"""See OnnxFile."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles


class OnnxFile(Options):
    """An ONNX file beside the scenario, with its external data.

    Written ``onnx: model.onnx``.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnx",)
    short: ClassVar[str | None] = "path"
    produces: ClassVar[str] = "onnx"

    path: str

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        from harness.formats.onnx_model import external_names

        file = scenario_folder / self.path
        named = (file.parent / name for name in external_names(file))
        return SourceFiles(files=(file, *(data for data in named if data.is_file())))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Copy the file and its data, checked. Raises BadInput when it is no valid ONNX model or its data are missing."""
        from harness import plugins
        from harness.formats import onnx_model

        plugins.require("onnx", plugin="onnx", extra="onnx")
        import onnx

        source = context.scenario_folder / self.path
        try:
            onnx.checker.check_model(str(source))
            model = onnx.load(source, load_external_data=False)
        except (onnx.checker.ValidationError, ValueError, OSError, RuntimeError) as error:
            raise BadInput(Problem(f"{self.path} is not a valid ONNX model: {str(error).splitlines()[0]}", key="model.onnx")) from error
        except Exception as error:
            if type(error).__name__ != "DecodeError":  # protobuf's own class has moved between its versions
                raise
            raise BadInput(Problem(f"{self.path} is not an ONNX file", key="model.onnx")) from error
        for data in onnx_model.external_files(model, source.parent):
            into = context.folder / data.relative_to(source.parent)
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data, into)
        shutil.copyfile(source, context.folder / onnx_model.MAIN)
        count = sum(onnx_model.operators(model).values())
        return onnx_model.describe(context.folder, (AppliedStep("onnx", self.model_dump_json(), (f"{count:,} nodes",)),))


PLUGIN = OnnxFile
