"""Networks to prune and train: small classifiers of 8 x 8 digits, encoders of transformers, and some that do not fit."""

import torch
from torch import nn
from torch.nn import functional


class Branches(nn.Module):
    """A bottleneck with a convolution in groups, then two branches side by side that are joined and added to a shortcut."""

    def __init__(self, channels):
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels, 1)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, groups=2)
        self.left = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.right = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        inner = torch.relu(self.mix(torch.relu(self.narrow(x))))
        return torch.relu(x + self.norm(torch.cat([self.left(inner), self.right(inner)], dim=1)))


class Digits(nn.Module):
    """[N, 1, 8, 8] to [N, 10]."""

    def __init__(self, width, dropout=0.0):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(Branches(width), nn.MaxPool2d(2), Branches(width))
        self.hidden = nn.Linear(width * 16, 64)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        features = self.blocks(torch.relu(self.stem(x))).flatten(1)
        return self.head(self.dropout(torch.relu(self.hidden(features))))


def untrained(width=16, dropout=0.0):
    return Digits(width, dropout)


def trained(width=16, epochs=4):
    """Nine in ten of the held-out digits right, in about two seconds."""
    from digits_data import learning_set

    torch.manual_seed(3)
    model, generator = Digits(width), torch.Generator().manual_seed(3)
    images, labels = (torch.from_numpy(array) for array in learning_set())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(64)[:-1]:
            loss = functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def frozen():
    return Digits(8).requires_grad_(False)


class Student(nn.Module):
    """Far smaller than Digits, with a helper that it finds only when it is called."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, stride=2)
        self.head = nn.Linear(width * 9, 10)

    def forward(self, x):
        import late

        return self.head(late.activation(self.first(x)).flatten(1))


def student(width=4):
    return Student(width)


def of_five_classes():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


def a_number():
    return 42


class FromInside(nn.Module):
    """Counts on the width that it was made with."""

    def __init__(self):
        super().__init__()
        self.width = 8
        self.first = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.first(x).reshape(len(x), self.width, -1).mean(dim=2))


def from_inside():
    return FromInside()


class Wide(nn.Module):
    """All features are the output: none may go."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)

    def forward(self, x):
        return torch.relu(self.first(x))


def wide():
    return Wide()


class Uneven(nn.Module):
    """A layer of large weights and a layer of small ones."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.large = nn.Linear(32, 16)
        self.small = nn.Linear(16, 10)
        with torch.no_grad():
            self.large.weight.copy_(torch.randn(16, 32, generator=generator) * 10)
            self.small.weight.copy_(torch.randn(10, 16, generator=generator) * 0.1)

    def forward(self, x):
        return self.small(torch.relu(self.large(x)))


def uneven():
    return Uneven()


class Tied(nn.Module):
    """One matrix in two layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 32)
        self.second = nn.Linear(32, 32)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def tied():
    return Tied()


def masked():
    """Half pruned, and left so that each call makes the weight anew."""
    model = nn.Sequential(nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 10))
    nn.utils.prune.l1_unstructured(model[0], "weight", amount=0.5)
    with torch.no_grad():
        model[0].weight = model[0].weight.detach()
    return model


class Recommender(nn.Module):
    """Two ids [N] and features [N, 4] to a score [N, 1]."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(200, 16)
        self.items = nn.Embedding(200, 16)
        self.deep = nn.Sequential(nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user, item, features):
        return self.deep(torch.cat([self.users(user), self.items(item), features], dim=1))


def recommender():
    return Recommender()


class Packed(nn.Module):
    """[N, 8, 16] to [N, 8, 16], by torch's own encoder."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x):
        return self.layer(x)


def packed():
    return Packed()


def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(21)
    config = ResNetConfig(num_channels=1, embedding_size=16, hidden_sizes=[32, 64], depths=[2, 1], num_labels=10)
    return ResNetForImageClassification(config)


def efficientnet():
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    torch.manual_seed(22)
    config = EfficientNetConfig(num_channels=1, width_coefficient=0.25, depth_coefficient=0.1, image_size=32, hidden_dim=320, num_labels=10)
    return EfficientNetForImageClassification(config)


SMALL = {"vocab_size": 50, "max_position_embeddings": 16}


def bert():
    """Token ids and mask [N, 8] to logits [N, 3]."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(23)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_labels=3, **SMALL)
    return BertForSequenceClassification(config)


def distilbert():
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(24)
    return DistilBertModel(DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, **SMALL))


def vit():
    """Images [N, 1, 8, 8] to logits [N, 10]."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(25)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=8,
        patch_size=2,
        num_channels=1,
        num_labels=10,
    )
    return ViTForImageClassification(config)


class Spread(nn.Module):
    """Two layers in a row: channels of one norm in the first, of 1 to 16 times their number in the second."""

    def __init__(self):
        super().__init__()
        self.even = nn.Conv2d(1, 16, 3, bias=False)
        self.uneven = nn.Conv2d(16, 16, 1, bias=False)
        self.head = nn.Linear(16, 10)
        with torch.no_grad():
            self.even.weight.fill_(1.0)
            self.uneven.weight.copy_(torch.arange(1.0, 17.0).reshape(16, 1, 1, 1).expand(16, 16, 1, 1) / 8.5)
            self.head.weight.fill_(1e-6)

    def forward(self, x):
        return self.head(torch.relu(self.uneven(torch.relu(self.even(x)))).mean(dim=(2, 3)))


def spread():
    return Spread()


class GroupsInBranches(nn.Module):
    """A convolution in groups as one of the branches that are joined: the library maps its channels wrongly."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 8, 3, padding=1)
        self.right = nn.Conv2d(16, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head((x + torch.cat([self.left(x), self.right(x)], dim=1)).mean(dim=(2, 3)))


def groups_in_branches():
    return GroupsInBranches()


def encoder(layers=2):
    """Token ids and mask [N, 8] to states [N, 8, 32]."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(26 + layers)
    config = BertConfig(hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=64, **SMALL)
    return BertModel(config, add_pooling_layer=False)
