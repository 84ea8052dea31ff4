"""A transformer encoder of torch's own layers over token ids, with a mask of padding."""

import numpy as np
import torch
from torch import nn

VOCABULARY = 200
LENGTH = 12
CLASSES = 4


class Encoder(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.places = nn.Parameter(torch.randn(1, LENGTH, width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, 4, width * 2, dropout=0.1, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, depth)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

    def forward(self, ids, mask):
        """Logits [N, 4] of ``ids`` and ``mask`` (1 where there is a token), both int64 [N, 12]."""
        vectors = self.layers(self.tokens(ids) + self.places, src_key_padding_mask=mask == 0)
        seen = mask.unsqueeze(-1).to(vectors.dtype)
        return self.head((vectors * seen).sum(dim=1) / seen.sum(dim=1))


def _draw(count, seed):
    """Ids of which most come from a quarter of the vocabulary that tells the class."""
    generator = np.random.default_rng([11, seed])
    labels = np.arange(count) % CLASSES
    quarter = VOCABULARY // CLASSES
    ids = generator.integers(0, VOCABULARY, (count, LENGTH))
    told = generator.integers(0, quarter, (count, LENGTH)) + labels[:, None] * quarter
    ids = np.where(generator.random((count, LENGTH)) < 0.7, told, ids)
    lengths = generator.integers(4, LENGTH + 1, (count, 1))
    mask = np.arange(LENGTH)[None] < lengths
    return {"ids": (ids * mask).astype(np.int64), "mask": mask.astype(np.int64)}, labels.astype(np.int64)


def build(width=64, depth=2):
    torch.manual_seed(0)
    return Encoder(width, depth).eval()


def student():
    return build(32, 1)


def evaluation_set():
    return _draw(24, 1)


def train_set():
    return _draw(96, 2)
