"""Where the ranges of activations start in quantization-aware training: at what the model gives, not at tfmot's -6 to 6.

tfmot follows them by a moving average that keeps 99.9 % of what it was in every step: it would take some thousand steps to leave its start,
and until then activations beyond it are cut off.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

_RANGE = re.compile(r"(output|pre_activation|post_activation)(_\d+)?_(min|max)(:0)?$")


def start_ranges(model: tf_keras.Model, batches: Sequence[object]) -> int:
    """Set every range of activations to the mean of its ends over batches, and nothing else; how many ranges there are.

    Batch norms run as in inference meanwhile.
    """
    import numpy as np

    ranges = [variable for variable in model.weights if _RANGE.search(variable.name)]
    if not ranges:
        return 0
    before = model.get_weights()
    trainable = [(layer, layer.trainable) for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    for layer, _ in trainable:
        layer.trainable = False
    seen = []
    with _without_memory():
        for batch in batches:
            model(batch, training=True)
            seen.append([variable.numpy() for variable in ranges])
    for layer, kept in trainable:
        layer.trainable = kept
    model.set_weights(before)
    for variable, values in zip(ranges, zip(*seen, strict=True), strict=True):
        variable.assign(np.mean(values, axis=0))
    return len(ranges) // 2


@contextlib.contextmanager
def _without_memory() -> Iterator[None]:
    """Let tfmot's moving averages be the range of the last batch: their decay is a constant inside its quantizers."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    followed = quant_ops.MovingAvgQuantize

    def at_once(inputs: tf.Tensor, min_var: tf.Variable, max_var: tf.Variable, **options: object) -> tf.Tensor:
        return followed(inputs, min_var, max_var, **{**options, "ema_decay": 0.0})

    quant_ops.MovingAvgQuantize = at_once
    try:
        yield
    finally:
        quant_ops.MovingAvgQuantize = followed
