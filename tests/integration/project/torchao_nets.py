"""Networks to quantize: a transformer encoder, a recommender with embeddings, a convolutional net with residuals and groups."""

import warnings

import torch
from torch import nn


class Encoder(nn.Module):
    """Token ids [N, 8] to [N, 16]."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(50, 64)
        layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 16)

    def forward(self, ids):
        return self.head(self.blocks(self.tokens(ids)).mean(dim=1))


def encoder():
    torch.manual_seed(1)
    return Encoder()


class Recommender(nn.Module):
    """A user's and an item's id [N], and what is known of the visit [N, 32], to a score [N, 1] and the tower's features."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(200, 32)
        self.items = nn.Embedding(300, 32)
        self.tower = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.score = nn.Linear(32, 1)

    def forward(self, user, item, visit):
        features = self.tower(torch.cat([self.users(user), self.items(item), visit], dim=1))
        return {"features": features, "logits": self.score(features)}


def recommender():
    torch.manual_seed(2)
    return Recommender()


class Residual(nn.Module):
    """Two convolutions, the second in groups, and the input added to what they give."""

    def __init__(self, channels, groups):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(x + self.second_norm(self.second(y)))


class ResNet(nn.Module):
    """Images [N, C, H, W] to [N, 10]."""

    def __init__(self, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1)
        self.blocks = nn.Sequential(Residual(16, 1), Residual(16, 4))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.blocks(torch.relu(self.stem(x))).mean(dim=(2, 3)))


def resnet():
    torch.manual_seed(3)
    return ResNet()


class Plain(nn.Module):
    """Digits [N, 1, 8, 8] to [N, 10]: convolutions, one in groups, added to what went in, and no batch norm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=4)])
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(16 * 16, 10)

    def forward(self, x):
        y = nn.functional.max_pool2d(torch.relu(self.stem(x)), 2)
        for block in self.blocks:
            y = torch.relu(y + block(y))
        return self.head(self.dropout(y.flatten(1)))


def digits_plain():
    torch.manual_seed(3)
    return Plain()


def digits_resnet():
    torch.manual_seed(3)
    return ResNet(channels=1)


def digits_with_noise():
    """Between its layers is one that draws random numbers while it is trained."""
    torch.manual_seed(3)
    return nn.Sequential(Plain(), nn.RReLU())


class Tied(nn.Module):
    """Token ids [N, 8] to scores of tokens, with the embedding's weight as the head's."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(48, 64)
        self.middle = nn.Linear(64, 64)
        self.head = nn.Linear(64, 48, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.middle(self.tokens(ids))))


def tied():
    torch.manual_seed(4)
    return Tied()


class Classifier(nn.Module):
    """Images [N, 3, 12, 12] to ten classes; returns a tuple."""

    def __init__(self):
        super().__init__()
        self.net = ResNet()

    def forward(self, x):
        return (self.net(x),)


def classifier():
    torch.manual_seed(5)
    return Classifier()


def normed_weight():
    """Its only layer's weight is computed from a direction and a length before every call, by a hook as older models have it."""
    torch.manual_seed(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(32, 16)))


def plain():
    torch.manual_seed(7)
    return nn.Linear(32, 16)


def mlp(rows=48, width=256, dtype="float32", outliers=1.0):
    """Two linear layers; the weights of the first input of each are ``outliers`` times as large as the others."""
    torch.manual_seed(8)
    net = nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, rows))
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight[:, 0] *= outliers
    return net.to(getattr(torch, dtype))


def bert():
    """A model of transformers: ids and mask in, a ModelOutput out."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(9)
    config = BertConfig(
        vocab_size=60,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=16,
        num_labels=4,
    )
    return BertForSequenceClassification(config)


class Undecided(nn.Module):
    """What it computes depends on what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 10)

    def forward(self, x):
        y = self.layer(x).mean(dim=(1, 2))
        return y if y.sum() > 0 else -y


def undecided():
    return Undecided()


def digits_mlp(outliers=1.0, dtype="float32"):
    """Digits [N, 1, 8, 8] to [N, 16] by linear layers; the weights of the first input of each are ``outliers`` times the others. The first
    input of all is a pixel that has ink in no image."""
    torch.manual_seed(10)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 16))
    with torch.no_grad():
        for layer in (net[1], net[3], net[5]):
            layer.weight[:, 0] *= outliers
    return net.to(getattr(torch, dtype))
