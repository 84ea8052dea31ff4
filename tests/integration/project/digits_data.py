"""Scikit-learn's digits [N, 1, 8, 8], in two parts that share no image."""

import numpy as np


def _part(start, end):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)[start:end], labels.astype(np.int64)[start:end]


def learning_set():
    return _part(0, 1297)


def testing_set():
    return _part(1297, 1797)
