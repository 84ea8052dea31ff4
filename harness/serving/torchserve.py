"""See TorchServe."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.core.errors import BadInput, CannotMeasure, Problem
from harness.core.measurement import SessionFacts
from harness.core.plugin import Options, RunningServer
from harness.core.scenario import Count, Duration
from harness.core.serving import Deployment, Endpoint, ServerCounters
from harness.kserve import codec
from harness.kserve.client import Client, Unreachable
from harness.serving import _torchserve_installation
from harness.serving._other_server import OtherServer, started
from harness.serving._torchserve_handler import COUNTERS

HANDLER = Path(__file__).with_name("_torchserve_handler.py")
ASKED_TIMEOUT_S = 5.0
LOOPBACK = ("127.0.0.1", "localhost")
SETTLE_S = 0.5
"""What a worker printed last comes through a thread of its own, a little after the news that it has ended."""


@dataclass(frozen=True, slots=True)
class TorchServeServer:
    """A TorchServe that is ready."""

    endpoint: Endpoint
    told: tuple[str, ...]
    deployment: Deployment
    process: OtherServer

    def facts(self) -> SessionFacts:
        """What is known of the model in it."""
        return SessionFacts("cpu", "unknown (TorchServe does not tell)", self.deployment.threads, self.told)

    def pids(self) -> tuple[int, ...]:
        return self.process.pids()

    def counters(self) -> ServerCounters:
        """From its workers, by way of their handler; how long requests waited in its queue it does not tell them."""
        files = [file.read_bytes() for file in _counters_folder(self.deployment).iterdir()]
        rows = [COUNTERS.unpack(data) for data in files if len(data) == COUNTERS.size]
        answered, failed, batches, samples, compute_ns = (sum(column) for column in zip(*rows, strict=True))
        return ServerCounters(answered, failed, batches, samples, None, compute_ns, len(rows) - 1)

    def trouble(self) -> str | None:
        return self.process.ended() or (None if _is_healthy(self.endpoint) else "TorchServe does not say any more that it is healthy")

    def log(self) -> str:
        return "\n".join((*self.told, self.process.printed()))


class TorchServe(Options):
    """TorchServe with its dynamic batching; archived upstream, and here to compare with what is in use.

    ``python`` names the interpreter with torchserve and what opens the model: torch for a TorchScript file, onnxruntime for an ONNX file.
    Java 17 is needed (``java`` in PATH, or JAVA_HOME). ``max_batch_size`` counts requests, which TorchServe does whatever is in them, and
    ``max_queue_delay`` is whole milliseconds, at least one. One worker, on a CPU; the runtime's options are refused.
    """

    accepts: ClassVar[tuple[str, ...]] = ("torchscript", "onnx")

    max_batch_size: Count = 8
    max_queue_delay: Literal[0] | Duration = 0
    queue_limit: Count = 1024
    python: str | None = None

    @contextlib.contextmanager
    def serve(self, deployment: Deployment) -> Iterator[RunningServer]:
        """Write the archive, start TorchServe, wait until its model answers.

        Raises BadInput for options that contradict the scenario, CannotMeasure where TorchServe or Java is missing, or it does not become
        ready.
        """
        self._check(deployment)
        deployment = dataclasses.replace(deployment, folder=deployment.folder.resolve())  # the server runs in it
        python = deployment.scenario_folder / Path(self.python).expanduser() if self.python else deployment.python
        found = _torchserve_installation.installed(python, deployment.artifact.format)
        java = _torchserve_installation.java()
        _counters_folder(deployment).mkdir()
        _archive(deployment)
        (deployment.folder / "config.properties").write_text(self._properties(deployment))
        with tempfile.TemporaryDirectory(prefix="ts-") as sockets:  # short: the path of a Unix socket ends at 107 bytes
            command = _command(java, python, found.home, sockets, deployment)
            environment = {name: value for name, value in os.environ.items() if not name.startswith("TS_")} | {"PATH": _path_of(python)}
            with started("TorchServe", command, folder=deployment.folder, cores=deployment.cores, environment=environment) as process:
                endpoint = _wait_for_endpoint(process, deployment)
                told = (f"TorchServe {found.version}, one worker, the model opened by {found.library}", self._told())
                yield TorchServeServer(endpoint, told, deployment, process)

    def _check(self, deployment: Deployment) -> None:
        artifact = deployment.artifact
        if artifact.format not in self.accepts:
            raise CannotMeasure(f"TorchServe is given {' or '.join(self.accepts)} here; this artifact is {artifact.format}")
        if deployment.host not in LOOPBACK:
            told = f"TorchServe would take orders from all who reach {deployment.host}: its management has no password and loads any model"
            raise CannotMeasure(told, hint="serve it on 127.0.0.1, with a proxy before /v2 where others are to reach it")
        if deployment.device != "cpu":
            raise CannotMeasure(f"TorchServe is started for a CPU only, and '{deployment.device}' was asked for")
        if deployment.runtime.options:
            given = ", ".join(sorted(deployment.runtime.options))
            raise BadInput(
                Problem(f"the runtime's options ({given}) do not reach TorchServe", key="server.torchserve", hint="leave them out")
            )
        if any(spec.shape[:1] != (None,) for spec in (*artifact.inputs, *artifact.outputs)):
            raise CannotMeasure("TorchServe joins requests along the first axis, and a tensor of this model has one of fixed length")

    def _properties(self, deployment: Deployment) -> str:
        """TorchServe's configuration: one address on loopback for all that it answers, nothing else open, no snapshots."""
        address = f"http://{deployment.host}:{deployment.port}"
        model = {
            "defaultVersion": True,
            "marName": f"{deployment.model}.mar",
            "minWorkers": 1,
            "maxWorkers": 1,
            "batchSize": self.max_batch_size,
            "maxBatchDelay": max(1, math.ceil(self.max_queue_delay / 1e6)),
            "responseTimeout": 120,
        }
        lines = {
            "inference_address": address,
            "management_address": address,
            "metrics_address": address,
            "grpc_inference_address": deployment.host,
            "grpc_management_address": deployment.host,
            "grpc_inference_port": 0,
            "grpc_management_port": 0,
            "job_queue_size": self.queue_limit,
            "disable_system_metrics": "true",
            "model_store": deployment.folder / "store",
            "load_models": f"{deployment.model}.mar",
            "models": json.dumps({deployment.model: {"1.0": model}}),
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items())

    def _told(self) -> str:
        delay_ms = max(1, math.ceil(self.max_queue_delay / 1e6))
        return f"batches of up to {self.max_batch_size} requests, filled for up to {delay_ms} ms"


def _archive(deployment: Deployment) -> None:
    """The model archive (.mar): a zip of the model, the handler with its codec, and a manifest.

    https://github.com/pytorch/serve/blob/master/model-archiver/README.md
    """
    artifact = deployment.artifact
    model = {"modelName": deployment.model, "serializedFile": artifact.main, "handler": HANDLER.name, "modelVersion": "1.0"}
    job = {
        "name": deployment.model,
        "format": artifact.format,
        "model": artifact.main,
        "inputs": [(spec.name, spec.shape) for spec in artifact.inputs],
        "outputs": [spec.name for spec in artifact.outputs],
        "threads": deployment.threads,
        "counters": str(_counters_folder(deployment)),
    }
    store = deployment.folder / "store"
    store.mkdir()
    with zipfile.ZipFile(store / f"{deployment.model}.mar", "w") as archive:
        archive.writestr(
            "MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model, "archiverVersion": "0.12.0", "createdOn": "-"})
        )
        archive.writestr("job.json", json.dumps(job))
        archive.write(HANDLER, HANDLER.name)
        archive.write(codec.__file__, "kserve_codec.py")
        for path in artifact.folder.iterdir():
            if path.is_file() and path.name != "artifact.json":
                archive.write(path, path.name)


def _command(java: str, python: Path, home: str, sockets: str, deployment: Deployment) -> list[str]:
    """What ``torchserve --start`` runs, without its pid file, of which a machine has one."""
    return [
        java,
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={sockets}",
        "-cp",
        f"{home}/ts/frontend/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        str(python),
        "-f",
        str(deployment.folder / "config.properties"),
        "-s",
        str(deployment.folder / "store"),
        "-ncs",
        "--disable-token-auth",
    ]


def _wait_for_endpoint(process: OtherServer, deployment: Deployment) -> Endpoint:
    """Where it answers, once a worker has opened the model: its counters are there from then on. It starts a worker that fails for ever."""

    def has_worker() -> bool:
        if process.printed(having="-> WORKER_STOPPED"):
            time.sleep(SETTLE_S)
            raise process.failed("TorchServe's worker ended before its model was ready", having="MODEL_LOG")
        return any(_counters_folder(deployment).iterdir())

    process.wait_until(has_worker, deployment.start_timeout_s)
    found = [Endpoint(f"http://{deployment.host}:{port}", deployment.model) for port in process.listening_ports()]
    healthy = next((endpoint for endpoint in found if _is_healthy(endpoint)), None)  # the other ports are for metrics and gRPC
    if healthy is None:
        raise process.failed("TorchServe does not answer")
    return healthy


def _is_healthy(endpoint: Endpoint) -> bool:
    try:
        with Client(endpoint, ASKED_TIMEOUT_S) as client:
            status, body, _ = client.ask("GET", "/ping")
    except Unreachable:
        return False
    return status == 200 and b"Healthy" in body


def _counters_folder(deployment: Deployment) -> Path:
    return deployment.folder / "counters"


def _path_of(python: Path) -> str:
    return f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"


PLUGIN = TorchServe
