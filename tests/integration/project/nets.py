"""Small networks, as a project's own model file has them: classes at the top level, helpers beside it and in a package."""

import torch
from blocks import Scale
from parts.head import Head
from torch import nn


class Mlp(nn.Module):
    """[N, 32] to [N, 10]."""

    def __init__(self, width):
        super().__init__()
        self.hidden = nn.Linear(32, width)
        self.scale = Scale(2.0)
        self.head = Head(width, 10)

    def forward(self, x):
        import late  # found by whoever calls the model, long after the file was imported

        return self.head(late.activation(self.scale(self.hidden(x))))


def mlp(width=64):
    return Mlp(width).train()


class ConvNet(nn.Module):
    """[N, 3, 12, 12] to [N, 10]: two convolutions and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 12 * 12, 10)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).flatten(1))


def cnn():
    torch.manual_seed(7)
    return ConvNet()


class Lstm(nn.Module):
    """[N, 5, 32] to [N, 10]."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(32, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


def lstm():
    return Lstm()


class Pair(nn.Module):
    """Two inputs by name, two outputs by name, the principal one last."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 10)

    def forward(self, left, right):
        difference = self.layer(left) - self.layer(right)
        return {"hidden": difference * 2, "logits": difference}


def pair():
    return Pair()


class NestedPair(Pair):
    def forward(self, left, right):
        found = super().forward(left, right)
        return {"past": (left * 1, (right * 1,)), "none": None, **found}


def nested_pair():
    return NestedPair()


class Sum(Pair):
    def forward(self, left, right):
        return self.layer(left) + 2 * self.layer(right)


def two_inputs():
    return Sum()


def normed():
    """In training mode, in which a call would move the running mean."""
    return nn.Sequential(nn.BatchNorm1d(32), nn.Linear(32, 10)).train()


class Own(nn.Linear):
    """A linear layer of the project's own."""


def partly_own():
    return nn.Sequential(nn.Linear(32, 32), Own(32, 10))


def half():
    return nn.Linear(32, 10).half()
