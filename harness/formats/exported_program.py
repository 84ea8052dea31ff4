"""The format ``exported_program``: one ``.pt2`` file, a graph of torch's operators with its weights, as torch.export saves it.

It needs none of the project's code to open. The batch axis is of any length; outputs come by name, the principal one first. What
torch.export notes of the machine that it ran on (places of source files, example inputs) is left out: equal programs are equal files.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact, TensorSpec
from harness.core.errors import CannotMeasure
from harness.formats.files import digest_of, size_of
from harness.formats.torch_module import flatten
from harness.formats.torchao_tensors import quiet

if TYPE_CHECKING:
    import torch

MAIN = "model.pt2"
COMPUTE = ("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear")
"""Operators of aten that multiply by weights, in the form that torch.export gives them."""


def capture(module: torch.nn.Module, example: Dataset) -> torch.export.ExportedProgram:
    """A module's graph through torch.export, for batches of any size, its outputs by name.

    Raises CannotMeasure when torch.export cannot follow the module.
    """
    import torch

    inputs = {name: torch.from_numpy(values[:2].copy()) for name, values in example.inputs.items()}
    batch = {0: torch.export.Dim("batch")}
    single = len(inputs) == 1
    args, kwargs = (tuple(inputs.values()), {}) if single else ((), inputs)
    own = module.__dict__.get("forward")
    if not isinstance(module, torch.fx.GraphModule):
        module.forward = _by_name(module.forward)
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(module, args, kwargs, dynamic_shapes=(batch,) if single else dict.fromkeys(inputs, batch))
        except Exception as error:  # torch.export wraps whatever the model's code raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = "its forward must not depend on the values of tensors, nor on the size of the batch"
            raise CannotMeasure(f"torch.export cannot export this module: {reason}", hint=hint) from error
        finally:
            if own is not None:
                module.forward = own
            else:
                module.__dict__.pop("forward", None)


def save(
    graph: torch.fx.GraphModule, folder: Path, *, example: Dataset, outputs: tuple[TensorSpec, ...], steps: tuple[AppliedStep, ...]
) -> ModelArtifact:
    """Write a graph that came of ``capture``, without the weights that nothing in it uses any more, and describe it."""
    import torch

    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for kept in (graph._parameters, graph._buffers):
        for name in [name for name in kept if name not in used]:
            del kept[name]
    for part_name, part in list(graph.named_modules()):
        for kept in (part._parameters, part._buffers):
            for name in [name for name in kept if f"{part_name}.{name}".removeprefix(".") not in used]:
                del kept[name]
    program = capture(graph, example)
    for node in program.graph.nodes:
        for note in ("stack_trace", "source_fn_stack", "from_node", "custom"):
            node.meta.pop(note, None)
    program.example_inputs = None
    path = folder / MAIN
    with quiet():
        torch.export.save(program, path)
    inputs = tuple(TensorSpec(name, str(values.dtype), (None, *values.shape[1:])) for name, values in example.inputs.items())
    return ModelArtifact(folder, "exported_program", MAIN, inputs, outputs, size_of([path]), digest_of([path]), steps)


def read(artifact: ModelArtifact) -> torch.export.ExportedProgram:
    """The program itself: its graph, and its weights by name in ``state_dict``."""
    import torch
    import torch.ao.quantization.fx._decomposed  # registers quantize and dequantize, without which a quantized program cannot be read

    with quiet(), artifact.path.open("rb") as file:
        return torch.export.load(file)


def load(artifact: ModelArtifact) -> torch.nn.Module:
    """The program as a module, called as it was exported: one input by position, several by name."""
    module: torch.nn.Module = read(artifact).module()
    return module


def operators(graph: torch.fx.Graph) -> Counter[str]:
    """How often each operator is called, by its name without the overload: "aten.conv2d"."""
    return Counter(str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "call_function")


def compute_layers(graph: torch.fx.Graph) -> dict[str, bool]:
    """Each operator that multiplies by weights, by its layer's name, and whether it does in int8.

    It does where its input and its weight both come through a dequantize, the weight as int8: a compiler fuses that form. Called more than
    once in a forward, a layer has a number behind its name.
    """
    found: dict[str, bool] = {}
    for node in graph.nodes:
        kind = str(node.target).split(".")
        if node.op == "call_function" and kind[0] == "aten" and kind[1] in COMPUTE:
            stack = list(node.meta.get("nn_module_stack", {}).values())
            layer = str(stack[-1][0]).removeprefix("L['self'].") if stack else node.name
            name = layer if layer not in found else f"{layer} ({sum(one.split(' (')[0] == layer for one in found) + 1})"
            found[name] = all("dequantize" in str(getattr(source, "target", "")) for source in node.args[:2])
    return found


def _by_name(forward: Callable[..., object]) -> Callable[..., Mapping[str, torch.Tensor]]:
    """A forward that gives its outputs by name. A mapping class of a library's own would make the file need that library."""
    named = functools.partial(_flattened, forward)
    named.__wrapped__ = forward  # type: ignore[attr-defined]  # torch.export reads the arguments' names from the signature
    return named


def _flattened(forward: Callable[..., object], /, *args: object, **kwargs: object) -> Mapping[str, torch.Tensor]:
    return flatten(forward(*args, **kwargs))
