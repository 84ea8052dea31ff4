"""A chain of equal convolutions: one unit more is one convolution more, and nothing else changes."""

import numpy as np
import torch
from torch import nn

CHANNELS, SIDE, SAMPLES = 8, 18, 64


class Chain(nn.Module):
    """Images [N, 8, 18, 18] through ``units`` convolutions of 3 by 3, each with its own weights and a ReLU."""

    def __init__(self, units: int):
        super().__init__()
        self.units = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(units))

    def forward(self, images):
        for unit in self.units:
            images = torch.relu(unit(images))
        return images.mean(dim=(2, 3))


def build(units: int = 200, seed: int = 0):
    """Weights near the identity, so that values stay of ordinary size however long the chain: tiny ones would be slow in themselves."""
    generator = torch.Generator().manual_seed(seed)
    model = Chain(units)
    with torch.no_grad():
        for unit in model.units:
            unit.weight.normal_(0.0, 0.01, generator=generator)
            unit.weight[:, :, 1, 1] += torch.eye(CHANNELS)
            unit.bias.zero_()
    return model.eval()


def images():
    """Noise: what is in it makes no difference to the work. There are no labels."""
    generator = np.random.default_rng(0)
    return generator.random((SAMPLES, CHANNELS, SIDE, SIDE), dtype=np.float32), None
