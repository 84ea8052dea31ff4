"""See Autocast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import CannotMeasure
from harness.core.plugin import BuildContext, DataRole, Options
from harness.passes import _torch_layers as layers

if TYPE_CHECKING:
    import torch

WHOLE_LAYERS = ("_transformer_encoder_layer_fwd", "_native_multi_head_attention")
"""Torch's fused layers: on a CPU autocast does not reach into them."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "_convolution", "mkldnn_rnn_layer", "_scaled_dot_product_", *WHOLE_LAYERS)
"""Operators, as torch dispatches them, that do the arithmetic of a network."""


class Autocast(Options):
    """Run a torch module under torch.autocast: weights stay float32, products are computed in ``dtype``.

    Weights are cast in every call, so where they are what a call spends its time on, the pass ``bfloat16`` is the quicker one. Operators
    that torch holds to be unsafe in half precision (softmax, norms, losses) stay in float32.
    """

    extra: ClassVar[str | None] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    accepts: ClassVar[tuple[str, ...]] = ("torch_module",)
    produces: ClassVar[str] = "torch_module"
    needs: ClassVar[tuple[DataRole, ...]] = ("evaluation",)

    dtype: Literal["bfloat16", "float16"] = "bfloat16"

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Replace the forward. Raises CannotMeasure when no product is computed in ``dtype``, or the module gives NaN."""
        from harness import plugins
        from harness.formats import precision, torch_module

        plugins.require("torch", plugin="autocast", extra="torch")
        import numpy as np

        module = torch_module.load(artifact)
        if (before := precision.autocast_of(module)) is not None:
            raise CannotMeasure(f"this module runs under autocast to {before} already", hint="keep one of the recipe's autocast passes")
        data = context.data("evaluation")
        inputs = layers.fitting_tensors(module, data, min(layers.SAMPLES, data.count))
        expected = layers.answers(module, inputs)
        untouched = _products(module, inputs)
        precision.autocast_around(module, self.dtype)
        got = layers.answers_after("autocast", module, inputs, "leave autocast out for this model, or use the pass bfloat16")
        products = _products(module, inputs)
        if products[self.dtype] <= untouched[self.dtype]:
            found = ", ".join(f"{count} in {name}" for name, count in sorted(untouched.items())) or "none at all"
            raise CannotMeasure(
                f"autocast changed nothing: none of this module's products would be computed in {self.dtype} that was not before",
                hint=f"matrix products and convolutions of a call: {found}",
            )
        if not all(np.isfinite(value).all() for value in got if np.issubdtype(value.dtype, np.inexact)):
            hint = "use autocast: {dtype: bfloat16}, whose range is float32's" if self.dtype == "float16" else None
            raise CannotMeasure(f"under autocast to {self.dtype} this module gives NaN or infinity", hint=hint)
        total = sum(products.values())
        rest = ", ".join(f"{count} in {name}" for name, count in sorted(products.items()) if name != self.dtype)
        notes = [
            f"{products[self.dtype]} of {total} matrix products and convolutions of a call in {self.dtype}{f'; {rest}' if rest else ''}"
        ]
        notes.append(f"largest difference {layers.difference(expected, got):.2g} of the largest output")
        if warning := precision.emulation(self.dtype):
            notes.append(f"where it was built, {warning}")
        step = AppliedStep("autocast", self.model_dump_json(), tuple(notes))
        return torch_module.save(module, context.folder, example=data, root=context.root, steps=(*artifact.steps, step))


def _products(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Counter[str]:
    """How many products one call computes in each dtype, as torch dispatches them."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from harness.formats import torch_module

    counts: Counter[str] = Counter()

    class Counting(TorchDispatchMode):  # type: ignore[misc]  # torch is not followed by the type checker
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001
            given = func(*args, **(kwargs or {}))
            first = given[0] if isinstance(given, tuple | list) else given
            name = func.overloadpacket.__name__
            if isinstance(first, torch.Tensor) and name.startswith(PRODUCTS):
                where = " inside torch.nn's fused transformer layers" if name in WHOLE_LAYERS else ""
                counts[str(first.dtype).removeprefix("torch.") + where] += 1
            return given

    with torch.no_grad(), Counting():  # in inference mode composite operators are dispatched whole
        torch_module.invoke(module, inputs)
    return counts


PLUGIN = Autocast
