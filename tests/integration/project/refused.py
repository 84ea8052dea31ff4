"""Factories that cannot be measured, each for a reason of its own."""

import threading

import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 10)

    def forward(self, x):
        return self.layer(x)


def number():
    return 42


def with_a_lambda():
    module = Plain()
    module.activation = lambda x: x
    return module


def of_a_local_class():
    class Local(Plain):
        pass

    return Local()


def with_a_lock():
    module = Plain()
    module.lock = threading.Lock()
    return module


class Speaker(nn.Module):
    def forward(self, x):
        return "hello"


def that_answers_in_words():
    return Speaker()


class Narrow(Plain):
    """Takes 31 values where the data has 32."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(31, 10)


def that_does_not_fit():
    return Narrow()


def that_raises():
    raise ValueError("the weights are lost")


class Passing(Plain):
    """Hands an input through untouched: the exporter gives the graph an output with the input's name."""

    def forward(self, left, right):
        return self.layer(left) + self.layer(right), left


def passing():
    return Passing()


class Branching(Plain):
    """Takes another way for each input, which no graph can hold."""

    def forward(self, x):
        return self.layer(x) if x.sum().item() > 0 else self.layer(-x)


def branching():
    return Branching()


class Drawing(Plain):
    """Answers differently every time."""

    def forward(self, x):
        return self.layer(x) + torch.rand_like(self.layer(x))


def drawing():
    return Drawing()


class Undefined(Plain):
    def forward(self, x):
        return torch.log(-1 - self.layer(x).abs())


def undefined():
    return Undefined()
