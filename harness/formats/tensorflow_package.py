"""TensorFlow, imported as every plugin here needs it: with Keras 2, without its messages, without a GPU.

TensorFlow Model Optimization works on Keras 2, which is the package ``tf_keras`` since TensorFlow 2.16. What ``tf.keras`` is, is decided
when it is first used, by an environment variable: so a plugin asks for TensorFlow here, before it runs any code of the user's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

from harness.core.errors import CannotMeasure

LEGACY = "TF_USE_LEGACY_KERAS"
LOGGERS = ("tensorflow", "absl", "tf_keras", "keras")


def framework() -> ModuleType:
    """The tensorflow package. Raises CannotMeasure when something has imported it before with another Keras."""
    first = "tensorflow" not in sys.modules
    os.environ[LEGACY] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import tensorflow

        if not tensorflow.keras.Model.__module__.startswith("tf_keras"):
            hint = f"set {LEGACY}=1 in the environment, or let no plugin of your own import tensorflow at its top"
            raise CannotMeasure("tf.keras is Keras 3 in this process, and harness works with Keras 2 (tf_keras)", hint=hint)
        if first:
            tensorflow.config.set_visible_devices([], "GPU")  # it would take all memory of every GPU that it sees
    package: ModuleType = tensorflow
    return package


def use_threads(threads: int, between: int) -> None:
    """``threads`` within an operator, ``between`` for operators beside each other. Raises CannotMeasure when it is too late for it."""
    threading = framework().config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(between)
    except RuntimeError as error:
        raise CannotMeasure(f"TensorFlow has started with other threads than {threads} and {between} in this process") from error


def repeatable(seed: int) -> None:
    """Start all generators from a seed, and let no operator take a kernel whose result depends on the order of its threads."""
    tf = framework()
    tf.keras.utils.set_random_seed(seed)
    tf.keras.backend.reset_uids()  # names of layers are numbered by what the process has made before
    tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TensorFlow, Keras and the converter log, print and warn about what is of no use to a reader of a build log."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
