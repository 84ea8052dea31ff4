"""Networks whose precision matters: residuals, groups and norms; a transformer encoder; embeddings; what half precision cannot do."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


class Residual(nn.Module):
    """[N, 3, 12, 12] to [N, 10], with residuals and grouped convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(Block(16, 4), Block(16, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def residual():
    torch.manual_seed(3)
    module = Residual()
    for _ in range(3):
        module(torch.randn(16, 3, 12, 12))  # the norms see something
    return module.eval()


class Encoder(nn.Module):
    """[N, 5, 32] to [N, 10], through torch's own transformer layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.layers(x).mean(1))


def encoder():
    torch.manual_seed(4)
    return Encoder()


class Recommender(nn.Module):
    """Dense features and item numbers to a score and the interaction that it comes from."""

    def __init__(self):
        super().__init__()
        self.items = nn.EmbeddingBag(50, 16, mode="sum")
        self.bottom = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.top = nn.Linear(16, 1)

    def forward(self, dense, items):
        mixed = self.bottom(dense) * self.items(items)
        return {"interaction": mixed, "logits": self.top(mixed)}


def recommender():
    torch.manual_seed(5)
    return Recommender()


class Tied(nn.Module):
    """Token numbers to logits over the same table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.table(tokens).mean(1))


def tied():
    torch.manual_seed(6)
    return Tied()


class Stubborn(nn.Module):
    """Makes a float32 tensor of its own on the way."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 8)
        self.second = nn.Linear(8, 4)

    def forward(self, x):
        return self.second(self.first(x) + torch.ones(8))


def stubborn():
    torch.manual_seed(7)
    return Stubborn()


def large_weight():
    torch.manual_seed(8)
    module = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 4))
    module[1].weight.data[0, 0] = 1e5
    return module


def large_activation():
    torch.manual_seed(9)
    module = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    with torch.no_grad():
        module[0].weight.mul_(1e3)
        module[1].weight.mul_(3e3)
        module[2].weight.mul_(1e-6)
    return module


def tiny_weight():
    torch.manual_seed(10)
    module = nn.Linear(32, 4)
    module.weight.data[0, :3] = 1e-9
    return module


def in_bfloat16():
    torch.manual_seed(11)
    return nn.Linear(32, 10).bfloat16()


class Fixed(nn.Module):
    """Knows its batch size by heart, as a trace notes it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 10)

    def forward(self, x):
        return self.layer(x) + torch.arange(float(len(x))).sum() if len(x) != 2 else self.layer(x)


def fixed():
    torch.manual_seed(12)
    return Fixed()


class Breaking(nn.Module):
    """Leaves the graph in the middle: a compiler has to give up there and go on behind it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 16)
        self.second = nn.Linear(16, 10)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        torch._dynamo.graph_break()
        return self.second(hidden)


def breaking():
    torch.manual_seed(13)
    return Breaking()


class Opaque(nn.Module):
    """A forward that no compiler is let in."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 10)

    @torch.compiler.disable
    def forward(self, x):
        return self.layer(x)


def opaque():
    torch.manual_seed(14)
    return Opaque()


class Branching(nn.Module):
    """Goes by its data: there is no one graph of it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 10)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


def branching():
    torch.manual_seed(15)
    return Branching()


def normed_rows():
    torch.manual_seed(16)
    return nn.Sequential(nn.Linear(32, 10), nn.LayerNorm(10))
