"""See OnnxRuntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.core.artifact import ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Device, Options, Session

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


class OnnxSession:
    """An inference session: ``run`` takes numpy arrays and returns numpy arrays, so it ends when the device has finished."""

    def __init__(self, session: onnxruntime.InferenceSession, artifact: ModelArtifact, device: Device) -> None:
        self.session = session
        self._artifact = artifact
        self._device = device
        self._inputs = {value.name: value for value in session.get_inputs()}

    @property
    def facts(self) -> SessionFacts:
        """Providers as the session has them, precision as the graph has it: reads the model's file."""
        providers = tuple(self.session.get_providers())
        return SessionFacts(self._device.name, _precision(self._artifact), self._device.threads, providers)

    def prepare(self, batch: Mapping[str, NDArray[np.generic]]) -> object:
        """Arrays under the graph's input names. Raises BadInput when names do not match; a single input is matched by position."""
        names = list(self._inputs)
        if len(batch) == 1 and len(names) == 1:
            return {names[0]: next(iter(batch.values()))}
        if set(batch) != set(names):
            raise BadInput(Problem(f"the graph's inputs are {', '.join(names)}; the data gives {', '.join(batch)}"))
        return dict(batch)

    def run(self, prepared: object) -> object:
        return self.session.run(None, prepared)

    def outputs(self, raw: object) -> tuple[NDArray[np.generic], ...]:
        import numpy as np

        assert isinstance(raw, list)
        return tuple(np.asarray(value) for value in raw)


class OnnxRuntime(Options):
    """ONNX Runtime with any execution provider of its build. Options: ``providers``, ``optimization``, ``inter_op_threads``.

    A provider that was asked for and is not in use is an error: the library itself would fall back to the CPU in silence. Providers other
    than the CPU's are unverified until a run on such a machine is recorded in docs/measurements. Launches share the
    imports of every worker, not that of onnxruntime itself: it starts a thread, which a fork would not have.
    """

    extra: ClassVar[str | None] = "onnx"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    providers: tuple[str, ...] = ()
    optimization: Literal["none", "basic", "extended", "all"] = "all"
    inter_op_threads: int = 1

    def imports(self, artifact: ModelArtifact) -> tuple[str, ...]:
        return ()

    def preload(self, artifact: ModelArtifact) -> None:
        from harness import plugins

        plugins.require("onnxruntime", plugin="onnxruntime", extra="onnx")
        import onnxruntime  # noqa: F401 - imported so that its memory and time are not the model's

    @contextmanager
    def open(self, artifact: ModelArtifact, device: Device) -> Iterator[Session]:
        """A session on exactly the providers asked for. Raises CannotMeasure, naming what this build offers, when one is missing."""
        import onnxruntime

        wanted = [SHORT_NAMES.get(name, name) for name in self.providers] or _providers_of(device)
        offered = onnxruntime.get_available_providers()
        if missing := [name for name in wanted if name not in offered]:
            hint = f"this build of onnxruntime {onnxruntime.__version__} offers {', '.join(offered)}"
            raise CannotMeasure(f"execution provider {', '.join(missing)} is not available", hint=hint)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = device.threads
        options.inter_op_num_threads = self.inter_op_threads
        options.log_severity_level = 3
        level = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}[self.optimization]
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        configured = [(name, _provider_options(name, device)) for name in wanted]
        try:
            session = onnxruntime.InferenceSession(str(artifact.path), options, providers=configured)
        except Exception as error:  # the library's errors share no base class below Exception
            raise CannotMeasure(f"onnxruntime cannot open this model: {str(error).splitlines()[0]}") from error
        in_use = session.get_providers()
        if silent := [name for name in wanted if name not in in_use]:
            hint = f"it runs on {', '.join(in_use)} instead; see the worker's log for the library's own message"
            raise CannotMeasure(f"execution provider {', '.join(silent)} was asked for and is not in use", hint=hint)
        yield OnnxSession(session, artifact, device)


def _providers_of(device: Device) -> list[str]:
    return ["CPUExecutionProvider"] if device.name == "cpu" else ["CUDAExecutionProvider"]


def _provider_options(provider: str, device: Device) -> dict[str, str]:
    index = device.name.partition(":")[2]
    return {"device_id": index} if index and provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider") else {}


def _precision(artifact: ModelArtifact) -> str:
    """What the graph computes in, from its operators and weights; the model's file is read with the onnx package where installed."""
    import importlib.util

    if importlib.util.find_spec("onnx") is None:
        return "unknown (the onnx package is not installed)"
    import onnx

    from harness.formats.onnx_model import quantized_share

    model = onnx.load(artifact.path, load_external_data=False)
    done, total, left = quantized_share(model)
    floats = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in floats:
            count = 1
            for length in tensor.dims:
                count *= length
            sizes[floats[tensor.data_type]] = sizes.get(floats[tensor.data_type], 0) + count
    name = max(sizes, key=lambda key: sizes[key], default="float32")
    if done == 0:
        return name
    return f"int8 ({done} of {total} compute nodes{'' if not left else f'; {len(left)} in {name}'})"


PLUGIN = OnnxRuntime
