"""What the passes that quantize an exported graph for torch's x86 compiler share."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext
from harness.passes import _torchao

if TYPE_CHECKING:
    import torch
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer

REACHED = ("Conv2d", "Linear")
"""The layers that the quantizer has int8 patterns for."""


def opened(name: str, artifact: ModelArtifact) -> torch.nn.Module:
    """The float module to quantize, with torchao imported.

    Raises CannotMeasure when it is quantized already, or has nothing to quantize.
    """
    from harness import plugins
    from harness.formats import torch_module
    from harness.formats.torchao_tensors import import_quietly

    for package in ("torch", "torchao"):
        plugins.require(package, plugin=name, extra="torchao")
    import_quietly()
    module = torch_module.load(artifact)
    _torchao.refuse_quantized(module)
    if not _layers(module):
        hint = f"it has {', '.join(_torchao.kinds_in(module))}"
        raise CannotMeasure(f"no {' or '.join(REACHED)} layer to quantize in this module", hint=hint)
    return module


def quantizer(name: str, module: torch.nn.Module, exclude: Sequence[str], *, reduce_range: bool, training: bool) -> X86InductorQuantizer:
    """The quantizer for x86 CPUs, told which layers to leave. Raises BadInput for a name to exclude that is none of the layers'."""
    from harness.formats.torchao_tensors import quiet

    with quiet():  # the import brings torch's compiler, parts of which torch itself calls deprecated
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
            X86InductorQuantizer,
            get_default_x86_inductor_quantization_config,
        )

    class Quantizer(X86InductorQuantizer):  # type: ignore[misc]  # torchao is not followed by the type checker
        def annotate(self, graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
            _tell_calls_apart(graph)
            try:
                return super().annotate(graph)
            except (ValueError, IndexError, AssertionError, AttributeError) as error:  # what it raises for a pattern it did not foresee
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                hint = f"name the layers beside it in '{name}: {{exclude: [...]}}'"
                raise CannotMeasure(f"torchao's quantizer does not understand this graph: {reason}", hint=hint) from error

    chosen = Quantizer().set_global(get_default_x86_inductor_quantization_config(is_qat=training, reduce_range=reduce_range))
    for layer in sorted(_torchao.excluded(name, exclude, _layers(module))):
        chosen.set_module_name_qconfig(layer, None)
    return chosen


def finish(
    name: str, prepared: torch.fx.GraphModule, artifact: ModelArtifact, context: BuildContext, options: str, notes: Iterable[str]
) -> ModelArtifact:
    """Turn observed ranges into int8 weights and quantize and dequantize nodes, prove it, and save the program.

    Raises CannotMeasure when no layer ended up in int8, naming those of the graph, or when a range is not finite.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    from harness.formats import exported_program
    from harness.formats.torchao_tensors import quiet

    with quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):  # torchao draws the examples with which it looks for patterns
        graph = convert_pt2e(prepared)
    refuse_random(graph)
    layers = exported_program.compute_layers(graph.graph)
    done = [layer for layer, quantized in layers.items() if quantized]
    if not done:
        raise CannotMeasure(f"'{name}' quantized nothing in this graph", hint=f"its layers are {', '.join(layers)}")
    scales = [node.args[1] for node in graph.graph.nodes if str(node.target) == "quantized_decomposed.quantize_per_tensor.default"]
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise CannotMeasure("the calibration samples gave a range that is not finite", hint="look for NaN or inf in data.calibration")
    left = [layer for layer, quantized in layers.items() if not quantized]
    told = f"{len(done)} of {len(layers)} convolutions and linear operators quantized"
    if left:
        told += f"; in float: {', '.join(left[:5])}{f' and {len(left) - 5} more' if len(left) > 5 else ''}"
    counts = exported_program.operators(graph.graph)
    quantize = sum(count for operator, count in counts.items() if "quantized_decomposed.quantize" in operator)
    dequantize = sum(count for operator, count in counts.items() if "dequantize" in operator)
    nodes = f"{quantize} quantize and {dequantize} dequantize nodes; int8 weights, a scale for each channel; uint8 activations"
    step = AppliedStep(name, options, (told, nodes, *notes, *_embeddings(counts["aten.embedding"])))
    example = context.data("evaluation")
    return exported_program.save(graph, context.folder, example=example, outputs=artifact.outputs, steps=(*artifact.steps, step))


def follow_modes(graph: torch.fx.GraphModule) -> None:
    """Let an exported graph that is prepared for training take ``train()`` and ``eval()``.

    Batch norm and dropout follow, as torchao lets them, and ranges are learned in training only: held-out samples move none.
    """
    from torchao.quantization.pt2e import disable_observer, enable_observer, move_exported_model_to_eval, move_exported_model_to_train

    from harness.formats.torchao_tensors import quiet

    def train(self: torch.fx.GraphModule, mode: bool = True) -> torch.fx.GraphModule:
        with quiet():
            (move_exported_model_to_train if mode else move_exported_model_to_eval)(self)
        return self.apply(enable_observer if mode else disable_observer)

    graph.train = types.MethodType(train, graph)
    graph.eval = types.MethodType(lambda self: train(self, False), graph)


def without_attention_dropout(graph: torch.fx.GraphModule) -> int:
    """Switch off the dropout inside fused attention, which nothing would switch off after training; how often there was any."""
    import torch

    count = 0
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.scaled_dot_product_attention.default and len(node.args) > 4 and node.args[4]:
            node.args = (*node.args[:4], 0.0, *node.args[5:])
            count += 1
    graph.recompile()
    return count


def refuse_random(graph: torch.fx.GraphModule) -> None:
    """Raises CannotMeasure when a graph in eval mode still draws random numbers, or still learns the ranges of a batch norm."""
    import torch

    for node in graph.graph.nodes:
        name = str(node.target)
        if name.startswith("aten.batch_norm"):
            active = bool(node.args[5])
        elif name.startswith("aten.dropout"):
            active = bool(node.args[2])
        elif name.startswith("aten.scaled_dot_product_attention"):
            active = len(node.args) > 4 and bool(node.args[4])
        else:
            active = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if active:
            raise CannotMeasure(f"'{name}' stays in training mode in this graph (node '{node.name}')", hint="use pt2e_static_int8 instead")


def batches(data: Dataset, count: int, size: int = 16) -> Iterable[dict[str, torch.Tensor]]:
    """The first ``count`` samples in batches of ``size``; the last may be shorter."""
    import torch

    for start in range(0, count, size):
        batch = data.batch(start, min(size, count - start))
        yield {name: torch.from_numpy(values) for name, values in batch.items()}


def _tell_calls_apart(graph: torch.fx.GraphModule) -> None:
    """Give each call of a layer that is called more than once (an activation that a block shares) a name of its own.

    The quantizer looks for patterns by layer, and takes all calls of one for a single operator with many outputs, which it refuses. That
    torch.export has told calls apart is in the key (``L__self__act@1``) and not in the name that is looked at.
    """
    import torch

    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in vars(torch.nn).values() if isinstance(kind, type)}
    for node in graph.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if node.op != "call_function" or not stack or "source_fn_stack" in node.meta:
            continue
        key, (name, kind) = list(stack.items())[-1]
        call = key.rpartition("@")[2]
        if "@" in key and call.isdigit() and (found := kind if isinstance(kind, type) else kinds.get(kind)) is not None:
            node.meta["source_fn_stack"] = [(f"{name}@{call}", found)]


def _layers(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    import torch

    return _torchao.layers_of(module, [getattr(torch.nn, kind) for kind in REACHED])


def _embeddings(count: int) -> tuple[str, ...]:
    return (f"{count} embeddings left in float: torchao_int8_weight_only reaches them",) if count else ()
