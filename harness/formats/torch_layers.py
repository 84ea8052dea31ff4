"""Layers of a torch module before and after its passes, side by side: a hook on the one before asks the other for the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from harness.core.artifact import ModelArtifact
from harness.formats import exported_program, precision, torch_module
from harness.formats.layers import Sums
from harness.formats.torchao_tensors import quiet

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

UNFIT = (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError)
"""What a layer raises that takes other inputs than it took before."""
Batches = Iterable[Mapping[str, "NDArray[np.generic]"]]


def compared(before: ModelArtifact, after: ModelArtifact, batches: Batches) -> Sums:
    """Sums of squares for each layer with weights of its own; what the models raise passes through."""
    import torch

    from harness.formats.torchao_tensors import import_quietly

    if any(step.plugin.startswith(("torchao", "pt2e", "qat")) for step in after.steps):
        import_quietly()
    sums = Sums()
    reference = torch_module.load(before)
    asked = _Module(after, sums) if after.format == "torch_module" else _Program(after, sums)
    with quiet(), torch.inference_mode(), ExitStack() as hooks:
        for name, part in reference.named_modules():
            if name and (part._parameters or part._buffers):
                hooks.callback(part.register_forward_hook(asked.hook(name), with_kwargs=True).remove)
        for batch in batches:
            inputs = {key: torch.from_numpy(values.copy()) for key, values in batch.items()}
            torch_module.call(reference, inputs)
            asked.end_of_batch(inputs)
    return sums


class _Module:
    """A module that is asked layer by layer, as soon as the layer before it has answered."""

    def __init__(self, artifact: ModelArtifact, sums: Sums) -> None:
        self.module = torch_module.load(artifact)
        self.layers = dict(self.module.named_modules())
        self.autocast = precision.autocast_of(self.module)
        self.sums = sums

    def hook(self, name: str) -> Callable[..., None]:
        return lambda part, args, kwargs, output: self._ask(name, type(part).__name__, args, kwargs, output)

    def end_of_batch(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Everything is asked already."""

    def _ask(self, name: str, kind: str, args: Any, kwargs: Any, output: object) -> None:
        import torch
        from torch.utils._pytree import tree_map_only

        layer = self.layers.get(name)
        if layer is None:
            return
        wanted = precision.input_dtype(layer)
        args, kwargs = tree_map_only(torch.Tensor, lambda value: value.to(wanted) if value.is_floating_point() else value, (args, kwargs))
        try:
            with torch.autocast("cpu", getattr(torch, self.autocast)) if self.autocast else nullcontext():
                answer = layer(*args, **kwargs)
        except UNFIT:
            return  # a layer that has lost channels: it has no output that could be compared
        _add(self.sums, name, kind, output, answer)


class _Program:
    """An exported program, which has operators in place of layers: each is asked at the end of a batch, in one run of the graph."""

    def __init__(self, artifact: ModelArtifact, sums: Sums) -> None:
        self.graph = exported_program.load(artifact)
        self.sums = sums
        self.given: dict[str, tuple[str, Any, Any]] = {}
        self._last: tuple[str, object] | None = None

    def hook(self, name: str) -> Callable[..., None]:
        return lambda part, args, kwargs, output: self._note(name, type(part).__name__, args, output)

    def _note(self, name: str, kind: str, args: Any, output: object) -> None:
        """What a layer took and gave. A batch norm right behind one is folded into it in the graph, so what it gives is the layer's."""
        if "BatchNorm" in kind and self._last is not None and args and args[0] is self._last[1]:
            convolution = self._last[0]
            kept, taken, _ = self.given[convolution]
            self.given[convolution] = (kept, taken, output)
        elif args and name not in self.given:
            self.given[name] = (kind, args[0], output)
        self._last = (name, output)

    def end_of_batch(self, inputs: Mapping[str, torch.Tensor]) -> None:
        import torch

        program, names = self, layer_names(self.graph.graph)

        class Asking(torch.fx.Interpreter):  # type: ignore[misc]  # torch is not followed by the type checker
            def run_node(self, node: torch.fx.Node) -> Any:
                if (layer := program.given.get(names.get(node, ""))) is not None:
                    kind, taken, output = layer
                    _add(program.sums, names[node], kind, output, self._ask(node, taken))
                return super().run_node(node)

            def _ask(self, node: torch.fx.Node, taken: Any) -> Any:
                """What an operator gives for what its layer took, rounded on its way in as the graph does it."""
                rounding: list[torch.fx.Node] = []
                source = node.args[0]
                while isinstance(source, torch.fx.Node) and "quantize" in str(source.target):
                    rounding.append(source)
                    source = source.args[0]
                for step in (*reversed(rounding), node):
                    args, kwargs = (self.map_nodes_to_values(given, step) for given in (step.args[1:], step.kwargs))
                    taken = step.target(taken, *args, **kwargs)
                return taken

        places = [str(node.target) for node in self.graph.graph.nodes if node.op == "placeholder"]
        values = list(inputs.values()) if len(places) == 1 else [inputs[place] for place in places]
        Asking(self.graph).run(*values, enable_io_processing=False)
        self.given.clear()
        self._last = None


def layer_names(graph: torch.fx.Graph) -> dict[torch.fx.Node, str]:
    """The layer that each operator with weights was in the module that was exported; of a layer called twice, the first call."""
    found: dict[torch.fx.Node, str] = {}
    for node in graph.nodes:
        kind = str(node.target).split(".")
        if node.op == "call_function" and kind[0] == "aten" and kind[1] in exported_program.COMPUTE:
            stack = list(node.meta.get("nn_module_stack", {}).values())
            name = str(stack[-1][0]).removeprefix("L['self'].") if stack else ""
            if name and name not in found.values():
                found[node] = name
    return found


def _add(sums: Sums, name: str, kind: str, before: object, after: object) -> None:
    """The first floating tensor of both answers."""
    import torch
    from torch.utils._pytree import tree_leaves

    old, new = (
        next((leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()), None)
        for output in (before, after)
    )
    if old is not None and new is not None:
        sums.add(name, kind, old.float().numpy(), new.float().numpy())
