"""See TorchCompile."""

from __future__ import annotations

import shutil
import time
import warnings
from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torch_layers as layers

if TYPE_CHECKING:
    from pathlib import Path

    import torch


class TorchCompile(Options):
    """Compile a torch module ahead of time with AOTInductor, into a package that opens without compiling again.

    The package holds machine code for the CPU that it was built on. It takes any batch size, or only ``batch_size``, for which Inductor
    then chooses its loops. ``max_autotune`` tries kernels out. The package is run against the module at batch sizes that were not
    exported; a difference beyond ``tolerance`` (relative to the largest output; by default 0.001, and 0.05 in half precision) is refused.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "aot_inductor"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    batch_size: PositiveInt | None = None
    max_autotune: bool = False
    tolerance: float | None = None

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Export, compile, package, compare. Raises CannotMeasure without a C++ compiler, or when a step fails."""
        from harness import plugins
        from harness.formats import aot_inductor, torch_module

        plugins.require("torch", plugin="torch_compile", extra="torch")
        compiler = aot_inductor.require_compiler()
        module = torch_module.load(artifact)
        data = context.data("evaluation")
        layers.give_plain_outputs(module)
        scratch = context.folder / "scratch"
        begin = time.perf_counter()
        try:
            with aot_inductor.inductor_in(scratch), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own deprecations, which nobody here can follow
                operators = self._compile(module, data, context.folder / aot_inductor.MAIN)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        seconds = time.perf_counter() - begin
        package = aot_inductor.Package(context.folder / aot_inductor.MAIN)
        worst = self._largest_difference(module, package, data)
        tolerance = self.tolerance if self.tolerance is not None else (0.05 if layers.computes_in_half(module) else 1e-3)
        if not worst <= tolerance:
            raise CannotMeasure(
                f"the compiled package differs from the module by {worst:.3g} of the largest output, more than {tolerance:g}",
                hint="raise torch_compile's 'tolerance' if that is fine for this model's outputs",
            )
        sizes = "any batch size" if self.batch_size is None else f"batch size {self.batch_size} only"
        isa = package.metadata.get("AOTI_CPU_ISA", "no vector instructions")
        notes = (f"{operators} operators compiled for {sizes} in {seconds:.0f} s with {compiler}", f"for a CPU with {isa}")
        step = AppliedStep("torch_compile", self.model_dump_json(), (*notes, f"largest difference {worst:.2g}"))
        outputs = torch_module.call(module, layers.tensors(data, 2))
        return aot_inductor.describe(
            context.folder, example=data, outputs=outputs, batch_size=self.batch_size, steps=(*artifact.steps, step)
        )

    def _compile(self, module: torch.nn.Module, data: Dataset, into: Path) -> int:
        """Write the package; how many operators were exported."""
        import torch
        import torch._inductor

        from harness.formats import precision

        inputs = layers.fitting_tensors(module, data, self.batch_size or 2)
        axes = {0: torch.export.Dim("batch", min=1)} if self.batch_size is None else {}
        single = len(inputs) == 1
        settings = {
            "max_autotune": self.max_autotune,
            "cpp_cache_precompile_headers": False,  # made once for all compilations: here there is only one
            "cpp.dynamic_threads": True,  # as many threads as the session has, not as the builder had
            "aot_inductor.metadata": {
                "harness_precision": _precision(module),
                "harness_autocast": precision.autocast_of(module) or "",
                "harness_input": str(precision.input_dtype(module)).removeprefix("torch."),
            },
        }
        try:
            with torch.no_grad():
                program = torch.export.export(
                    module,
                    tuple(inputs.values()) if single else (),
                    None if single else inputs,
                    dynamic_shapes=(axes,) if single else dict.fromkeys(inputs, axes),
                )
                torch._inductor.aoti_compile_and_package(program, package_path=str(into), inductor_configs=settings)
        except Exception as error:  # export and compiler wrap whatever the model's code raises
            raise CannotMeasure(
                f"AOTInductor cannot compile this module: {layers.first_line(error)}",
                hint="the runtime 'torch_compile' compiles it when it is first called, around what cannot be exported",
            ) from error
        return sum(node.op == "call_function" for node in program.graph.nodes)

    def _largest_difference(self, module: torch.nn.Module, package: object, data: Dataset) -> float:
        import torch

        from harness.formats import torch_module

        worst = []
        for start, size in ((2, self.batch_size or 1), (3, self.batch_size or 3)):
            inputs = layers.fitting_tensors(module, data, size, start)
            expected = layers.answers(module, inputs)
            with torch.inference_mode():
                got = torch_module.flatten(torch_module.invoke(package, inputs))  # called like a module
            worst.append(layers.difference(expected, torch_module.arrays(got)))
        return max(worst, key=lambda value: float("inf") if value != value else value)


def _precision(module: torch.nn.Module) -> str:
    from collections import Counter

    sizes: Counter[str] = Counter()
    for value in module.parameters():
        sizes[str(value.dtype).removeprefix("torch.")] += value.numel()
    total = sum(sizes.values())
    return " + ".join(f"{name} ({count / total:.0%})" if len(sizes) > 1 else name for name, count in sizes.most_common()) or "no parameters"


PLUGIN = TorchCompile
