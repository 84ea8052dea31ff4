"""Keras models for the tests. ``tf.keras`` is Keras 2 here, as a build sees it."""

import keras_parts
import numpy as np
import tensorflow as tf


class Scaled(tf.keras.layers.Layer):
    """Multiplies by a number of its config, then adds a variable of a layer from another file."""

    def __init__(self, by=3.0, **options):
        super().__init__(**options)
        self.by = by
        self.shift = keras_parts.Shift(name="shift")

    def call(self, x):
        return self.shift(x * self.by)

    def get_config(self):
        return {**super().get_config(), "by": self.by}


def softly(x):
    return tf.nn.relu(x) * 0.5


def mlp():
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((32,), name="x"),
            layers.Dense(64, activation="relu", name="first"),
            layers.Dense(48, activation="relu", name="second"),
            layers.Dense(10, name="last"),
        ],
        name="mlp",
    )


def own_layers():
    x = tf.keras.Input((32,), name="x")
    hidden = Scaled(name="scaled")(tf.keras.layers.Dense(16, activation=softly, name="first")(x))
    return tf.keras.Model(x, tf.keras.layers.Dense(4, name="last")(hidden), name="own")


def two_inputs():
    """Outputs whose names are not in the order of the alphabet."""
    left, right = (tf.keras.Input((32,), name=name) for name in ("left", "right"))
    hidden = tf.keras.layers.Dense(32, activation="relu", name="hidden")(tf.keras.layers.Concatenate()([right, left]))
    return tf.keras.Model([left, right], [tf.keras.layers.Dense(4, name="zebra")(hidden), tf.keras.layers.Dense(2, name="ant")(hidden)])


class Subclassed(tf.keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = tf.keras.layers.Dense(4, name="dense")

    def call(self, x):
        logits = self.dense(x)
        return {"logits": logits, "doubled": 2 * logits}


def subclassed():
    return Subclassed()


class Forgetful(tf.keras.layers.Layer):
    """Draws what it multiplies by when it is made, and saves it nowhere."""

    def __init__(self, **options):
        super().__init__(**options)
        self.by = float(np.random.default_rng().uniform(1, 100))

    def call(self, x):
        return x * self.by


def forgetful():
    return tf.keras.Sequential([tf.keras.layers.Input((32,)), Forgetful(), tf.keras.layers.Dense(4)])


def keras_3():
    import keras

    layers = keras.layers
    return keras.Sequential([layers.Input((32,), name="x"), layers.Dense(64, activation="relu"), layers.Dense(10)])


def compiled(fit=True):
    model = mlp()
    model.compile("adam", "mse")
    if fit:
        model.fit(np.zeros((32, 32), "float32"), np.zeros((32, 10), "float32"), verbose=0)
    return model


def summed():
    """An operator that TFLite has no integer kernel for."""
    x = tf.keras.Input((32,), name="x")
    hidden = tf.math.cumsum(tf.keras.layers.Dense(16, name="first")(x), axis=1, name="summed")
    return tf.keras.Model(x, tf.keras.layers.Dense(4, name="last")(hidden), name="net")


def bell():
    """An operator that TFLite does not have."""
    x = tf.keras.Input((32,), name="x")
    return tf.keras.Model(x, tf.keras.layers.Dense(4)(tf.math.erf(x, name="bell")), name="net")


def memory():
    x = tf.keras.Input((5, 32), name="x")
    return tf.keras.Model(x, tf.keras.layers.Dense(4, name="last")(tf.keras.layers.LSTM(16, name="memory")(x)), name="net")


def inside():
    inner = tf.keras.Sequential([tf.keras.layers.Input((32,)), tf.keras.layers.Dense(16, name="deep")], name="inner")
    return tf.keras.Sequential([inner, tf.keras.layers.Dense(10, name="last")], name="outer")


def digits():
    """A small convolutional network for images of 8 x 8, which has learned nothing."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem"),
            layers.BatchNormalization(momentum=0.8, name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ],
        name="digits",
    )


def taught(epochs=12):
    model = digits()
    model.compile(tf.keras.optimizers.Adam(3e-3), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = learning_set()
    model.fit(images, labels, batch_size=32, epochs=epochs, verbose=2)
    return model


def _digits(part):
    from digits_data import learning_set, testing_set

    images, labels = {"learning": learning_set, "testing": testing_set}[part]()
    return np.ascontiguousarray(images.reshape(-1, 8, 8, 1)), labels


def learning_set():
    return _digits("learning")


def testing_set():
    return _digits("testing")


def no_model():
    return np.zeros(3)
