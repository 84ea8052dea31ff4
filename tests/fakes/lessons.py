"""What tests of the passes that train share: a pass applied with training data, and how well a model does."""

import dataclasses
import sys

import numpy as np
import torch

from harness.core.artifact import Dataset
from harness.formats import torch_module


def digits(project, part, count=None):
    """One part of the sample project's digits."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("digits_of_the_tests", project / "digits_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = getattr(module, part)()
    return Dataset({"x": images[:count]}, labels[:count])


def taught(workshop, name, artifact, evaluation, training, *, seed=0, **options):
    """Apply a pass that trains, as a fresh process does: no artifact that was opened before lends its code.

    The workshop's own context knows no training data.
    """
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


def accuracy(workshop, artifact, data, runtime="torch"):
    (logits,) = workshop.answers(runtime, artifact, data, size=data.count)[:1]
    return float((logits.argmax(axis=1) == data.targets).mean())


def state(artifact):
    """A saved module's tensors by name; its code is not needed to read them."""
    return torch.load(artifact.folder / torch_module.STATE, weights_only=True)


def same(first, second):
    """Whether two artifacts hold the same tensors, to the bit."""
    one, other = state(first), state(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def zero_share(tensor):
    return float((np.asarray(tensor) == 0).mean())
