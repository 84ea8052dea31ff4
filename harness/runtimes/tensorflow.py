"""See Tensorflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray

COMPUTE = frozenset(
    {
        "Conv1D",
        "Conv2D",
        "Conv3D",
        "Conv2DBackpropInput",
        "DepthwiseConv2dNative",
        "MatMul",
        "BatchMatMul",
        "BatchMatMulV2",
        "Einsum",
    }
)


class TensorflowSession:
    """One graph, called with tensors. On a CPU a call returns when it is done."""

    def __init__(self, owner: object, function: tf.ConcreteFunction, artifact: ModelArtifact, device: Device, jit: bool) -> None:
        self._owner = owner  # the function reads its variables and does not keep them
        self.function = function
        self._device = device
        self._jit = jit
        self._specs = {spec.name: spec for spec in artifact.inputs}
        self._outputs = [spec.name for spec in artifact.outputs]

    @property
    def facts(self) -> SessionFacts:
        """Threads as TensorFlow tells them, and what the graph's products are of: walks the graph."""
        import tensorflow as tf

        graph = self.function.graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        compute = Counter((node.op, tf.as_dtype(node.attr["T"].type).name) for node in nodes if node.op in COMPUTE)
        details = [f"{count} {kind} in {name}" for (kind, name), count in sorted(compute.items())]
        if rounded := sum(node.op.startswith("FakeQuant") for node in nodes):
            details.append(f"{rounded} FakeQuant: int8 is acted out in float")
        details.append("compiled by XLA" if self._jit else "tf.function")
        return SessionFacts(self._device.name, _precision(compute), tf.config.threading.get_intra_op_parallelism_threads(), tuple(details))

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        """Tensors by input name. Raises BadInput where names or dtypes are not the model's; a single input is matched by position."""
        import tensorflow as tf

        names = list(self._specs)
        if len(batch) == 1 and len(names) == 1:
            batch = {names[0]: next(iter(batch.values()))}
        if set(batch) != set(names):
            raise BadInput(Problem(f"the model's inputs are {', '.join(names)}; the data gives {', '.join(batch)}"))
        for name, values in batch.items():
            spec = self._specs[name]
            if values.dtype.name != spec.dtype:
                raise BadInput(Problem(f"input '{name}' of the model is {spec.dtype}, the data gives {values.dtype}"))
            if len(spec.shape) != values.ndim or any(
                length not in (None, given) for length, given in zip(spec.shape, values.shape, strict=True)
            ):
                told = ", ".join("any" if length is None else str(length) for length in spec.shape)
                raise BadInput(Problem(f"input '{name}' of the model has the shape [{told}], the data gives {list(values.shape)}"))
        return {name: tf.constant(batch[name]) for name in names}

    def run(self, prepared: object) -> object:
        return self.function(**prepared)  # type: ignore[arg-type]  # what prepare gave

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        return tuple(raw[name].numpy() for name in self._outputs)  # type: ignore[index]  # what the graph gave


class Tensorflow(Options):
    """TensorFlow on a CPU: a Keras model or a SavedModel as one graph, with an open batch axis.

    Traced (``tf.function``) when it is opened, as a server does it. ``jit_compile`` compiles it with XLA in the first call of each batch
    size. Threads within an operator are the device's; ``inter_op_threads`` run operators of different branches beside each other. A launch
    imports TensorFlow for seconds before what is timed. GPUs are hidden from it.
    """

    extra: ClassVar[str | None] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf-keras", "keras")
    accepts: ClassVar[tuple[str, ...]] = ("keras_model", "saved_model")
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    jit_compile: bool = False
    inter_op_threads: int = Field(1, ge=1)

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins
        from harness.formats import keras_model, tensorflow_package

        for package in ("tensorflow", "tf_keras"):
            plugins.require(package, plugin="tensorflow", extra="tensorflow")
        tensorflow_package.framework()
        if artifact.format == "keras_model":
            keras_model.prepare(artifact)

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """Load and trace. Raises CannotMeasure when threads cannot be set any more, or the model cannot be traced."""
        from harness.formats import keras_model, saved_model, tensorflow_package

        tensorflow_package.use_threads(device.threads, self.inter_op_threads)
        if artifact.format == "saved_model":
            owner, function = saved_model.load(artifact.path.parent)
            if self.jit_compile:
                function = _compiled(function, artifact)
        else:
            model = keras_model.load(artifact)
            owner = model
            try:
                function = keras_model.function_of(model, artifact, jit=self.jit_compile)
            except Exception as error:  # tracing raises whatever a layer's own code does
                said = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise CannotMeasure(f"TensorFlow cannot trace this model: {said[:300]}") from error
        yield TensorflowSession(owner, function, artifact, device, self.jit_compile)


def _compiled(served: tf.ConcreteFunction, artifact: ModelArtifact) -> tf.ConcreteFunction:
    """A signature's function under XLA."""
    import tensorflow as tf

    names = [spec.name for spec in artifact.inputs]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in artifact.inputs]

    @tf.function(input_signature=specs, autograph=False, jit_compile=True)  # type: ignore[untyped-decorator]
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = served(**dict(zip(names, tensors, strict=True)))
        return found

    return serve.get_concrete_function()


def _precision(compute: Counter[tuple[str, str]]) -> str:
    """What most products are of."""
    counts: Counter[str] = Counter()
    for (_, name), count in compute.items():
        counts[name] += count
    if not counts:
        return "no operators with weights"
    (first, most), *others = counts.most_common()
    return f"{first} ({most} of {counts.total()} compute operators)" if others else first


PLUGIN = Tensorflow
