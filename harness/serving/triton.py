"""See Triton."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Options, RunningServer
from harness.core.scenario import Count, Duration
from harness.core.serving import Deployment, Endpoint, ServerCounters
from harness.kserve.client import Client, Refused, Unreachable
from harness.serving import _counters, _triton_installation, _triton_repository
from harness.serving._other_server import OtherServer, started
from harness.serving._triton_installation import Installation
from harness.serving._triton_repository import NATIVE, Batching, Instances

ASKED_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class TritonServer:
    """A Triton that is ready. ``told`` is what really runs: the server, the backend, the model's library, how it batches."""

    endpoint: Endpoint
    told: tuple[str, ...]
    deployment: Deployment
    process: OtherServer

    def facts(self) -> SessionFacts:
        """What is known of the model in it: Triton does not tell which kernels run."""
        return SessionFacts(self.deployment.device, "unknown (Triton does not tell)", self.deployment.threads, self.told)

    def pids(self) -> tuple[int, ...]:
        return self.process.pids()

    def counters(self) -> ServerCounters | None:
        """From the statistics extension, in ns. None when the server does not answer."""
        try:
            with Client(self.endpoint, ASKED_TIMEOUT_S) as client:
                return _counters.from_statistics(client.json(f"/v2/models/{self.endpoint.model}/stats"), self.endpoint.model)
        except (Unreachable, Refused):
            return None

    def trouble(self) -> str | None:
        if (how := self.process.ended()) is not None:
            return how
        with Client(self.endpoint, ASKED_TIMEOUT_S) as client:
            return None if client.ready() else "Triton does not say any more that its model is ready"

    def log(self) -> str:
        return "\n".join((*self.told, self.process.printed()))


class Triton(Options):
    """NVIDIA Triton with dynamic batching, from a binary or from the PyPI package nvidia-pytriton.

    ``python`` names the interpreter whose nvidia-pytriton is started and whose packages the Python backend imports; ``binary`` and
    ``backends`` name another tritonserver and the folder of its backends. An ONNX artifact is opened by Triton's onnxruntime backend, a
    TorchScript file by its pytorch backend, a TensorRT engine by its tensorrt backend, where that backend is there; without its backend an
    ONNX artifact is opened by onnxruntime in the Python backend, which is what nvidia-pytriton has. Only the Python backend on a CPU has
    been run; the others follow Triton's documentation and are unverified. Options of the recipe's runtime do not reach Triton and are
    refused.
    ``queue_limit`` refuses requests beyond so many in the queue, ``queue_timeout`` those that waited longer; 0 is without a limit.
    """

    accepts: ClassVar[tuple[str, ...]] = tuple(NATIVE)

    max_batch_size: Count = 8
    max_queue_delay: Literal[0] | Duration = 0
    preferred_batch_sizes: tuple[Count, ...] = ()
    queue_limit: Literal[0] | Count = 0
    queue_timeout: Literal[0] | Duration = 0
    instances: Count = 1
    python: str | None = None
    binary: str | None = None
    backends: str | None = None

    @contextlib.contextmanager
    def serve(self, deployment: Deployment) -> Iterator[RunningServer]:
        """Write the repository, start Triton, wait until its model is ready.

        Raises BadInput for options that contradict the scenario, CannotMeasure where Triton is missing, cannot open the artifact, or does
        not become ready.
        """
        self._check(deployment)
        deployment = dataclasses.replace(deployment, folder=deployment.folder.resolve())  # the server runs in it
        installation = _triton_installation.find(self.binary, self.backends, self.python, deployment.scenario_folder, deployment.python)
        backend, backends = _backend_of(deployment, installation)
        text = _triton_repository.config(deployment.model, deployment.artifact, backend, self._batching(), self._instances(deployment))
        job = _job(deployment, installation) if backend == "python" else None
        repository = deployment.folder / "repository"
        _triton_repository.write(repository, deployment.model, text, deployment.artifact, job)
        command = _command(installation.binary, repository, backends, deployment)
        with started(
            "Triton", command, folder=deployment.folder, cores=deployment.cores, environment=installation.environment()
        ) as process:
            endpoint = _wait_for_endpoint(process, deployment)
            told = (_opened_by(endpoint, backend, installation), *self._told(deployment))
            yield TritonServer(endpoint, told, deployment, process)

    def _check(self, deployment: Deployment) -> None:
        artifact = deployment.artifact
        if artifact.format not in self.accepts:
            hint = "serve it by 'server: embedded'" if artifact.format != "torch_module" else "put 'export_onnx' into the recipe's passes"
            raise CannotMeasure(f"Triton serves {', '.join(self.accepts)}; this artifact is {artifact.format}", hint=hint)
        if deployment.runtime.options:
            given = ", ".join(sorted(deployment.runtime.options))
            hint = "leave them out, or serve this recipe by 'server: embedded'"
            raise BadInput(Problem(f"the runtime's options ({given}) do not reach Triton", key="server.triton", hint=hint))
        if _triton_repository.can_batch(artifact) and deployment.batch_size > self.max_batch_size:
            message = f"max_batch_size is {self.max_batch_size}, and one request has {deployment.batch_size} samples"
            raise BadInput(Problem(message, key="server.triton.max_batch_size"))
        if over := [size for size in self.preferred_batch_sizes if size > self.max_batch_size]:
            message = f"{over[0]} is above max_batch_size, {self.max_batch_size}"
            raise BadInput(Problem(message, key="server.triton.preferred_batch_sizes"))

    def _batching(self) -> Batching:
        delay_us, timeout_us = math.ceil(self.max_queue_delay / 1e3), math.ceil(self.queue_timeout / 1e3)
        return Batching(self.max_batch_size, delay_us, self.preferred_batch_sizes, self.queue_limit, timeout_us)

    def _instances(self, deployment: Deployment) -> Instances:
        return Instances(self.instances, deployment.device, deployment.threads)

    def _told(self, deployment: Deployment) -> tuple[str, ...]:
        if not _triton_repository.can_batch(deployment.artifact):
            return ("not batched: a tensor has no first axis of any length, or no other axis",)
        return (f"batches of up to {self.max_batch_size}, filled for up to {self.max_queue_delay / 1e6:g} ms",)


def _backend_of(deployment: Deployment, installation: Installation) -> tuple[str, Path]:
    """The backend that opens the artifact, and the folder of backends to start with."""
    native = NATIVE[deployment.artifact.format][0]
    if installation.has(native):
        return native, installation.backends
    if deployment.artifact.format != "onnx" or not installation.has("python"):
        known = ", ".join(sorted(path.name for path in installation.backends.iterdir())) if installation.backends.is_dir() else "none"
        hint = "put 'export_onnx' into the recipe's passes" if installation.has("python") else "name the folder with 'backends:'"
        raise CannotMeasure(f"this Triton has no backend '{native}' for {deployment.artifact.format}; it has {known}", hint=hint)
    if installation.interpreter.onnxruntime is None:
        python = installation.interpreter.path
        raise CannotMeasure(f"the Python backend needs onnxruntime in {python}", hint=f"{python} -m pip install onnxruntime 'numpy<2'")
    return "python", _triton_installation.python_backend(installation, deployment.folder / "backends")


def _job(deployment: Deployment, installation: Installation) -> dict[str, object]:
    """What the Python backend's model is told."""
    artifact, (kind, _, index) = deployment.artifact, deployment.device.partition(":")
    return {
        "model": str(artifact.path.resolve()),
        "inputs": [spec.name for spec in artifact.inputs],
        "outputs": [spec.name for spec in artifact.outputs],
        "batched": _triton_repository.can_batch(artifact),
        "threads": deployment.threads,
        "gpu": None if kind == "cpu" else int(index or 0),
        "packages": list(installation.interpreter.packages),
        "numpy": installation.interpreter.versions.get("numpy"),
    }


def _command(binary: Path, repository: Path, backends: Path, deployment: Deployment) -> list[str]:
    return [
        str(binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-address={deployment.host}",
        f"--http-port={deployment.port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
        "--exit-timeout-secs=5",
    ]


def _wait_for_endpoint(process: OtherServer, deployment: Deployment) -> Endpoint:
    """Where Triton answers. It stays alive when its port is taken: what listens must be this process, or another's answers are timed."""
    found: list[Endpoint] = []

    def is_ready() -> bool:
        if "already in use" in process.printed():
            raise process.failed(f"port {deployment.port} is in use")
        ports = process.listening_ports()
        if not ports:
            return False
        found[:] = [Endpoint(f"http://{deployment.host}:{ports[0]}", deployment.model)]
        with Client(found[0], ASKED_TIMEOUT_S) as client:
            return client.ready()

    process.wait_until(is_ready, deployment.start_timeout_s)
    return found[0]


def _opened_by(endpoint: Endpoint, backend: str, installation: Installation) -> str:
    with Client(endpoint, ASKED_TIMEOUT_S) as client:
        version = client.json("/v2").get("version", "of an unknown version")
    by = "onnxruntime's own backend" if backend == "onnxruntime" else f"its {backend} backend"
    if backend == "python":
        interpreter = installation.interpreter
        by += f" (Python {interpreter.minor}, onnxruntime {interpreter.onnxruntime}, numpy {interpreter.versions.get('numpy')})"
    return f"Triton {version}, the model opened by {by}"


PLUGIN = Triton
