"""TensorFlow's converter to TFLite, and what is said when it cannot convert a model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.artifact import Dataset, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray

    from harness.formats.tflite import Operator

Quantization = Literal["none", "dynamic", "float16", "int8", "qat"]
Element = Literal["float32", "int8", "uint8"]
Batch = Mapping[str, "NDArray[np.generic]"]
_MISSING = re.compile(r"^(?:TF Select|Custom) ops: (.+)$", re.MULTILINE)
_OBJECTION = re.compile(r"'tf\.\w+' op .+$", re.MULTILINE)
_PLACE = re.compile(r'fused\["(\w+):", "([^"@]+)')


@dataclass(frozen=True, slots=True)
class Conversion:
    """What the converter is asked for."""

    quantization: Quantization
    sparse: bool
    allow_float: bool
    input_type: Element
    output_type: Element


class Graph:
    """A Keras model or a SavedModel as one function, and the inputs' names in its order. It holds on to its variables."""

    def __init__(self, artifact: ModelArtifact, batch_size: int | None) -> None:
        from harness.formats import keras_model, saved_model

        self.names = [spec.name for spec in artifact.inputs]
        self.outputs = [spec.name for spec in artifact.outputs]
        self.trained_for_int8 = False
        if artifact.format == "saved_model":
            self._owner, served = saved_model.load(artifact.path.parent)
            self.function = _with_batch(served, artifact, batch_size)
            self._variables: list[tf.Variable] = []
        else:
            model = keras_model.load(artifact)
            self._owner = model
            self.trained_for_int8 = keras_model.trained_for_int8(model)
            self.function = keras_model.function_of(model, artifact, batch_size)
            self._variables = keras_model.variables(model)

    def answer(self, batch: Batch) -> NDArray[np.generic]:
        """The principal output in float, called by name; a single input by position."""
        import tensorflow as tf

        named = {self.names[0]: next(iter(batch.values()))} if len(batch) == 1 else batch
        found: NDArray[np.generic] = self.function(**{name: tf.convert_to_tensor(named[name]) for name in self.names})[
            self.outputs[0]
        ].numpy()
        return found

    def converted(self, wanted: Conversion, samples: Callable[[], Iterator[Batch]], scratch: Path) -> bytes:
        """The model as TFLite. Raises CannotMeasure, naming operators and layers, when the converter cannot."""
        import tensorflow as tf

        from harness.formats.tensorflow_package import quiet

        holder = tf.Module()
        holder.owner, holder.variables_of_model = self._owner, self._variables  # what the graph reads is saved with it
        with tempfile.TemporaryDirectory(dir=scratch) as folder, quiet():
            try:
                tf.saved_model.save(holder, folder, signatures={"serving_default": self.function})
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                _ask(converter, wanted, samples)
                content: bytes = converter.convert()
            except Exception as error:  # the converter's errors share no base class below Exception
                raise CannotMeasure(f"TensorFlow cannot convert this model: {_reason(error)}", hint=_hint(error)) from error
        return content


def samples_of(data: Dataset, names: list[str], count: int) -> Callable[[], Iterator[Batch]]:
    """The first samples one by one, under the graph's names. Raises BadInput when the data's names are others."""
    if len(names) != len(data.inputs) or (len(names) > 1 and set(names) != set(data.inputs)):
        raise BadInput(Problem(f"the model's inputs are {', '.join(names)}; the data gives {', '.join(data.inputs)}"))

    def samples() -> Iterator[Batch]:
        for row in range(min(count, data.count)):
            batch = data.batch(row, 1)
            yield {names[0]: next(iter(batch.values()))} if len(names) == 1 else batch

    return samples


def told(operators: tuple[Operator, ...], most: int = 5) -> str:
    """Operators with their layers, for people."""
    names = [f"{operator.kind} ({operator.layer})" for operator in operators]
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def _ask(converter: tf.lite.TFLiteConverter, wanted: Conversion, samples: Callable[[], Iterator[Batch]]) -> None:
    import tensorflow as tf

    types = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8}
    converter.optimizations = [] if wanted.quantization == "none" else [tf.lite.Optimize.DEFAULT]
    if wanted.sparse:
        converter.optimizations.append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    if wanted.quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if wanted.quantization == "int8":
        converter.representative_dataset = samples
        if not wanted.allow_float:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if wanted.quantization in ("int8", "qat"):
        converter.inference_input_type = types[wanted.input_type]
        converter.inference_output_type = types[wanted.output_type]


def _with_batch(served: tf.ConcreteFunction, artifact: ModelArtifact, batch_size: int | None) -> tf.ConcreteFunction:
    """A signature's function with the batch axis fixed."""
    import tensorflow as tf

    if batch_size is None:
        return served
    names = [spec.name for spec in artifact.inputs]
    specs = [tf.TensorSpec((batch_size, *spec.shape[1:]), spec.dtype, name=spec.name) for spec in artifact.inputs]

    @tf.function(input_signature=specs, autograph=False)  # type: ignore[untyped-decorator]
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = served(**dict(zip(names, tensors, strict=True)))
        return found

    return serve.get_concrete_function()


def _reason(error: BaseException) -> str:
    """What the converter says, without the graph that it prints: the operators without a kernel and the layers that they are from."""
    text = str(error).strip() or type(error).__name__
    places = _places(text)
    missing = [name for found in _MISSING.findall(text) for name in found.split(", ")]
    if missing:
        return f"TFLite has no operator for {', '.join(places.get(name, name) for name in missing)}"
    objection = _OBJECTION.search(text)
    said = objection[0] if objection else text.splitlines()[0]
    return f"{', '.join(places.values())}: {said}"[:400] if places else said[:400]


def _places(text: str) -> dict[str, str]:
    """``Erf (net/bell/Erf)`` by operator: each line tells the operator first, and what called it after; a layer has its model's name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        chain = _PLACE.findall(line)
        if chain and chain[0][0] not in found:
            kind, name = chain[0]
            found[kind] = f"{kind} ({next((layer for _, layer in chain if '/' in layer), name)})"
    return found


def _hint(error: BaseException) -> str | None:
    if _MISSING.search(str(error)):
        return "build the layer from operators that TFLite has: the runtime 'litert' has no TensorFlow operators to fall back to"
    if "element_shape to be static" in str(error):
        return "fix the batch axis with convert_tflite's 'batch_size': a loop over time steps needs to know it"
    if "quantiz" in str(error).lower():
        return "convert_tflite's 'allow_float: true' leaves in float what has no int8 kernel"
    return None
