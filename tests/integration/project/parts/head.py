from torch import nn

from .names import BIAS


class Head(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.linear = nn.Linear(width, classes, bias=BIAS)

    def forward(self, x):
        return self.linear(x)
