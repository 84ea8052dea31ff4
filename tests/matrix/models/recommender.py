"""A small recommendation net: bags of what was looked at, tables of ids, dense features; one logit a request, [N]."""

import numpy as np
import torch
from torch import nn

FIELDS = (300, 50, 7)
DENSE = 6
HISTORY = 5


class Recommender(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.seen = nn.EmbeddingBag(FIELDS[0], width, mode="mean")
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in FIELDS)
        self.bottom = nn.Sequential(nn.Linear(DENSE, 32), nn.ReLU(), nn.Linear(32, width), nn.ReLU())
        vectors = len(FIELDS) + 2
        self.top = nn.Sequential(nn.Linear(width + vectors * vectors, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))

    def forward(self, dense, ids, history):
        """Logits of a click of ``dense`` [N, 6], ``ids`` int64 [N, 3] and ``history`` int64 [N, 5], ids of the first field."""
        bottom = self.bottom(dense)
        looked_up = [table(ids[:, field]) for field, table in enumerate(self.tables)]
        vectors = torch.stack([bottom, self.seen(history), *looked_up], dim=1)
        products = torch.einsum("nik,njk->nij", vectors, vectors).flatten(1)
        return self.top(torch.cat([bottom, products], dim=1)).squeeze(-1)


def _draw(count, seed):
    generator = np.random.default_rng([13, seed])
    dense = generator.standard_normal((count, DENSE)).astype(np.float32)
    ids = np.stack([generator.integers(0, size, count) for size in FIELDS], axis=1)
    history = generator.integers(0, FIELDS[0], (count, HISTORY))
    clicks = (dense[:, 0] + (ids[:, 2] > 3) + generator.standard_normal(count) * 0.3 > 0.5).astype(np.int64)
    return {"dense": dense, "ids": ids.astype(np.int64), "history": history.astype(np.int64)}, clicks


def build(width=32):
    torch.manual_seed(0)
    return Recommender(width).eval()


def student():
    return build(8)


def evaluation_set():
    return _draw(24, 1)


def train_set():
    return _draw(96, 2)
