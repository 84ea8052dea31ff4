"""The servers that are compared: each starts, answers one request that is given as bytes, and ends with its block.

To add one, write a context manager that yields an ``Address`` and put it under its name in ``CONTENDERS``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.artifact import Dataset, ModelArtifact, TensorSpec
from harness.core.scenario import PluginRef
from harness.core.serving import Deployment
from harness.engine.datasets import write_dataset
from harness.kserve.codec import encode_request
from harness.serving.embedded import Embedded

HERE = Path(__file__).parent
WIDTH = 512
ROW = np.random.default_rng(1).standard_normal((1, WIDTH), dtype=np.float32)
START_S = 60


@dataclass(frozen=True)
class Address:
    """Where to send what; ``pids`` are the server's processes."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    pids: tuple[int, ...]


@contextmanager
def embedded(folder: Path, **options: object) -> Iterator[Address]:
    """This project's server, the model in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data.npz"
    write_dataset(data, Dataset({"x": np.repeat(ROW, 8, axis=0)}, None))
    artifact = ModelArtifact(
        folder, "fake", "none", (TensorSpec("x", "float32", (None, WIDTH)),), (TensorSpec("y", "float32", (None, WIDTH)),), 0, "", ()
    )
    into = folder / "server"
    into.mkdir()
    runtime = PluginRef(name="tiny_runtime.py")
    deployment = Deployment(artifact, runtime, HERE, "tiny", "cpu", 1, (), 1, data, into, Path(sys.executable))
    with Embedded.model_validate(options).serve(deployment) as server:
        message = encode_request({"x": ROW})
        yield Address(server.endpoint.url + server.endpoint.infer_path, message.body, message.headers, server.pids())


@contextmanager
def reference(folder: Path) -> Iterator[Address]:
    """25 lines on uvicorn, the model in the same process; rows as raw bytes, which is less work than any protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as listening, (folder / "server.log").open("wb") as log:
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, str(HERE / "reference_server.py"), str(listening.fileno())],
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    try:
        _wait_for(port, process)
        yield Address(f"http://127.0.0.1:{port}/", ROW.tobytes(), {}, (process.pid,))
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the reference server did not start: see its server.log")


CONTENDERS: dict[str, Callable[[Path], AbstractContextManager[Address]]] = {"embedded": embedded, "reference": reference}
