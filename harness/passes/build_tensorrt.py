"""See BuildTensorrt."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.core.artifact import AppliedStep, ModelArtifact
from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.plugin import BuildContext, DataRole, Options
from harness.formats.tensorrt_engine import TIMING, Plate


class BuildTensorrt(Options):
    """Build a TensorRT engine from an ONNX graph, on this machine's GPU and for it alone.

    The network is strongly typed: precision is what the graph says, by its types and by Q/DQ pairs (quantize_static, with int8
    activations), and never the builder's choice. ``tf32`` is off, where TensorRT's own default rounds float32 products to 10 bits.
    An open batch axis is built for ``batches`` (least, best, most). ``timing_cache`` names a file beside the scenario with what an earlier
    build has timed; this build's own is kept beside the engine as timing.cache. Its content is no part of the trial's digest: give a new
    file a new name. Unverified until a run on a GPU is recorded in docs/measurements.
    """

    extra: ClassVar[str | None] = "tensorrt"
    packages: ClassVar[tuple[str, ...]] = ("tensorrt", "onnx")
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    produces: ClassVar[str] = "tensorrt"
    needs: ClassVar[tuple[DataRole, ...]] = ()

    batches: tuple[int, int, int] = (1, 8, 32)
    workspace_mib: int | None = Field(default=None, ge=1)
    tf32: bool = False
    optimization_level: Literal[0, 1, 2, 3, 4, 5] = 3
    timing_cache: str | None = None
    gpu: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _batches_grow(self) -> BuildTensorrt:
        least, best, most = self.batches
        if not 1 <= least <= best <= most:
            raise ValueError(f"batches are [least, best, most], each no less than the one before and than 1; got {list(self.batches)}")
        return self

    def apply(self, artifact: ModelArtifact, context: BuildContext) -> ModelArtifact:
        """Parse, build, write. Raises CannotMeasure without TensorRT or a GPU, or with what TensorRT says against the graph."""
        from harness import plugins
        from harness.formats import tensorrt_engine

        trt = tensorrt_engine.library("build_tensorrt")
        plugins.require("onnx", plugin="build_tensorrt", extra="onnx")
        cuda = tensorrt_engine.cuda("build_tensorrt")
        device = tensorrt_engine.gpu_at(cuda, self.gpu)
        tensorrt_engine.done(cuda.cudaSetDevice(self.gpu))
        said: list[str] = []
        logger = _logger(trt, said)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(artifact.path)):
            errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise CannotMeasure(f"TensorRT cannot read this graph: {(errors or said or ['no reason given'])[0]}")
        config, cache = self._config(trt, builder, context)
        open_inputs = self._set_batches(builder, network, config)
        serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            raise CannotMeasure(f"TensorRT cannot build this network: {said[-1] if said else 'no reason given'}")
        content = bytes(serialized)
        engine = trt.Runtime(logger).deserialize_cuda_engine(content)
        if engine is None:
            raise CannotMeasure(f"TensorRT does not read the engine that it has built: {said[-1] if said else 'no reason given'}")
        inputs, outputs = tensorrt_engine.specs_of(engine, trt.TensorIOMode.INPUT)
        precision = _precision(artifact, network, self.tf32)
        batches = self.batches if open_inputs else (0, 0, 0)
        plate = Plate(str(trt.__version__), device.name, device.compute_capability, precision, batches)
        tensorrt_engine.write(context.folder, content, plate)
        (context.folder / TIMING).write_bytes(bytes(config.get_timing_cache().serialize()))
        notes = [
            f"{network.num_layers} layers of the network in {engine.num_layers} of the engine, {precision}",
            f"TensorRT {plate.tensorrt} for {plate.gpu} (compute capability {plate.compute_capability})",
            f"batches of {batches[0]} to {batches[2]}, best {batches[1]}" if open_inputs else "every shape is fixed",
            f"{engine.device_memory_size_v2:,} bytes of device memory for activations",
            *([] if cache is None else [f"timings read from {self.timing_cache} (sha256 {cache[:12]})"]),
        ]
        step = AppliedStep("build_tensorrt", self.model_dump_json(), tuple(notes))
        return tensorrt_engine.describe(context.folder, inputs, outputs, (*artifact.steps, step))

    def _config(self, trt: ModuleType, builder: Any, context: BuildContext) -> tuple[Any, str | None]:
        """The builder's configuration, and the digest of the timing cache that was read."""
        config = builder.create_builder_config()
        if self.workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.workspace_mib * 2**20)
        (config.set_flag if self.tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
        config.builder_optimization_level = self.optimization_level
        known, digest = b"", None
        if self.timing_cache is not None:
            known = self._inside(self.timing_cache, context).read_bytes()
            digest = hashlib.sha256(known).hexdigest()
        cache = config.create_timing_cache(known)
        if not config.set_timing_cache(cache, ignore_mismatch=False):
            hint = "it holds for one GPU model and one TensorRT version: build without it, and keep the new timing.cache"
            raise CannotMeasure(f"TensorRT does not take the timing cache {self.timing_cache}", hint=hint)
        return config, digest

    @staticmethod
    def _inside(name: str, context: BuildContext) -> Path:
        path = (context.scenario_folder / name).resolve()
        if not path.is_relative_to(context.root.resolve()) or not path.is_file():
            raise BadInput(
                Problem(f"build_tensorrt's 'timing_cache' names '{name}', which is no file of this project", hint=f"looked for {path}")
            )
        return path

    def _set_batches(self, builder: Any, network: Any, config: Any) -> list[str]:
        """One optimization profile over all inputs with an open batch axis. Raises CannotMeasure for any other open axis."""
        profile, found = builder.create_optimization_profile(), []
        for index in range(network.num_inputs):
            value = network.get_input(index)
            shape = tuple(value.shape)
            if wrong := [axis for axis, length in enumerate(shape) if length < 0 and axis > 0]:
                raise CannotMeasure(
                    f"input '{value.name}' leaves axis {wrong[0]} open, beside the batch axis",
                    hint="fix it in the exported graph: an engine is built for known shapes",
                )
            if -1 in shape:
                profile.set_shape(value.name, *((batch, *shape[1:]) for batch in self.batches))
                found.append(value.name)
        if found:
            config.add_optimization_profile(profile)
        return found


def _logger(trt: ModuleType, said: list[str]) -> Any:
    """Keeps TensorRT's errors, which it prints otherwise."""

    class Logger(trt.ILogger):  # type: ignore[misc,name-defined]  # a module that is not there when types are checked
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                said.append(message.strip().splitlines()[0])

    return Logger()


def _precision(artifact: ModelArtifact, network: Any, tf32: bool) -> str:
    """What a strongly typed network computes in: what its graph says."""
    import onnx

    from harness.formats import onnx_model

    done, total, _ = onnx_model.quantized_share(onnx.load(artifact.path, load_external_data=False))
    names = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
    types = Counter(layer.get_output(0).dtype.name for layer in map(network.get_layer, range(network.num_layers)) if layer.num_outputs)
    floats = {names[kind]: count for kind, count in types.items() if kind in names}
    widest = max(floats, key=lambda name: floats[name], default="float32")
    if tf32 and widest == "float32":
        widest = "float32 with TF32 products"
    return widest if done == 0 else f"int8 ({done} of {total} compute nodes between Q/DQ; {widest} beside)"


PLUGIN = BuildTensorrt
