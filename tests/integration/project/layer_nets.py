"""Networks of which one layer is known to suffer most by what passes do."""

import torch
from torch import nn


class Outlier(nn.Module):
    """Rows [N, 32] to [N, 10] by four layers. One channel of the third is 1,000 times as large as the others, which a scale for the whole
    weight rounds to nothing; the fourth takes that back."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 48)
        self.second = nn.Linear(48, 48)
        self.third = nn.Linear(48, 48)
        self.last = nn.Linear(48, 10)

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = torch.relu(layer(x))
        return self.last(x)


def outlier():
    torch.manual_seed(0)
    net = Outlier()
    with torch.no_grad():
        net.third.weight[0] *= 1000
        net.third.bias[0] *= 1000
        net.last.weight[:, 0] /= 1000
    return net


class Table(nn.Module):
    """Token ids [N, 8] to [N, 10]: nearly all of its weights are a table."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(1000, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, ids):
        return self.head(self.tokens(ids).mean(dim=1))


def table():
    torch.manual_seed(0)
    return Table()
