"""See TorchHub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles

WEIGHTS_ALONE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class TorchHub(Options):
    """A model by name from torchvision (``torch_hub: resnet50``) or from a local torch hub repository (``{name:, repo: ./folder}``).

    ``weights`` names torchvision weights such as DEFAULT (fetched by torchvision, read as weights alone); without, they are drawn from the
    seed. A local repository is code of the project, as a factory is. Needs an
    installed torchvision that matches torch (this path is unverified where no such build exists). Remote hub repositories are not
    run: clone them into the project and give the folder.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision")
    short: ClassVar[str | None] = "name"
    produces: ClassVar[str] = "torch_module"

    name: str
    repo: str | None = None
    weights: str | None = None

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        if self.repo is None:
            return SourceFiles(names=(f"torchvision:{self.name}:{self.weights}",))
        return SourceFiles(code=(scenario_folder / self.repo / "hubconf.py",))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Make the model. Raises CannotMeasure when torchvision is missing or does not load, BadInput for an unknown name."""
        from harness import plugins
        from harness.formats import torch_module, user_code

        plugins.require("torch", plugin="torch_hub", extra="torch")
        import torch

        torch.manual_seed(context.seed)
        if self.repo is not None:
            target = f"{self.repo}/hubconf.py:{self.name}"
            module = user_code.call_factory(target, folder=context.scenario_folder, root=context.root, args=context.args)
        else:
            plugins.require("torchvision", plugin="torch_hub", extra="torch")
            try:
                from torchvision import models
            except (ImportError, RuntimeError) as error:
                hint = "install the torchvision that belongs to this torch"
                raise CannotMeasure(f"torchvision does not load with torch {torch.__version__}: {error}", hint=hint) from error
            if self.name not in models.list_models():
                raise BadInput(Problem(f"torchvision has no model '{self.name}'", key="model.torch_hub"))
            with _weights_alone():
                module = models.get_model(self.name, weights=self.weights, **context.args)
        if not isinstance(module, torch.nn.Module):
            raise BadInput(Problem(f"'{self.name}' gave {type(module).__name__}, a torch.nn.Module is needed", key="model.torch_hub"))
        step = AppliedStep("torch_hub", self.model_dump_json())
        return torch_module.save(module, context.folder, example=context.data("evaluation"), root=context.root, steps=(step,))


@contextmanager
def _weights_alone() -> Iterator[None]:
    """torch.load reads no other pickle here, whatever it is asked for: torchvision asks for one."""
    before = os.environ.get(WEIGHTS_ALONE)
    os.environ[WEIGHTS_ALONE] = "1"
    try:
        yield
    finally:
        del os.environ[WEIGHTS_ALONE]
        if before is not None:
            os.environ[WEIGHTS_ALONE] = before


PLUGIN = TorchHub
