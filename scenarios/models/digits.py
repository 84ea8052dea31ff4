"""Scikit-learn's handwritten digits: 1,797 images of 8 x 8, split once and for all."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 500


def split():
    """(training images, held-out images, training labels, held-out labels); images [N, 1, 8, 8] float32 between 0 and 1."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    return train_test_split(images, labels.astype(np.int64), test_size=HELD_OUT, stratify=labels, random_state=0)


def train_set():
    """1,297 images with their labels."""
    images, _, labels, _ = split()
    return images, labels


def test_set():
    """500 held-out images, as many of each digit as the data has."""
    _, images, _, labels = split()
    return images, labels
