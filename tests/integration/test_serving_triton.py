"""A real Triton, the one that the package nvidia-pytriton carries: its Python backend on a CPU."""

import os
import signal
import socket

import numpy as np
import pytest
from fakes.served_models import CLASSES, ROWS, WEIGHTS, ask, check_a_server, deployment, none_lives, onnx_artifact, python_with

from harness import plugins
from harness.core.errors import CannotMeasure
from harness.core.serving import Endpoint
from harness.kserve.client import Client, Refused
from harness.kserve.codec import encode_request

pytest.importorskip("onnx")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python():
    return python_with("HARNESS_TRITON_PYTHON", "nvidia-pytriton")


def serve(python, given, **options):
    return plugins.load("serving", "triton")(python=python, **options).serve(given)


def test_it_answers_batches_counts_stays_on_its_core_and_leaves_nothing_behind(python, tmp_path):
    given = deployment(tmp_path, onnx_artifact(tmp_path / "model"))
    with serve(python, given, max_queue_delay="5 ms") as server:
        assert server.facts().details[0].startswith("Triton 2.") and "its python backend (Python 3" in server.facts().details[0]
        with Client(server.endpoint) as client:
            told = client.metadata()
            with pytest.raises(Refused, match="unknown model"), Client(Endpoint(server.endpoint.url, "other")) as other:
                other.metadata()
        assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}]
        pids = check_a_server(server)
        assert server.counters().queue_ns > 0
        assert "Started HTTPService" in server.log() and server.log().startswith("Triton 2.")
    assert none_lives(pids)


def test_an_artifact_in_half_precision_is_answered_in_half_precision(python, tmp_path):
    given = deployment(tmp_path, onnx_artifact(tmp_path / "model", dtype="float16"))
    with serve(python, given) as server, Client(server.endpoint) as client:
        rows = ROWS[:2].astype(np.float16)
        answer = ask(client, rows)
    assert answer.dtype == np.float16
    np.testing.assert_allclose(answer, (rows @ WEIGHTS.astype(np.float16)), atol=0.2)


def test_a_request_beyond_its_batch_size_is_refused_in_its_own_words(python, tmp_path):
    with (
        serve(python, deployment(tmp_path, onnx_artifact(tmp_path / "model")), max_batch_size=4) as server,
        Client(server.endpoint) as client,
    ):
        assert ask(client, ROWS[:4]).shape == (4, CLASSES)
        status, body, _ = client.infer_raw(encode_request({"x": ROWS[:5]}))
    assert status == 400 and b"batch" in body


def test_a_server_that_was_killed_is_trouble_and_counts_no_more(python, tmp_path):
    with serve(python, deployment(tmp_path, onnx_artifact(tmp_path / "model"))) as server:
        pids = server.pids()
        os.kill(pids[0], signal.SIGKILL)
        server.process.process.wait()
        assert server.trouble() == "Triton ended with signal SIGKILL"
        assert server.counters() is None
    assert none_lives(pids)


def test_a_file_that_is_no_model_ends_the_start_with_tritons_words(python, tmp_path):
    artifact = onnx_artifact(tmp_path / "model")
    artifact.path.write_bytes(b"not a model")
    with pytest.raises(CannotMeasure) as refused, serve(python, deployment(tmp_path, artifact)):
        pass
    assert "before its model was ready" in str(refused.value) and "INVALID_PROTOBUF" in str(refused.value)


def test_a_port_that_another_holds_is_told_and_the_others_answers_are_not_taken(python, tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        given = deployment(tmp_path, onnx_artifact(tmp_path / "model"), port=port)
        with pytest.raises(CannotMeasure, match=f"'127.0.0.1:{port}' already in use"), serve(python, given):
            pass
