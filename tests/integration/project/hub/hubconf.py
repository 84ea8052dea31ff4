dependencies = ["torch"]

from torch import nn  # noqa: E402  (a hub repository names its dependencies first)


class Tower(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(32, 32) for _ in range(depth)))

    def forward(self, x):
        return self.layers(x)


def tower(depth=2):
    """An entry point of the repository."""
    return Tower(depth)


def notes():
    return {"author": "nobody"}
