"""A Triton model repository: ``config.pbtxt`` from an artifact's tensors, and the model beside it.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.artifact import ModelArtifact, TensorSpec
from harness.core.errors import CannotMeasure
from harness.kserve.codec import DATATYPES

NATIVE = {"onnx": ("onnxruntime", "model.onnx"), "torchscript": ("pytorch", "model.pt"), "tensorrt": ("tensorrt", "model.plan")}
"""The backend that opens a format itself, and the name of the file that it looks for."""
PYTHON_MODEL = Path(__file__).with_name("_triton_model.py")
JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Batching:
    """The dynamic batcher's settings. ``queue_size`` and ``queue_timeout_us`` of 0 are without a limit."""

    max_batch_size: int
    max_queue_delay_us: int
    preferred: tuple[int, ...] = ()
    queue_size: int = 0
    queue_timeout_us: int = 0


@dataclass(frozen=True, slots=True)
class Instances:
    """How many copies of the model run, where ("cpu", "cuda:1"), and the threads of each."""

    count: int
    device: str
    threads: int


def can_batch(artifact: ModelArtifact) -> bool:
    """Whether Triton can join requests: every tensor's first axis is of any length, and there is another."""
    return all(spec.shape[:1] == (None,) and len(spec.shape) > 1 for spec in (*artifact.inputs, *artifact.outputs))


def config(name: str, artifact: ModelArtifact, backend: str, batching: Batching, instances: Instances) -> str:
    """The text of ``config.pbtxt``. One that cannot be batched has ``max_batch_size: 0``: its shapes are whole and nothing is joined."""
    batched = can_batch(artifact)
    file = next((file for kind, file in NATIVE.values() if kind == backend), "model.py")
    outputs = [spec.name for spec in artifact.outputs]
    if backend == "pytorch":  # it knows outputs by their place alone, written after two underscores
        outputs = [f"{name}__{index}" for index, name in enumerate(outputs)]
    lines = [
        f"name: {_text(name)}",
        f"backend: {_text(backend)}",
        f"default_model_filename: {_text(file)}",
        f"max_batch_size: {batching.max_batch_size if batched else 0}",
        *_tensors("input", artifact.inputs, [spec.name for spec in artifact.inputs], batched),
        *_tensors("output", artifact.outputs, outputs, batched),
        *_instance_group(instances),
        *(_dynamic_batching(batching) if batched else ()),
    ]
    if backend == "onnxruntime":
        lines.append(
            f'parameters {{ key: "intra_op_thread_count" value: {{ string_value: "{instances.threads}" }} }}',
        )
    return "\n".join(lines) + "\n"


def write(into: Path, name: str, text: str, artifact: ModelArtifact, job: dict[str, object] | None) -> None:
    """The repository under ``into``: one model, version 1. With a ``job`` the Python backend's model, which reads it."""
    version = into / name / "1"
    version.mkdir(parents=True)
    (into / name / "config.pbtxt").write_text(text)
    if job is not None:
        shutil.copyfile(PYTHON_MODEL, version / "model.py")
        (version / JOB).write_text(json.dumps(job, indent=2))
        return
    beside = [path for path in artifact.folder.iterdir() if path.is_file() and path.name not in (artifact.main, "artifact.json")]
    for path in beside:  # an ONNX file's external data
        shutil.copyfile(path, version / path.name)
    shutil.copyfile(artifact.path, version / NATIVE[artifact.format][1])


def _tensors(field: str, specs: Sequence[TensorSpec], names: Sequence[str], batched: bool) -> list[str]:
    return [
        f"{field} {{ name: {_text(name)} data_type: {_type(spec)} dims: [ {_dims(spec, batched)} ] }}"
        for spec, name in zip(specs, names, strict=True)
    ]


def _type(spec: TensorSpec) -> str:
    kind = DATATYPES.get(spec.dtype)
    if kind is None:
        raise CannotMeasure(f"'{spec.name}' is {spec.dtype}, which the Open Inference Protocol has no datatype for")
    return "TYPE_STRING" if kind == "BYTES" else f"TYPE_{kind}"


def _dims(spec: TensorSpec, batched: bool) -> str:
    shape = spec.shape[1:] if batched else spec.shape
    return ", ".join("-1" if length is None else str(length) for length in shape)


def _instance_group(instances: Instances) -> list[str]:
    kind, _, index = instances.device.partition(":")
    where = "kind: KIND_CPU" if kind == "cpu" else f"kind: KIND_GPU gpus: [ {index or 0} ]"
    return [f"instance_group {{ count: {instances.count} {where} }}"]


def _dynamic_batching(batching: Batching) -> list[str]:
    lines = ["dynamic_batching {"]
    if batching.preferred:
        lines.append(f"  preferred_batch_size: [ {', '.join(map(str, batching.preferred))} ]")
    lines.append(f"  max_queue_delay_microseconds: {batching.max_queue_delay_us}")
    if batching.queue_size or batching.queue_timeout_us:
        lines.append("  default_queue_policy {")
        if batching.queue_timeout_us:
            lines.append(f"    timeout_action: REJECT default_timeout_microseconds: {batching.queue_timeout_us}")
        if batching.queue_size:
            lines.append(f"    max_queue_size: {batching.queue_size}")
        lines.append("  }")
    return [*lines, "}"]


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
