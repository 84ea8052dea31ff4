"""Servers with one ONNX model: each starts, yields itself and the request that it is sent, and ends with its block."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import plugins
from harness.core.artifact import Dataset, ModelArtifact, TensorSpec
from harness.core.plugin import RunningServer
from harness.core.scenario import PluginRef
from harness.core.serving import Deployment, Endpoint, ServerCounters
from harness.engine.datasets import write_dataset
from harness.kserve.client import Client
from harness.kserve.codec import Message, encode_request
from harness.serving._other_server import OtherServer, started
from tests.benchmarks.serving.contenders import ROW, WIDTH

BATCH = 8
HERE = Path(__file__).parent
MODEL = "product"


@contextmanager
def embedded(folder: Path) -> Iterator[tuple[RunningServer, Message]]:
    """This project's server."""
    with plugins.load("serving", "embedded")(max_batch_size=BATCH).serve(_deployment(folder)) as server:  # type: ignore[attr-defined]
        yield server, encode_request({"x": ROW})


@contextmanager
def triton(folder: Path, python: Path) -> Iterator[tuple[RunningServer, Message]]:
    """Triton's Python backend, which joins requests in Triton and calls onnxruntime once for a batch."""
    plugin = plugins.load("serving", "triton")(python=str(python.absolute()), max_batch_size=BATCH)
    with plugin.serve(_deployment(folder)) as server:  # type: ignore[attr-defined]
        yield server, encode_request({"x": ROW})


@contextmanager
def torchserve(folder: Path, python: Path) -> Iterator[tuple[RunningServer, Message]]:
    """TorchServe with its own batching and one worker."""
    plugin = plugins.load("serving", "torchserve")(python=str(python.absolute()), max_batch_size=BATCH)
    with plugin.serve(_deployment(folder)) as server:  # type: ignore[attr-defined]
        yield server, encode_request({"x": ROW})


@dataclass(frozen=True)
class MlServer:
    """Seldon's MLServer, the model in its own process."""

    endpoint: Endpoint
    process: OtherServer

    def pids(self) -> tuple[int, ...]:
        return self.process.pids()

    def counters(self) -> ServerCounters | None:
        return None

    def trouble(self) -> str | None:
        return self.process.ended()

    def log(self) -> str:
        return self.process.printed()


@contextmanager
def mlserver(folder: Path, python: Path) -> Iterator[tuple[RunningServer, Message]]:
    """MLServer with its adaptive batching, which waits for more until a time is over: 1 ms here. The model is in the server's process
    (``parallel_workers: 0``): with a worker process it ended while it started, as tried."""
    deployment = _deployment(folder)
    settings = {"debug": False, "host": "127.0.0.1", "http_port": 0, "grpc_port": 0, "metrics_endpoint": None, "parallel_workers": 0}
    model = {
        "name": MODEL,
        "implementation": "mlserver_model.Product",
        "max_batch_size": BATCH,
        "max_batch_time": 0.001,
        "parameters": {"uri": str(deployment.artifact.path)},
    }
    serving = deployment.folder
    (serving / "settings.json").write_text(json.dumps(settings))
    (serving / "model-settings.json").write_text(json.dumps(model))
    (serving / "mlserver_model.py").write_text((HERE / "mlserver_model.py").read_text())
    command = [str(python.parent / "mlserver"), "start", "."]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    with started("MLServer", command, folder=serving, environment=environment) as process:
        found: list[Endpoint] = []

        def is_ready() -> bool:
            for port in process.listening_ports():
                with Client(Endpoint(f"http://127.0.0.1:{port}", MODEL), 2.0) as client:
                    if client.ready():
                        found.append(client.endpoint)
            return bool(found)

        process.wait_until(is_ready, 60.0)
        yield MlServer(found[0], process), encode_request({"x": ROW}, binary=False)


def _deployment(folder: Path) -> Deployment:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    into = folder / "server"
    into.mkdir(parents=True)
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        MODEL,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = folder / "model"
    model.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), model / "model.onnx")
    specs = (TensorSpec("x", "float32", (None, WIDTH)),), (TensorSpec("y", "float32", (None, WIDTH)),)
    artifact = ModelArtifact(model, "onnx", "model.onnx", *specs, (model / "model.onnx").stat().st_size, "", ())
    data = folder / "data.npz"
    write_dataset(data, Dataset({"x": np.repeat(ROW, BATCH, axis=0)}, None))
    runtime = PluginRef(name="onnxruntime")
    return Deployment(artifact, runtime, folder, MODEL, "cpu", 1, (), 1, data, into, Path(sys.executable))
