"""A small convolutional network in Keras (37,000 parameters), trained on scikit-learn's handwritten digits.

Training is part of ``build``: the harness runs it once and keeps the trained model in its cache.
"""

import numpy as np


def _channels_last(images):
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def train_set():
    """1,297 images [N, 8, 8, 1] float32 between 0 and 1, with their labels."""
    from digits import split  # here, so that a launch of the model alone does not import scikit-learn

    images, _, labels, _ = split()
    return _channels_last(images), labels


def test_set():
    """500 held-out images, as many of each digit as the data has."""
    from digits import split

    _, images, _, labels = split()
    return _channels_last(images), labels


def build(epochs: int = 25):
    """Train and return the network: logits of ten classes."""
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem"),
            layers.BatchNormalization(name="stem_norm"),
            layers.ReLU(name="stem_relu"),
            layers.Conv2D(48, 3, padding="same", use_bias=False, name="body"),
            layers.BatchNormalization(name="body_norm"),
            layers.ReLU(name="body_relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(28, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ],
        name="digits",
    )
    images, labels = train_set()
    steps = epochs * -(-len(images) // 32)
    model.compile(
        optimizer=tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=2)
    return model
