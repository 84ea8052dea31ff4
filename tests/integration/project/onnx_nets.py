"""One network of each kind that graph passes meet: a convolutional net, a transformer's encoder, a recommender."""

import math

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions with batch norm, the second in groups, around a shortcut."""

    def __init__(self, channels, groups):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(x + self.second_norm(self.second(inner)))


class Residual(nn.Module):
    """[N, 3, 12, 12] to [N, 10]."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(Block(16, 4), Block(16, 1))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.blocks(torch.relu(self.stem(x))).mean(dim=(2, 3)))


def residual():
    torch.manual_seed(11)
    return Residual()


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each before a norm, as BERT has them."""

    def __init__(self, size, heads):
        super().__init__()
        self.query, self.key, self.value, self.joined = (nn.Linear(size, size) for _ in range(4))
        self.up, self.down = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        self.first_norm, self.second_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.heads = heads

    def split(self, states):
        batch, length, size = states.shape
        return states.view(batch, length, self.heads, size // self.heads).transpose(1, 2)

    def forward(self, x):
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1)
        states = self.first_norm(x + self.joined((weights @ value).transpose(1, 2).reshape(x.shape)))
        return self.second_norm(states + self.down(nn.functional.gelu(self.up(states))))


class Encoder(nn.Module):
    """Token ids [N, 8] to states [N, 8, 32]."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(50, 32)
        self.layers = nn.Sequential(Layer(32, 4), Layer(32, 4))

    def forward(self, ids):
        return self.layers(self.tokens(ids))


def encoder():
    torch.manual_seed(12)
    return Encoder()


class Recommender(nn.Module):
    """Two ids [N] and features [N, 4] to a score [N, 1]."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(200, 16)
        self.items = nn.Embedding(300, 16)
        self.deep = nn.Sequential(nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user, item, features):
        return self.deep(torch.cat([self.users(user), self.items(item), features], dim=1))


def recommender():
    torch.manual_seed(13)
    return Recommender()
