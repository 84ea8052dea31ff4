"""A 4-bit weight that may be saved on one CPU and opened on another; a saved model refers to this module.

torch packs 4-bit weights for the vector unit of the CPU at hand (AVX-512, AVX2 or none: three orders of the same nibbles), and reads what
was packed for another one without a complaint and wrongly. So the file holds them row by row, and opening it packs them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torchao.prototype.quantization.int4 import Int4OpaqueTensor


class Int4Weight(Int4OpaqueTensor):  # type: ignore[misc]  # torchao is not followed by the type checker
    """torchao's packed 4-bit weight [N, K] for a CPU, with one scale and one zero for each ``block_size[1]`` weights of a row."""

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        state = unpack(self.qdata, tuple(self.shape)), self.scale_and_zero, list(self.block_size), tuple(self.shape)
        return restore, state

    def to(self, *args: object, **kwargs: object) -> torch.Tensor:
        """To another float type: the kernel wants its scales in the type of the activations."""
        _, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if dtype is None or dtype == self.dtype:
            return super().to(*args, **kwargs)
        return Int4Weight(self.qdata, self.scale_and_zero.to(dtype), self.block_size, self.shape)


Int4Weight.__module__ = __name__
torch.serialization.add_safe_globals([Int4Weight])


def restore(plain: torch.Tensor, scale_and_zero: torch.Tensor, block_size: list[int], shape: Sequence[int]) -> torch.nn.Parameter:
    """The weight from what its file holds, packed for this CPU."""
    weight = Int4Weight(pack(_nibbles(plain).to(torch.int32)), scale_and_zero, block_size, torch.Size(shape))
    return torch.nn.Parameter(weight, requires_grad=False)


def pack(values: torch.Tensor) -> torch.Tensor:
    """Integers from 0 to 15 [N, K] in the order that this CPU's kernel reads, two to a byte."""
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.contiguous(), 1)


def unpack(packed: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Packed weights row by row, two to a byte [N, K / 2], the first in the low half.

    Packing only puts nibbles in another order. Which one, the kernel itself tells: what it makes of each weight's number, one
    hexadecimal digit after the other.
    """
    numbers = torch.arange(math.prod(shape)).reshape(shape)
    places = torch.zeros(math.prod(shape), dtype=torch.int64)
    for shift in range(0, max(math.prod(shape) - 1, 1).bit_length(), 4):
        digits = pack((numbers >> shift & 15).to(torch.int32))
        places |= _nibbles(digits).flatten().to(torch.int64) << shift
    plain = torch.empty_like(places, dtype=torch.uint8)
    plain[places] = _nibbles(packed).flatten()
    pairs = plain.reshape(*shape[:-1], -1, 2)
    return pairs[..., 0] | pairs[..., 1] << 4


def _nibbles(values: torch.Tensor) -> torch.Tensor:
    """Bytes [N, K / 2] as integers from 0 to 15 [N, K], the low half first."""
    return torch.stack((values & 15, values >> 4), dim=-1).flatten(-2)
