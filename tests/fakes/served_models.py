"""A small ONNX model behind whatever server a plugin starts, and what every server must do with it."""

import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.core.artifact import ModelArtifact, TensorSpec
from harness.core.scenario import PluginRef
from harness.core.serving import Deployment
from harness.kserve.client import Client, said
from harness.kserve.codec import decode_response, encode_request

FEATURES, CLASSES = 64, 10
ROWS = np.random.default_rng(1).standard_normal((32, FEATURES)).astype(np.float32)
WEIGHTS = np.random.default_rng(0).standard_normal((FEATURES, CLASSES)).astype(np.float32)


def python_with(variable, what):
    """The interpreter that an environment variable names; skips where there is none."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no interpreter with {what}: docs/serving-others.md says how to make one")
    return python


def onnx_artifact(folder, *, dtype="float32"):
    import onnx
    from onnx import helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", kind, ["n", CLASSES])],
        [numpy_helper.from_array(WEIGHTS.astype(dtype), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    x, y = TensorSpec("x", dtype, (None, FEATURES)), TensorSpec("y", dtype, (None, CLASSES))
    return ModelArtifact(folder, "onnx", "model.onnx", (x,), (y,), (folder / "model.onnx").stat().st_size, "", ())


def deployment(folder, artifact, **changes):
    into = folder / "server"
    into.mkdir(parents=True)
    cores = tuple(sorted(os.sched_getaffinity(0)))[:1]
    whole = Deployment(
        artifact, PluginRef(name="onnxruntime"), folder, "product", "cpu", 1, cores, 1, folder / "data.npz", into, Path(sys.executable)
    )
    return replace(whole, **changes)


def ask(client, rows):
    status, body, length = client.infer_raw(encode_request({"x": rows}))
    assert status == 200, said(status, body)
    return decode_response(body, length)["y"]


def ask_all_at_once(server, users=8, times=20):
    """Every user sends its own row again and again and checks each answer."""
    wrong = []

    def use(user):
        row = ROWS[user : user + 1]
        with Client(server.endpoint) as client:
            wrong.extend(time for time in range(times) if not np.allclose(ask(client, row), row @ WEIGHTS, atol=1e-4))

    threads = [threading.Thread(target=use, args=(user,)) for user in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    return users * times


def check_a_server(server):
    """It answers what the model gives, gives each of many users its own answer, joins their requests, counts them, and is pinned."""
    with Client(server.endpoint) as client:
        np.testing.assert_allclose(ask(client, ROWS[:3]), ROWS[:3] @ WEIGHTS, atol=1e-4)
        before = server.counters()
        sent = ask_all_at_once(server)
        counted = server.counters().since(before)
        assert (counted.answered, counted.failed, counted.samples) == (sent, 0, sent)
        assert 0 < counted.batches < sent and counted.compute_ns > 0
        status, body, _ = client.infer_raw(encode_request({"x": ROWS[:2, :5]}))
        assert status == 400 and "64" in said(status, body)
    assert server.trouble() is None
    pids = server.pids()
    assert len(pids) >= 2 and {frozenset(os.sched_getaffinity(pid)) for pid in pids} == {frozenset(sorted(os.sched_getaffinity(0))[:1])}
    return pids


def none_lives(pids):
    """Whether all have ended; one that was killed a moment ago may still be on its way, or wait to be reaped by another."""
    left = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=5)[1]
    return [process.pid for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
