"""See TorchScriptFile."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact, TensorSpec
from harness.core.errors import BadInput, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles


class TorchScriptFile(Options):
    """A TorchScript file (torch.jit.save) beside the scenario.

    Written ``torchscript: model.pt``. TorchScript is deprecated upstream; PyTorch 2.13 still opens it.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    short: ClassVar[str | None] = "path"
    produces: ClassVar[str] = "torchscript"

    path: str

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        return SourceFiles(files=(scenario_folder / self.path,))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Copy the file; call it once on evaluation samples. Raises BadInput when it is not TorchScript or cannot be called."""
        from harness import plugins
        from harness.formats import torch_module
        from harness.formats.files import digest_of, size_of

        plugins.require("torch", plugin="torchscript", extra="torch")
        import torch

        main = context.folder / "model.pt"
        shutil.copyfile(context.scenario_folder / self.path, main)
        example = context.data("evaluation").inputs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                module = torch.jit.load(str(main), map_location="cpu")
                outputs = torch_module.call(module, {name: torch.from_numpy(values[:2].copy()) for name, values in example.items()})
            except (RuntimeError, ValueError) as error:
                message = f"{self.path} cannot be opened and called as TorchScript: {str(error).strip().splitlines()[-1]}"
                raise BadInput(Problem(message, key="model.torchscript")) from error
        return ModelArtifact(
            folder=context.folder,
            format="torchscript",
            main=main.name,
            inputs=tuple(TensorSpec(name, str(values.dtype), (None, *values.shape[1:])) for name, values in example.items()),
            outputs=tuple(
                TensorSpec(name, str(value.dtype).removeprefix("torch."), (None, *value.shape[1:])) for name, value in outputs.items()
            ),
            size_bytes=size_of([main]),
            sha256=digest_of([main]),
            steps=(AppliedStep("torchscript", self.model_dump_json()),),
        )


PLUGIN = TorchScriptFile
