"""A convolutional net that no bundled scenario has: grouped convolutions, residual sums, and channels that are weighed by what is in them.

ResNeXt's blocks (Xie et al. 2017) with squeeze and excitation (Hu et al. 2018). Weights are drawn, batch norms have seen images.
"""

import numpy as np
import torch
from torch import nn

CLASSES = 5
SIDE = 24


class Excite(nn.Module):
    """Weigh each channel by a small network over the means of all."""

    def __init__(self, width):
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.excite = nn.Conv2d(width // 4, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(self.mean(x)))))


class Block(nn.Module):
    def __init__(self, before, width, stride, groups=4):
        super().__init__()
        self.reduce = nn.Conv2d(before, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.grouped = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, width * 2, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(width * 2)
        self.excite = Excite(width * 2)
        same = stride == 1 and before == width * 2
        project = nn.Conv2d(before, width * 2, 1, stride, bias=False)
        self.short = nn.Identity() if same else nn.Sequential(project, nn.BatchNorm2d(width * 2))
        self.activation = nn.SiLU(inplace=True)

    def forward(self, x):
        y = self.activation(self.norm1(self.reduce(x)))
        y = self.activation(self.norm2(self.grouped(y)))
        y = self.excite(self.norm3(self.expand(y)))
        y += self.short(x)
        return self.activation(y)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
        self.blocks = nn.Sequential(Block(width, width, 1), Block(width * 2, width, 1), Block(width * 2, width * 2, 2))
        self.head = nn.Linear(width * 4, CLASSES)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))


def _draw(count, seed):
    """Noise over one of five patterns."""
    generator = np.random.default_rng([7, seed])
    labels = np.arange(count) % CLASSES
    patterns = np.random.default_rng(7).standard_normal((CLASSES, 3, SIDE, SIDE))
    return (patterns[labels] + generator.standard_normal((count, 3, SIDE, SIDE))).astype(np.float32), labels.astype(np.int64)


def build(width=16):
    torch.manual_seed(0)
    model = Net(width).train()
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # the mean over all batches
        for batch in torch.from_numpy(_draw(64, 0)[0]).split(16):
            model(batch)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.1
    return model.eval()


def student():
    return build(8)


def evaluation_set():
    return _draw(24, 1)


def train_set():
    return _draw(96, 2)
