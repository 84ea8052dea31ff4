"""The embedded server as a process, with a model that does what a request tells it; Triton's own client is the judge of the protocol."""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from fakes import told_runtime
from fakes.processes import Watch
from fakes.told_runtime import KILL, NAN, RAISE, WAIT
from prometheus_client.parser import text_string_to_metric_families

from harness.core.artifact import Dataset, ModelArtifact, TensorSpec
from harness.core.errors import CannotMeasure
from harness.core.measurement import SessionFacts
from harness.core.scenario import PluginRef
from harness.core.serving import Deployment
from harness.engine.datasets import write_dataset
from harness.kserve.client import Client, said
from harness.kserve.codec import decode_response, encode_request
from harness.serving.embedded import Embedded

FAKES = Path(told_runtime.__file__).parent
LONG_S = 60
ONE = np.ones((1, 2), np.float32)
INPUTS, OUTPUTS = (TensorSpec("x", "float32", (None, 2)),), (TensorSpec("y", "float32", (None, 2)), TensorSpec("batch", "int64", (None,)))


class Serving:
    """A running server in the hands of a test."""

    def __init__(self, server, gate):
        self.server, self.gate = server, gate

    @property
    def url(self):
        return self.server.endpoint.url

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    def ask(self, values=ONE, *, binary=True):
        """Status, outputs or the server's words, and headers."""
        message = encode_request({"x": values}, binary=binary)
        with Client(self.server.endpoint, LONG_S) as client:
            status, body, headers = client.ask("POST", self.server.endpoint.infer_path, message.body, message.headers)
        length = headers.get("inference-header-content-length")
        return status, decode_response(body, length and int(length)) if status == 200 else said(status, body), headers

    def get(self, path, method="GET", body=None, headers=None):
        with Client(self.server.endpoint, LONG_S) as client:
            return client.ask(method, path, body, headers)

    def metrics(self):
        _, body, _ = self.get("/metrics")
        families = text_string_to_metric_families(body.decode())
        return {(sample.name, sample.labels.get("outcome", "")): sample.value for family in families for sample in family.samples}

    def until(self, true):
        end = time.monotonic() + LONG_S
        while not true():
            assert time.monotonic() < end, f"did not come true in {LONG_S} s; the server's log:\n{self.server.log()}"
            time.sleep(0.005)

    def hold(self, pool):
        """Make the model wait at the gate, and give the request that does."""
        held = pool.submit(self.ask, np.full((1, 2), WAIT, np.float32))
        self.until(self.gate.with_suffix(".waits").exists)
        return held

    def queued(self, count):
        self.until(lambda: self.metrics()["harness_requests_waiting", ""] == count)

    def open_gate(self):
        self.gate.touch()

    def shut_gate(self):
        self.gate.unlink(missing_ok=True)
        self.gate.with_suffix(".waits").unlink(missing_ok=True)


@contextlib.contextmanager
def serving(folder, *, runtime=(), batch_size=1, inputs=INPUTS, **options):
    folder.mkdir(exist_ok=True)
    gate = folder / "gate"
    data = folder / "data.npz"
    write_dataset(data, Dataset({"x": np.ones((4, 2), np.float32)}, None))
    artifact = ModelArtifact(folder, "fake", "none", inputs, OUTPUTS, 0, "", ())
    told = PluginRef(name="told_runtime.py", options={"gate": str(gate), **dict(runtime)})
    into = folder / "server"
    into.mkdir()
    deployment = Deployment(artifact, told, FAKES, "told", "cpu", 1, (), batch_size, data, into, Path(sys.executable))
    with Embedded.model_validate(options).serve(deployment) as server:
        yield Serving(server, gate)


@pytest.fixture(scope="module")
def _one(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("one"), max_batch_size=4, queue_limit=6, max_body="10 kB") as running:
        yield running


@pytest.fixture
def one(_one):
    """A server that tests share; its gate is shut when a test begins."""
    _one.shut_gate()
    yield _one
    _one.open_gate()
    _one.until(lambda: not _one.metrics()["harness_requests_in_model", ""])


@pytest.fixture
def pool():
    with ThreadPoolExecutor(32) as threads:
        yield threads


@pytest.fixture
def judge(one):
    with contextlib.closing(triton.InferenceServerClient(one.url.removeprefix("http://"))) as client:
        yield client


def triton_input(values, *, binary):
    given = triton.InferInput("x", list(values.shape), "FP32")
    given.set_data_from_numpy(values, binary_data=binary)
    return given


# What Triton's client says of it.


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritons_client_gets_its_answers(judge, binary_in, binary_out, compression):
    values = np.array([[1, 2], [3, 4]], np.float32)
    outputs = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    result = judge.infer(
        "told",
        [triton_input(values, binary=binary_in)],
        outputs=outputs,
        request_id="7",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert np.array_equal(result.as_numpy("y"), values * 2)
    assert result.get_response()["id"] == "7" and [output["name"] for output in result.get_response()["outputs"]] == ["y"]


def test_tritons_client_gets_all_outputs_when_it_names_none(judge):
    result = judge.infer("told", [triton_input(ONE, binary=True)], model_version="1")
    assert result.as_numpy("y").tolist() == [[2, 2]] and result.as_numpy("batch").tolist() == [1]


def test_tritons_client_reads_health_metadata_config_and_repository(judge):
    assert judge.is_server_live() and judge.is_server_ready() and judge.is_model_ready("told") and judge.is_model_ready("told", "1")
    assert not judge.is_model_ready("other") and not judge.is_model_ready("told", "2")
    assert {"binary_tensor_data", "statistics"} <= set(judge.get_server_metadata()["extensions"])
    told = judge.get_model_metadata("told")
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert told["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}, {"name": "batch", "datatype": "INT64", "shape": [-1]}]
    config = judge.get_model_config("told")
    assert config["max_batch_size"] == 4 and config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}]
    assert judge.get_model_repository_index() == [{"name": "told", "version": "1", "state": "READY", "reason": ""}]
    judge.load_model("told")
    for refused in (lambda: judge.unload_model("told"), lambda: judge.load_model("other")):
        with pytest.raises(triton.InferenceServerException) as error:
            refused()
        assert error.value.status() == "400"


def test_tritons_client_reads_the_statistics(judge):
    before = judge.get_inference_statistics("told")["model_stats"][0]
    judge.infer("told", [triton_input(np.ones((3, 2), np.float32), binary=True)])
    after = judge.get_inference_statistics()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    assert sum(entry["compute_infer"]["count"] for entry in after["batch_stats"]) == after["execution_count"]


# Batches.


def test_requests_that_came_while_a_batch_ran_share_the_next(one, pool):
    held = one.hold(pool)
    waiting = [pool.submit(one.ask, np.full((1, 2), number, np.float32)) for number in range(4)]
    one.queued(4)
    one.open_gate()
    assert held.result()[0] == 200
    for number, answer in enumerate(waiting):
        status, outputs, _ = answer.result()
        assert (status, outputs["y"].tolist(), outputs["batch"].tolist()) == (200, [[2 * number] * 2], [4])


def test_a_request_of_another_dtype_or_shape_never_shares_their_batch(tmp_path, pool):
    inputs = (TensorSpec("x", "float64", (None, None)),)
    with serving(tmp_path / "s", inputs=inputs) as any_shape:
        held = any_shape.hold(pool)
        kinds = [np.ones((1, 2), np.float32), np.ones((1, 3), np.float32), np.ones((1, 2), np.float64)]
        waiting = [pool.submit(any_shape.ask, kind) for kind in kinds * 2]
        any_shape.queued(6)
        any_shape.open_gate()
        held.result()
        for kind, answer in zip(kinds * 2, waiting, strict=True):
            _, outputs, _ = answer.result()
            assert outputs["y"].dtype == kind.dtype and np.array_equal(outputs["y"], kind * 2) and outputs["batch"].tolist() == [2]


def test_one_bad_request_does_not_fail_those_that_shared_its_batch(one, pool):
    held = one.hold(pool)
    values = [1.0, RAISE, 2.0]
    waiting = [pool.submit(one.ask, np.full((1, 2), value, np.float32)) for value in values]
    one.queued(3)
    one.open_gate()
    held.result()
    answers = [answer.result() for answer in waiting]
    assert [status for status, _, _ in answers] == [200, 500, 200]
    assert answers[1][1] == "the model failed: RuntimeError: told to fail"


def test_an_answer_that_is_not_finite_is_an_error_for_its_own_request_alone(one, pool):
    held = one.hold(pool)
    waiting = [pool.submit(one.ask, np.full((1, 2), value, np.float32)) for value in (1.0, NAN)]
    one.queued(2)
    one.open_gate()
    held.result()
    good, bad = (answer.result() for answer in waiting)
    assert good[0] == 200 and good[1]["batch"].tolist() == [2]
    assert bad[0] == 500 and "NaN or infinity" in bad[1]


# Limits.


def test_a_full_queue_is_told_with_when_to_come_back(one, pool):
    before = one.server.counters()
    held = one.hold(pool)
    waiting = [pool.submit(one.ask) for _ in range(6)]
    one.queued(6)
    status, text, headers = one.ask()
    assert (status, headers["retry-after"]) == (503, "1") and "queue is full" in text
    one.open_gate()
    assert [answer.result()[0] for answer in [held, *waiting]] == [200] * 7
    counted = one.server.counters().since(before)
    assert (counted.answered, counted.failed, counted.samples) == (7, 1, 7)
    assert counted.queue_ns > 0 and counted.compute_ns > 0


def test_a_client_that_hangs_up_while_it_waits_is_not_computed_for(one, pool):
    held = one.hold(pool)
    message = encode_request({"x": np.full((1, 2), KILL, np.float32)})
    head = f"POST /v2/models/told/infer HTTP/1.1\r\nContent-Length: {len(message.body)}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in message.headers.items()
    )
    with socket.create_connection(("127.0.0.1", one.port)) as impatient:
        impatient.sendall(f"{head}\r\n".encode() + message.body)
        one.queued(1)
    one.until(lambda: one.metrics().get(("harness_requests_total", "client gone"), 0) == 1)
    one.open_gate()
    assert held.result()[0] == 200 and one.ask()[0] == 200


INFER = "/v2/models/told/infer"
MALFORMED = [
    ("POST", INFER, b"{", 400, "not valid JSON"),
    ("POST", INFER, json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}), 400, "has the shape"),
    ("POST", INFER, json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT8", "data": [1, 2]}]}), 400, "is FP32"),
    ("POST", INFER, json.dumps({"inputs": [{"name": "z", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}), 400, "no input 'z'"),
    ("POST", INFER, bytes(20_000), 413, "max_body"),
    ("POST", "/v2/models/other/infer", b"{}", 404, "unknown model 'other'"),
    ("POST", "/v2/models/told/versions/2/infer", b"{}", 404, "no version 2"),
    ("GET", INFER, None, 405, "takes POST"),
    ("GET", "/nothing", None, 404, "nothing under /nothing"),
    ("GET", "/v2/models/told/trace/setting", None, 404, "has no"),
    ("POST", "/v2/health/live", b"", 405, "takes GET"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"), MALFORMED, ids=[f"{status} {text}" for *_, status, text in MALFORMED]
)
def test_a_wrong_request_gets_its_status_and_is_told_why(one, method, path, body, status, text):
    answered, told, _ = one.get(path, method, body.encode() if isinstance(body, str) else body)
    assert (answered, text in json.loads(told)["error"]) == (status, True), told
    assert one.ask()[0] == 200


def test_metrics_tell_what_happened(one):
    before = one.metrics()
    one.ask(np.ones((3, 2), np.float32))
    after = one.metrics()

    def more(name, outcome=""):
        return after[name, outcome] - before.get((name, outcome), 0)

    assert (more("harness_requests_total", "ok"), more("harness_samples_total"), more("harness_batch_size_sum")) == (1, 3, 3)
    assert more("harness_queue_seconds_count") == more("harness_inference_seconds_count") == more("harness_request_seconds_count") == 1
    assert after["harness_model_instances_ready", ""] == 1


def test_what_runs_is_told(one):
    assert one.server.facts() == SessionFacts("cpu", "told", 1, ("a fake",))
    assert one.ask()[0] == 200


def test_a_request_that_takes_too_long_is_told_so_and_a_stuck_model_is_started_anew(tmp_path, pool):
    with serving(tmp_path / "s", request_timeout="300 ms") as running:
        held = running.hold(pool)
        behind = pool.submit(running.ask)
        assert held.result()[0] == 504
        assert behind.result()[0] in (503, 504), "late itself, or there when the process was ended"
        running.until(lambda: running.server.counters().worker_restarts == 1)
        running.open_gate()
        running.until(lambda: running.ask()[0] == 200)


def test_a_client_that_does_not_finish_its_request_is_ended(tmp_path):
    with serving(tmp_path / "s", read_timeout="200 ms") as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=LONG_S) as slow:
            slow.sendall(b"POST /v2/models/told/infer HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_not_finite_answers_pass_where_they_are_allowed(tmp_path):
    with serving(tmp_path / "s", allow_not_finite=True) as running:
        bad = np.full((1, 2), NAN, np.float32)
        status, outputs, _ = running.ask(bad)
        assert status == 200 and np.isnan(outputs["y"]).all()
        status, text, _ = running.ask(bad, binary=False)
        assert status == 500 and "ask for binary data" in text


def test_an_equal_request_is_answered_from_the_cache(tmp_path):
    with serving(tmp_path / "s", cache="1 MiB") as running:
        first, again, other = running.ask(), running.ask(binary=False), running.ask(ONE * 3)
        assert first[1]["y"].tolist() == again[1]["y"].tolist() != other[1]["y"].tolist()
        metrics = running.metrics()
        assert (metrics["harness_cache_hits_total", ""], metrics["harness_cache_misses_total", ""]) == (1, 2)
        counted = running.server.counters()
        assert (counted.answered, counted.batches) == (3, 2)


# Models that take one size, and outputs that cannot be shared out.


def test_a_model_of_one_size_gets_full_batches_and_answers_only_what_was_asked(tmp_path):
    fixed = (TensorSpec("x", "float32", (4, 2)),)
    with serving(tmp_path / "s", inputs=fixed, runtime={"samples": 4}) as running:
        status, outputs, _ = running.ask(np.array([[1, 2], [3, 4], [5, 6]], np.float32))
        assert (status, outputs["y"].tolist(), outputs["batch"].tolist()) == (200, [[2, 4], [6, 8], [10, 12]], [4, 4, 4])
        assert running.ask(np.ones((5, 2), np.float32))[0] == 400


def test_requests_never_share_a_batch_whose_outputs_do_not_follow_it(tmp_path, pool):
    with serving(tmp_path / "s", runtime={"one_size": True}) as running:
        held = running.hold(pool)
        waiting = [pool.submit(running.ask) for _ in range(2)]
        running.queued(2)
        running.open_gate()
        held.result()
        assert [answer.result()[1]["batch"].tolist() for answer in waiting] == [[1], [1]]


# Ends, wanted and not.


def test_a_model_process_that_is_killed_fails_its_own_requests_and_the_server_lives_on(tmp_path, pool):
    with serving(tmp_path / "s", instances=2) as running:
        server, *models = running.server.pids()
        assert len(models) == 2
        held = running.hold(pool)
        status, text, _ = running.ask(np.full((1, 2), KILL, np.float32))
        assert status == 500 and "SIGKILL" in text
        running.open_gate()
        assert held.result()[0] == 200
        running.until(lambda: running.server.counters().worker_restarts == 1 and len(running.server.pids()) == 3)
        assert running.server.pids()[0] == server and set(running.server.pids()[1:]) != set(models)
        assert running.server.trouble() is None


def test_without_a_model_process_requests_are_refused_until_a_new_one_is_there(tmp_path):
    with serving(tmp_path / "s") as running:
        os.kill(running.server.pids()[1], signal.SIGKILL)
        seen = []
        running.until(lambda: seen.append(running.ask()[0]) or (503 in seen and seen[-1] == 200))
        assert set(seen) <= {200, 500, 503}
        assert running.server.counters().worker_restarts == 1


@pytest.mark.slow
def test_under_load_a_kill_breaks_what_was_in_the_model_and_nothing_else(tmp_path, pool):
    with serving(tmp_path / "s", instances=2) as running:
        done = False

        def keep_asking(value):
            statuses = []
            values = np.full((1, 2), value, np.float32)
            while not done:
                status, outputs, _ = running.ask(values)
                statuses.append(status)
                assert status != 200 or outputs["y"].tolist() == [[2 * value] * 2]
            return statuses

        asking = [pool.submit(keep_asking, value) for value in range(8)]
        running.until(lambda: running.server.counters().answered > 50)
        os.kill(running.server.pids()[1], signal.SIGKILL)
        before = running.server.counters().answered
        running.until(lambda: running.server.counters().worker_restarts == 1 and running.server.counters().answered > before + 50)
        done = True
        failed = [status for asked in asking for status in asked.result() if status != 200]
        assert len(failed) <= 8 and set(failed) <= {500}


def test_it_drains_when_it_is_told_to_stop_and_ends_well(tmp_path, pool):
    with serving(tmp_path / "s") as running:
        pids = running.server.pids()
        watched = [Watch(pid) for pid in pids]
        held = running.hold(pool)
        behind = pool.submit(running.ask)
        running.queued(1)
        os.kill(pids[0], signal.SIGTERM)
        running.until(lambda: running.get("/v2/health/ready")[0] == 503)
        assert running.get("/v2/health/live")[0] == 200
        status, text, headers = running.ask()
        assert (status, headers["connection"]) == (503, "close") and "stopped" in text
        running.open_gate()
        assert (held.result()[0], behind.result()[0]) == (200, 200)
        assert all(watch.sees_the_end() for watch in watched)
        assert running.server.trouble() == "the server ended by itself with exit code 0"


def test_what_does_not_end_within_the_drain_timeout_is_cut_off(tmp_path, pool):
    with serving(tmp_path / "s", drain_timeout="200 ms") as running:
        held = running.hold(pool)
        behind = pool.submit(running.ask)
        running.queued(1)
        watched = [Watch(pid) for pid in running.server.pids()]
        os.kill(running.server.pids()[0], signal.SIGTERM)
        assert all(watch.sees_the_end() for watch in watched)
        assert running.server.trouble() == "the server ended by itself with exit code 0"
    assert (held.result()[0], behind.result()[0]) == (503, 503)


@pytest.mark.slow
def test_nothing_is_left_when_the_block_ends_by_an_error_or_the_server_is_killed(tmp_path):
    with pytest.raises(ZeroDivisionError), serving(tmp_path / "a") as running:
        watched = [Watch(pid) for pid in running.server.pids()]
        raise ZeroDivisionError
    assert all(watch.sees_the_end() for watch in watched)
    with serving(tmp_path / "b") as running:
        watched = [Watch(pid) for pid in running.server.pids()]
        os.kill(running.server.pids()[0], signal.SIGKILL)
        assert all(watch.sees_the_end() for watch in watched)
        assert running.server.trouble() == "the server was ended by SIGKILL" and running.server.counters() is None


def test_a_model_that_does_not_open_is_told_with_the_servers_log(tmp_path):
    with pytest.raises(CannotMeasure, match="RuntimeError: told not to open") as refused:
        with serving(tmp_path / "s", runtime={"refuses": True}):
            raise AssertionError("it is not up")
    assert "Traceback" in str(refused.value)


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        folder = tmp_path / "server"
        folder.mkdir()
        artifact = ModelArtifact(folder, "fake", "none", INPUTS, OUTPUTS, 0, "", ())
        told = PluginRef(name="told_runtime.py")
        deployment = Deployment(artifact, told, FAKES, "m", "cpu", 1, (), 1, tmp_path / "x", folder, Path(sys.executable), port=port)
        with pytest.raises(CannotMeasure, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            with Embedded().serve(deployment):
                raise AssertionError("it is not up")


@pytest.mark.slow
def test_onnxruntime_behind_it_answers_as_it_does_alone(shop, rows, tmp_path):
    artifact = shop.apply("export_onnx", shop.source("factory", rows, target="nets.py:mlp"), rows)
    data, folder = tmp_path / "data.npz", tmp_path / "server"
    write_dataset(data, rows)
    folder.mkdir()
    deployment = Deployment(artifact, PluginRef(name="onnxruntime"), shop.root, "mlp", "cpu", 1, (), 1, data, folder, Path(sys.executable))
    expected = shop.answers("onnxruntime", artifact, rows)[0]
    with Embedded().serve(deployment) as server:
        with contextlib.closing(triton.InferenceServerClient(server.endpoint.url.removeprefix("http://"))) as judge:
            name = judge.get_model_metadata("mlp")["inputs"][0]["name"]
            given = triton.InferInput(name, [4, 32], "FP32").set_data_from_numpy(rows.batch(0, 4)["x"])
            output = judge.get_model_metadata("mlp")["outputs"][0]["name"]
            assert np.allclose(judge.infer("mlp", [given]).as_numpy(output), expected, atol=1e-5)
        assert server.facts().precision.startswith("float32")


# gRPC, with Triton's client as the judge again.


@pytest.fixture(scope="module")
def by_grpc(tmp_path_factory):
    import tritonclient.grpc as judge_of_grpc

    with serving(tmp_path_factory.mktemp("grpc"), grpc_port=0, max_batch_size=4, max_body="10 kB") as running:
        with contextlib.closing(judge_of_grpc.InferenceServerClient(f"127.0.0.1:{running.server.grpc_port}")) as client:
            yield running, client, judge_of_grpc


def grpc_input(judge, values):
    return judge.InferInput("x", list(values.shape), "FP32").set_data_from_numpy(values)


def test_tritons_grpc_client_gets_its_answers(by_grpc):
    running, client, judge = by_grpc
    values = np.array([[1, 2], [3, 4]], np.float32)
    result = client.infer("told", [grpc_input(judge, values)], outputs=[judge.InferRequestedOutput("y")], request_id="7")
    assert np.array_equal(result.as_numpy("y"), values * 2) and result.as_numpy("batch") is None
    assert result.get_response().id == "7"
    assert client.infer("told", [grpc_input(judge, ONE)]).as_numpy("batch").tolist() == [1]
    assert running.ask()[0] == 200


def test_tritons_grpc_client_reads_health_and_metadata(by_grpc):
    _, client, _ = by_grpc
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("told") and client.is_model_ready("told", "1")
    assert client.get_server_metadata(as_json=True)["name"] == "harness"
    told = client.get_model_metadata("told", as_json=True)
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "2"]}]
    assert [output["name"] for output in told["outputs"]] == ["y", "batch"]


def test_a_request_with_typed_contents_is_read_over_grpc(by_grpc):
    running, _, _ = by_grpc
    import grpc

    from harness.kserve.grpc_messages import SERVICE, message

    request = message("ModelInferRequest")(model_name="told")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1, 2])
    with grpc.insecure_channel(f"127.0.0.1:{running.server.grpc_port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=message("ModelInferRequest").SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        response = call(request, timeout=LONG_S)
    assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("model", "values", "code"),
    [
        ("other", ONE, "NOT_FOUND"),
        ("told", np.ones((1, 3), np.float32), "INVALID_ARGUMENT"),
        ("told", np.ones((5, 2), np.float32), "INVALID_ARGUMENT"),
        ("told", np.full((1, 2), RAISE, np.float32), "INTERNAL"),
        ("told", np.full((1, 2), NAN, np.float32), "INTERNAL"),
        ("told", np.ones((2_000, 2), np.float32), "RESOURCE_EXHAUSTED"),
    ],
)
def test_a_wrong_request_gets_its_status_over_grpc(by_grpc, model, values, code):
    _, client, judge = by_grpc
    with pytest.raises(judge.InferenceServerException) as refused:
        client.infer(model, [grpc_input(judge, values)])
    assert refused.value.status() == f"StatusCode.{code}"
    assert client.infer("told", [grpc_input(judge, ONE)]).as_numpy("y").tolist() == [[2, 2]]
