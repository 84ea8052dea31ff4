import torch
from torch import nn


class Constant(nn.Module):
    def forward(self, x):
        return torch.full((len(x), 10), 1.0)


def build():
    return Constant()
