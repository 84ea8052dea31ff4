"""See Factory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, Problem
from harness.core.plugin import BuildContext, Options, SourceFiles


class Factory(Options):
    """A Python function in a file beside the scenario that returns a torch.nn.Module.

    Written ``factory: models/net.py:build``; the scenario's ``model.args`` are its keyword arguments. The module is put in eval mode.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    short: ClassVar[str | None] = "target"
    produces: ClassVar[str] = "torch_module"

    target: str

    def depends_on(self, scenario_folder: Path) -> SourceFiles:
        return SourceFiles(code=(scenario_folder / self.target.rpartition(":")[0],))

    def load(self, context: BuildContext) -> ModelArtifact:
        """Call the factory and save the module. Raises BadInput when it returns anything else."""
        from harness import plugins
        from harness.formats import torch_module, user_code

        plugins.require("torch", plugin="factory", extra="torch")
        import torch

        torch.manual_seed(context.seed)  # the factory runs in a process of its own: nobody else draws from this generator
        module = user_code.call_factory(self.target, folder=context.scenario_folder, root=context.root, args=context.args)
        if not isinstance(module, torch.nn.Module):
            raise BadInput(Problem(f"{self.target} returned {type(module).__name__}, a torch.nn.Module is needed", key="model.factory"))
        count = sum(parameter.numel() for parameter in module.parameters())
        step = AppliedStep("factory", self.model_dump_json(), (f"{count:,} parameters",))
        return torch_module.save(module, context.folder, example=context.data("evaluation"), root=context.root, steps=(step,))


PLUGIN = Factory
