"""Networks of three kinds, wide enough that their weights outweigh the graph around them."""

import torch
from torch import nn


class Residual(nn.Module):
    """[N, 3, 12, 12] to [N, 10]: a stem with its norm, a grouped convolution that is added to what it was given, a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.grouped = nn.Conv2d(64, 64, 3, padding=1, groups=2)
        self.wide = nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        y = torch.relu(self.norm(self.stem(x)))
        y = y + torch.relu(self.grouped(y))
        return self.head(torch.relu(self.wide(y)).mean((2, 3)))


def residual():
    torch.manual_seed(0)
    return Residual()


class Recommender(nn.Module):
    """A user, an item (whole numbers) and what is known of the moment [N, 4] to two scores."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(50, 16)
        self.items = nn.Embedding(80, 16)
        self.hidden = nn.Linear(36, 32)
        self.score = nn.Linear(32, 2)

    def forward(self, user, item, moment):
        return self.score(torch.relu(self.hidden(torch.cat([self.users(user), self.items(item), moment], 1))))


def recommender():
    torch.manual_seed(0)
    return Recommender()


def encoder():
    """A transformer that returns a ModelOutput."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=99, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256)
    return transformers.BertModel(config)


class Branching(nn.Linear):
    """Takes one of two ways by what it is given."""

    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else -super().forward(x)


def branching():
    return Branching(32, 10)


def without_weights():
    return nn.Tanh()


class Undefined(nn.Linear):
    """Gives no number for what is below zero."""

    def forward(self, x):
        return torch.log(super().forward(x))


def undefined():
    return Undefined(32, 10)
