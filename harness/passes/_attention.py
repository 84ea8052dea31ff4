"""Multi-head attention as encoders of transformers have it: one linear layer each for queries, keys, values and the output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LAYOUTS = (
    ("self.query", "self.key", "self.value", "output.dense"),  # BERT, RoBERTa, ELECTRA, MiniLM
    ("attention.query", "attention.key", "attention.value", "output.dense"),  # YOLOS, DPT
    ("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # ViT
)
SIZES = ("attention_head_size", "head_dim")
COUNTS = ("num_attention_heads", "num_heads", "n_heads")


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention: ``core`` is the module that splits the heads, ``size`` the width of one of them."""

    name: str
    core: torch.nn.Module
    query: torch.nn.Linear
    key: torch.nn.Linear
    value: torch.nn.Linear
    out: torch.nn.Linear
    size: int

    @property
    def heads(self) -> int:
        return int(self.query.out_features) // self.size


def find(module: torch.nn.Module) -> list[Attention]:
    """All attentions of a known layout, in order, each once. Fewer heads for keys than for queries is not among them."""
    import torch

    found: list[Attention] = []
    for name, part in module.named_modules():
        for layout in LAYOUTS:
            parts = [each for path in layout if (each := _at(part, path)) is not None and type(each) is torch.nn.Linear]
            if len(parts) == len(layout):
                query, key, value, out = parts
                core = _at(part, layout[0].rpartition(".")[0]) if "." in layout[0] else part
                size = next((getattr(core, given) for given in SIZES if isinstance(getattr(core, given, None), int)), 0)
                widths = {query.out_features, key.out_features, value.out_features, out.in_features}
                if size and len(widths) == 1 and query.out_features % size == 0:
                    found.append(Attention(name, core, query, key, value, out, size))
    return found


def packed(module: torch.nn.Module) -> list[str]:
    """The names of torch's own attentions, whose heads cannot be taken apart."""
    import torch

    return [name for name, part in module.named_modules() if isinstance(part, torch.nn.MultiheadAttention)]


@contextlib.contextmanager
def gated(attentions: Sequence[Attention], gates: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Multiply what each head gives by its gate: [heads], or [N, heads] for a gate of each sample."""
    with contextlib.ExitStack() as hooks:
        for attention in attentions:

            def scale(_: torch.nn.Module, given: tuple[torch.Tensor, ...], of: Attention = attention) -> torch.Tensor:
                wide = gates[of.name].repeat_interleave(of.size, dim=-1)
                return given[0] * (wide.unsqueeze(1) if wide.ndim == 2 else wide)

            hooks.callback(attention.out.register_forward_pre_hook(scale).remove)
        yield


def keep(attention: Attention, heads: Sequence[int]) -> None:
    """Leave only these heads: the four linear layers become smaller."""
    import torch

    rows = torch.cat([torch.arange(head * attention.size, (head + 1) * attention.size) for head in heads])
    with torch.no_grad():
        for layer in (attention.query, attention.key, attention.value):
            layer.weight = _like(layer.weight, layer.weight[rows])
            if layer.bias is not None:
                layer.bias = _like(layer.bias, layer.bias[rows])
            layer.out_features = len(rows)
        attention.out.weight = _like(attention.out.weight, attention.out.weight[:, rows])
        attention.out.in_features = len(rows)
    for name in COUNTS:
        if hasattr(attention.core, name):
            setattr(attention.core, name, len(heads))
    if hasattr(attention.core, "all_head_size"):
        attention.core.all_head_size = len(rows)


def _like(parameter: torch.nn.Parameter, values: torch.Tensor) -> torch.nn.Parameter:
    import torch

    return torch.nn.Parameter(values.clone(), requires_grad=parameter.requires_grad)


def _at(module: torch.nn.Module, path: str) -> torch.nn.Module | None:
    found: torch.nn.Module | None = module
    for name in path.split("."):
        found = None if found is None else found._modules.get(name)
    return found
