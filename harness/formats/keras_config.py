"""What a saved Keras model says that it is made of, read before Keras does, and refused where it would run code that came with the file.

Keras's own ``safe_mode`` keeps back bytecode in native files alone. A config of Keras 2 may still name any installed class or function,
which is imported and called, and HDF5 files have no safe mode: so this looks at both.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.core.errors import BadInput, Problem

ROOTS = ("keras", "tf_keras", "builtins")
ROOMS = frozenset(
    {
        "activations",
        "constraints",
        "dtype_policies",
        "engine",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "mixed_precision",
        "models",
        "optimizers",
        "regularizers",
    }
)
"""Where in Keras a part of a model may be from: its utilities download and unpack files."""
BESIDE_ROOMS = frozenset({"DTypePolicy", "Functional", "Model", "Sequential"})
BYTECODE = frozenset({"Lambda", "__lambda__"})
OTHER_GRAPHS = frozenset({"TensorFlowOpLayer"})
TOUCHES_THE_MACHINE = frozenset({"io", "raw_ops", "py_function", "numpy_function", "saved_model", "load_library", "load_op_library"})
"""Parts of TensorFlow's interface that a layer of a functional model may name as its operator, and that read, write or call."""
HINT = "give the model as a factory, 'keras: models/net.py:build': its code is then the project's own"


def read_config(path: Path) -> tuple[object, str]:
    """A saved model's config and the version of Keras that wrote it. Raises BadInput when it is no saved Keras model."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = str(json.loads(archive.read("metadata.json"))["keras_version"])
                return json.loads(archive.read("config.json")), version
        import h5py

        with h5py.File(path, mode="r") as file:
            return json.loads(file.attrs["model_config"]), str(file.attrs.get("keras_version", "2"))
    except (KeyError, ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
        hint = "write it with model.save('model.keras'); weights alone are no model"
        raise BadInput(Problem(f"{path.name} is not a saved Keras model", key="model.keras", hint=hint)) from error


def refuse_code(config: object, name: str) -> None:
    """Raises BadInput, naming the layer, when opening the model would run code that is not Keras's own."""
    for part in _parts(config):
        kind = str(part.get("class_name"))
        settings = part.get("config")
        layer = str(settings.get("name", kind)) if isinstance(settings, Mapping) else str(part.get("name", kind))
        told = _objection(part, kind, settings)
        if told is not None:
            raise BadInput(Problem(f"layer '{layer}' of {name} {told}", key="model.keras", hint=HINT))


def _objection(part: Mapping[str, object], kind: str, settings: object) -> str | None:
    """What speaks against a part of a config, None where nothing does."""
    if kind in BYTECODE:
        return "is a Lambda, whose code lies in the file: it is not run"
    if kind in OTHER_GRAPHS:
        return f"is a {kind}, which may hold any operator of TensorFlow: it is not run"
    function = settings.get("function") if isinstance(settings, Mapping) else None
    if kind == "TFOpLambda" and isinstance(function, str) and TOUCHES_THE_MACHINE.intersection(function.split(".")):
        return f"calls tf.{function}, which reaches beyond the model: it is not run"
    module = part.get("module")
    if not isinstance(module, str):
        return None
    first, *rest = module.split(".")
    rooms = [room for room in rest if room not in ("src", "api", "_v2", "keras")]
    known = first in ROOTS and (rooms[0] in ROOMS if rooms else first == "builtins" or kind in BESIDE_ROOMS)
    return None if known else f"is of the class {module}.{kind}, which is not a part of Keras for models: it is not imported"


def _parts(config: object) -> Iterator[Mapping[str, object]]:
    """Every part of a config that names a class, at any depth."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            if "class_name" in item:
                yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
