"""A recommendation model in the manner of DLRM (Naumov et al., 2019), trained on clicks whose structure is known.

Clicks are drawn, not collected: every id has an appeal of its own, users and items have tastes in four dimensions that meet in an inner
product, and dense features add a little. So how well the best possible model ranks them is known too (``best_possible_auc``), and a recipe
that loses ranking shows. Ids follow Zipf's law, as those of real requests do: few are very frequent, most are rare.
"""

import numpy as np
import torch
from torch import nn

FIELDS = (50_000, 20_000, 10_000, 5_000, 5_000, *(1_000,) * 6, *(100,) * 8, *(20,) * 7)
"""Ids in each of 26 categorical fields; the first is the user, the second the item."""
DENSE = 13
TASTES = 4
EXPONENT = 1.1
SEED = 20_190


class Dlrm(nn.Module):
    """Dense features through a bottom MLP, ids through embedding tables, all pairs of both by inner product, then a top MLP."""

    def __init__(self, width: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in FIELDS)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.05)
        self.bottom = nn.Sequential(nn.Linear(DENSE, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, width), nn.ReLU())
        vectors = len(FIELDS) + 1
        self.top = nn.Sequential(
            nn.Linear(width + vectors * (vectors - 1) // 2, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 2)
        )
        rows, columns = np.triu_indices(vectors, 1)
        self.register_buffer("pairs", torch.from_numpy(rows * vectors + columns))

    def forward(self, dense, ids):
        """Logits of no click and click, [N, 2], of ``dense`` [N, 13] and ``ids`` [N, 26]."""
        bottom = self.bottom(dense)
        vectors = torch.stack([bottom, *(table(ids[:, field]) for field, table in enumerate(self.tables))], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([bottom, products.index_select(1, self.pairs)], dim=1))


def build(width: int = 16, samples: int = 400_000, epochs: int = 2, seed: int = 0):
    """Train and return the model; about a minute on two cores."""
    torch.manual_seed(seed)
    (dense, ids), clicks = _clicks(samples, 1)
    dense, ids, clicks = torch.from_numpy(dense), torch.from_numpy(ids), torch.from_numpy(clicks)
    model = Dlrm(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch = 2_048
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * -(-samples // batch))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(samples, generator=generator).split(batch):
            loss = nn.functional.cross_entropy(model(dense[rows], ids[rows]), clicks[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def test_set(samples: int = 4_000):
    """Requests that the model was not trained on, and whether they were clicked."""
    (dense, ids), clicks = _clicks(samples, 2)
    return {"dense": dense, "ids": ids}, clicks


def train_set(samples: int = 4_000):
    """Some of what the model was trained on."""
    (dense, ids), clicks = _clicks(samples, 1)
    return {"dense": dense, "ids": ids}, clicks


def best_possible_auc(samples: int = 50_000):
    """The area under the ROC curve of the true chances of a click: what no model can beat."""
    from sklearn.metrics import roc_auc_score

    (dense, ids), clicks = _clicks(samples, 2)
    return roc_auc_score(clicks, _true_logits(dense, ids))


def _clicks(samples, part):
    """Requests and clicks; ``part`` keeps the training and the test set apart."""
    generator = np.random.default_rng([SEED, part])
    dense = generator.standard_normal((samples, DENSE), dtype=np.float32)
    ids = np.stack([_zipf(size, samples, generator) for size in FIELDS], axis=1)
    chance = 1 / (1 + np.exp(-_true_logits(dense, ids)))
    return (dense, ids), (generator.random(samples) < chance).astype(np.int64)


def _true_logits(dense, ids):
    truth = np.random.default_rng([SEED, 0])
    appeal = [truth.normal(0, 0.3, size) for size in FIELDS]
    users, items = (truth.normal(0, 1, (size, TASTES)) for size in FIELDS[:2])
    slope = truth.normal(0, 0.15, DENSE)
    logits = dense @ slope + (users[ids[:, 0]] * items[ids[:, 1]]).sum(axis=1) * 0.5 - 1.0
    return logits + sum(one[ids[:, field]] for field, one in enumerate(appeal))


def _zipf(size, samples, generator):
    """Ids from 0, the id of rank r drawn with a chance in proportion to r to the power of -EXPONENT."""
    weights = 1 / np.arange(1, size + 1) ** EXPONENT
    return np.searchsorted(np.cumsum(weights) / weights.sum(), generator.random(samples)).clip(0, size - 1).astype(np.int64)
