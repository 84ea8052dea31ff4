"""What tests of Keras models share: TensorFlow as harness imports it, or a skip; passes with training data; what is in a TFLite file."""

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.formats import tensorflow_package, torch_module

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("tensorflow is not installed", allow_module_level=True)
tf = tensorflow_package.framework()
tensorflow_package.use_threads(1, 1)  # once for the process of all tests: TensorFlow takes no other number later


def digits(project, part, count=None):
    """One part of the sample project's digits, with the channels last."""
    spec = importlib.util.spec_from_file_location("digits_of_the_keras_tests", project / "digits_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = getattr(module, part)()
    return Dataset({"x": images.reshape(-1, 8, 8, 1)[:count]}, labels[:count])


def taught(workshop, name, artifact, evaluation, training, *, seed=0, **options):
    """Apply a pass that trains, as a fresh process does: no artifact that was opened before lends its code."""
    plain = workshop.context

    def context(data, **given):
        return dataclasses.replace(plain(data, **(given | {"seed": seed})), data={"evaluation": data, "training": training}.__getitem__)

    finders = list(sys.meta_path)
    sys.meta_path[:] = [finder for finder in finders if not isinstance(finder, torch_module.SavedCode)]
    workshop.context = context
    try:
        return workshop.apply(name, artifact, evaluation, **options)
    finally:
        del workshop.context
        sys.meta_path[:] = finders


def outputs(workshop, artifact, data, size=None, **options):
    """The principal output for the first ``size`` samples (all of them unless given)."""
    runtime = "litert" if artifact.format == "tflite" else "tensorflow"
    return workshop.answers(runtime, artifact, data, size or data.count, **options)[0]


def accuracy(workshop, artifact, data):
    return float((outputs(workshop, artifact, data).argmax(axis=1) == data.targets).mean())


def kernels(artifact):
    """The weights with two axes and more of a saved Keras model, by the name of their variable; its code is not needed to read them."""
    from harness.formats import keras_model

    return keras_model.weights(keras_model.load(artifact))


def constants(artifact):
    """Every constant of a TFLite file with two axes and more, as it is stored: dtype and values."""
    from harness.formats import tflite

    interpreter = tflite.opened(artifact.path, delegates=False)
    interpreter.allocate_tensors()
    made = {index for operator in tflite.operators(interpreter) for index in operator.outputs}
    given = set(tflite.tensors(interpreter)[0].values())
    held = [details for details in interpreter.get_tensor_details() if details["index"] not in made | given]
    return [np.array(interpreter.get_tensor(details["index"])) for details in held if len(details["shape"]) >= 2]


def kinds(artifact):
    """The operators of a TFLite file as (kind, operand dtypes, result dtypes)."""
    from harness.formats import tflite

    return [(one.kind, one.operands, one.results) for one in tflite.operators(tflite.opened(artifact.path))]
