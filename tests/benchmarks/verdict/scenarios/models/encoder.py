"""A transformer of equal small blocks: one unit more is one block more, and nothing else changes."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

HEADS, TOKENS, WIDTH, SAMPLES = 2, 8, 16, 64


class Block(nn.Module):
    """Attention over normalized tokens, a dense layer before and after it, added to what came in. Small on purpose."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.ask, self.tell = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        known = self.norm(tokens)
        return tokens + self.tell(functional.scaled_dot_product_attention(self.ask(known), known, known))


class Encoder(nn.Module):
    """Embedded tokens [N, 2, 8, 16] through ``units`` blocks to vectors [N, 2, 16]; the two heads are kept apart all the way."""

    def __init__(self, units: int):
        super().__init__()
        self.units = nn.ModuleList(Block() for _ in range(units))

    def forward(self, tokens):
        for unit in self.units:
            tokens = unit(tokens)
        return tokens.mean(dim=2)


def build(units: int = 200, seed: int = 0):
    """Random weights, drawn unit by unit from the seed: a longer encoder begins with the same units as a shorter one."""
    torch.manual_seed(seed)
    return Encoder(units).eval()


def sentences():
    """Noise in place of embedded tokens: what is in it makes no difference to the work. There are no labels."""
    generator = np.random.default_rng(0)
    return generator.standard_normal((SAMPLES, HEADS, TOKENS, WIDTH), dtype=np.float32), None
