"""A small convolutional net on scikit-learn's digits, trained in seconds: enough to see the whole gate work."""

import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    """Two convolutions and two dense layers."""

    def __init__(self, width: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(width * 16, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x):
        return self.head(self.features(x))


def build(width: int = 64, epochs: int = 6, seed: int = 0):
    """Train and return the net."""
    from digits import train_set  # here, so that a launch of the model alone does not import scikit-learn

    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = (torch.from_numpy(array) for array in train_set())
    model = Net(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            loss = functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()
