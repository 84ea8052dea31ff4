"""Layers that compute, while they are trained, as they will when torchao has quantized them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torchao.quantization.qat.fake_quantize_config import FakeQuantizeConfigBase

Mapping = Literal["symmetric", "asymmetric"]


def int8_rows(bits: int) -> FakeQuantizeConfigBase:
    """Symmetric, with a scale for each row: of weights, and of symmetric activations."""
    import torch
    from torchao.quantization.qat import IntxFakeQuantizeConfig

    return IntxFakeQuantizeConfig(getattr(torch, f"int{bits}"), "per_channel", is_symmetric=True)


def int8_tokens(bits: int) -> FakeQuantizeConfigBase:
    """Asymmetric, with a scale and a zero point for each row, which torchao calls a token."""
    import torch
    from torchao.quantization.qat import IntxFakeQuantizeConfig

    return IntxFakeQuantizeConfig(getattr(torch, f"int{bits}"), "per_token", is_symmetric=False)


def int4_groups(size: int) -> FakeQuantizeConfigBase:
    """With a scale and a zero for so many weights of a row, from the least to the greatest."""
    import torch
    from torchao.quantization.qat.fake_quantize_config import Int4WeightFakeQuantizeConfig

    return Int4WeightFakeQuantizeConfig(group_size=size, activation_dtype=torch.bfloat16)


@contextlib.contextmanager
def rounded(
    layers: Sequence[torch.nn.Module],
    weights: FakeQuantizeConfigBase,
    activations: FakeQuantizeConfigBase | None,
    *,
    wide: bool,
) -> Iterator[None]:
    """Inside the block, layers round their weights, and what they are given, by torchao's fake quantizers; gradients pass through.

    The quantizers are attached to the layers, where ``QATConfig`` would put layers of a class of its own in their place: a subclass keeps
    its forward, a layer its hooks, and attention, which reads the weight of its last layer without calling it, reads a rounded one. The
    weights that are trained are in float32 whatever the module's type; ``wide`` says that they are rounded as such, and left so afterwards.
    Fused attention, which goes around its layers where no gradient is asked for, is off.
    """
    import torch
    from torch.nn.utils import parametrize
    from torchao.quantization.qat.fake_quantizer import FakeQuantizerBase

    class Rounded(torch.nn.Module):  # type: ignore[misc]  # torch is not followed by the type checker
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.quantizer, self.dtype = FakeQuantizerBase.from_config(weights), dtype

        def forward(self, trained: torch.Tensor) -> torch.Tensor:
            return self.quantizer(trained).to(self.dtype) if wide else self.quantizer(trained.to(self.dtype))

    def taking(dtype: torch.dtype) -> object:
        quantizer = None if activations is None else FakeQuantizerBase.from_config(activations)

        def take(_: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> object:
            given = (args[0] if args else kwargs["input"]).to(dtype)
            if quantizer is not None:
                given = quantizer(given.flatten(0, -2)).reshape(given.shape)
            return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, "input": given})

        return take

    dtypes = [layer.weight.dtype for layer in layers]
    handles = []
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for layer, dtype in zip(layers, dtypes, strict=True):
            layer.weight = torch.nn.Parameter(layer.weight.detach().float(), requires_grad=layer.weight.requires_grad)
            parametrize.register_parametrization(layer, "weight", Rounded(dtype), unsafe=True)  # unsafe: it may change the type
            handles.append(layer.register_forward_pre_hook(taking(dtype), with_kwargs=True))
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for handle in handles:
            handle.remove()
    for layer, dtype in zip(layers, dtypes, strict=True):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        if not wide:
            layer.weight = torch.nn.Parameter(layer.weight.detach().to(dtype), requires_grad=layer.weight.requires_grad)


def unseen(layers: Sequence[torch.nn.Module]) -> tuple[str, ...]:
    """A note about layers whose activations are rounded when the model runs and were not in training, because attention does not call
    them."""
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

    count = sum(isinstance(layer, NonDynamicallyQuantizableLinear) for layer in layers)
    return (f"{count} output projections of attention learned with rounded weights and whole activations",) if count else ()
