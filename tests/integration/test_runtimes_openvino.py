import dataclasses
import importlib.util
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fakes.cpus import whole_int8_products

from harness import plugins
from harness.core.errors import BadInput, CannotMeasure, MissingPackage
from harness.core.plugin import Device
from harness.core.scenario import PluginRef
from harness.engine import protocol
from harness.engine.datasets import write_dataset
from harness.engine.workers import Seat, Worker
from harness.formats import openvino_model
from harness.runtimes.openvino import layers_by_precision

pytest.importorskip("torch")
if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
openvino = openvino_model.framework()  # without its telemetry
COMPUTED = ("3 Convolution in float32", "1 FullyConnected in float32")
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def whole(shop, images):
    return shop.apply("export_openvino", shop.source("factory", images, target="openvino_nets.py:residual"), images)


@pytest.fixture(scope="module")
def half(shop, images):
    module = shop.source("factory", images, target="openvino_nets.py:residual")
    return shop.apply("export_openvino", module, images, compress_to_fp16=True)


def test_a_float_model_runs_in_float32_whatever_the_library_would_choose(shop, whole):
    with shop.open("openvino", whole) as session:
        assert session.compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
        assert (session.facts.device, session.facts.precision) == ("cpu", "float32")
        assert session.facts.details == ("3 Convolution in float32", "1 FullyConnected in float32", "hint latency", "1 stream")


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16 kernels")
@pytest.mark.parametrize("precision", ["bf16", "default"])
def test_bfloat16_is_asked_for_or_left_to_the_library_and_told_either_way(shop, whole, images, precision):
    expected = shop.answers("openvino", whole, images, size=40)[0]
    with shop.open("openvino", whole, inference_precision=precision) as session:
        assert session.facts.precision == "bfloat16"
        assert session.facts.details[:2] == ("3 Convolution in bfloat16", "1 FullyConnected in bfloat16")
        (got,) = session.outputs(session.run(session.prepare(images.batch(0, 40))))
    assert got.dtype == np.float32
    assert 1e-5 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_weights_that_are_stored_in_16_bits_do_not_pass_for_half_precision(shop, half):
    with shop.open("openvino", half) as session:
        assert session.facts.precision == "float32"
        told = {node.get_rt_info()["runtimePrecision"].value for node in session.compiled.get_runtime_model().get_ops()}
        assert "f16" in told  # what the library's own table says of the same layers


def test_a_precision_that_this_cpu_does_not_have_is_an_error_with_those_that_it_has(whole, monkeypatch):
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, device, name: ["FP32", "INT8"])
    with pytest.raises(CannotMeasure, match="OpenVINO has no bf16 kernels for this CPU") as raised:
        with opened(whole, inference_precision="bf16"):
            pass
    assert "it offers FP32, INT8" in str(raised.value)


def test_a_precision_that_is_dropped_in_silence_is_an_error(whole, monkeypatch):
    ask = openvino.CompiledModel.get_property

    def elsewhere(self, name):
        return openvino.Type.bf16 if name == "INFERENCE_PRECISION_HINT" else ask(self, name)

    monkeypatch.setattr(openvino.CompiledModel, "get_property", elsewhere)
    with pytest.raises(CannotMeasure, match="OpenVINO was asked for f32 and computes in bf16"):
        with opened(whole):
            pass


def opened(artifact, threads=1, **options):
    return plugins.load("runtimes", "openvino")(**options).open(artifact, Device("cpu", threads))


def test_threads_and_pinning_are_ours_and_nothing_is_cached(whole):
    with opened(whole) as session:
        assert session.compiled.get_property("INFERENCE_NUM_THREADS") == session.facts.threads == 1
        assert session.compiled.get_property("ENABLE_CPU_PINNING") is False
        assert session.compiled.get_property("LOADED_FROM_CACHE") is False
        assert session.compiled.get_property("EXECUTION_DEVICES") == ["CPU"]


def test_streams_that_one_query_at_a_time_leaves_idle_are_told(whole):
    with opened(whole, threads=2, hint="throughput", num_streams=2) as session:
        assert session.compiled.get_property("PERFORMANCE_HINT") == "THROUGHPUT"
        streams = session.compiled.get_property("NUM_STREAMS")
        assert session.facts.details[2:4] == ("hint throughput", f"{streams} stream{'s' if streams > 1 else ''}")
        assert session.facts.details[4:] == (("one request at a time: 1 of 2 streams idle",) if streams == 2 else ())


@pytest.fixture(scope="module")
def reshaping(tmp_path_factory):
    """[N, 6] without what is below zero, in the shape that comes with it: computed in place where it may be, and not for every shape."""
    ops = openvino.opset13
    x, shape = ops.parameter([-1, 6], openvino.Type.f32, name="x"), ops.parameter([1, 2], openvino.Type.i64, name="shape")
    pattern = ops.squeeze(shape, ops.constant(np.array([0])))
    model = openvino.Model([ops.reshape(ops.relu(x), pattern, False)], [x, shape], "reshaping")
    return openvino_model.save(model, tmp_path_factory.mktemp("reshaping"), ())


def several_streams(artifact):
    return opened(artifact, threads=2, hint="throughput", num_streams=2)


def rows_in(session, number, shape):
    values = np.random.default_rng(number).standard_normal((4, 6), dtype=np.float32)
    return session.prepare({"x": values, "shape": np.array([shape])}), values


def answers_of(requests):
    return [request.results[0] for request in requests]


two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has one stream")


@two_cores
def test_many_queries_keep_a_request_for_each_stream_busy_and_give_what_one_at_a_time_gives(reshaping, monkeypatch):
    events = []

    class Watched(openvino.InferRequest):
        def start_async(self, *given, **named):
            super().start_async(*given, **named)
            events.append(1)

        def wait(self):
            super().wait()
            events.append(-1)

    monkeypatch.setattr(openvino.CompiledModel, "create_infer_request", lambda self: Watched(base.create_infer_request(self)))
    base = openvino.CompiledModel.__mro__[1]
    with several_streams(reshaping) as session:
        batches = [rows_in(session, number, (2, 12))[0] for number in range(5)]
        expected = [session.outputs(session.run(batch))[0].copy() for batch in batches]
        assert "one request at a time: 1 of 2 streams idle" in session.facts.details
        session.run_many(batches)
        assert list(itertools.accumulate(events)) == [1, 2, 1, 2, 1, 2, 1, 2, 1, 0]
        last = answers_of(session._requests)
        np.testing.assert_array_equal(last[0], expected[4])
        np.testing.assert_array_equal(last[1], expected[3])
        assert session.facts.details[-3:] == ("hint throughput", "2 streams", "2 requests in flight")


@two_cores
def test_a_batch_may_be_in_flight_twice_and_stays_as_it_is(reshaping):
    with several_streams(reshaping) as session:
        batch, values = rows_in(session, 0, (12, 2))
        kept = values.copy()
        session.run_many([batch] * 40)
        for got in answers_of(session._requests):
            np.testing.assert_array_equal(got, np.maximum(kept, 0).reshape(12, 2))
        np.testing.assert_array_equal(values, kept)


@two_cores
def test_what_fails_among_many_queries_is_the_error_that_it_is_alone_and_the_session_goes_on(reshaping):
    with several_streams(reshaping) as session:
        good, wrong = rows_in(session, 0, (2, 12))[0], rows_in(session, 1, (7, 5))[0]
        with pytest.raises(CannotMeasure, match=r"OpenVINO cannot compute this batch: .*Reshape node") as alone:
            session.run(wrong)
        for place in range(6):  # the first, the last, and between: none may be lost
            with pytest.raises(CannotMeasure) as among:
                session.run_many([wrong if index == place else good for index in range(6)])
            assert str(among.value) == str(alone.value)
        session.run_many([good] * 3)
        np.testing.assert_array_equal(answers_of(session._requests)[0], session.outputs(session.run(good))[0])


def test_one_stream_has_one_query_in_flight(whole):
    with opened(whole) as session:
        assert session.in_flight == 1


@two_cores
def test_under_the_load_offline_a_worker_has_several_queries_in_flight_and_says_so(shop, whole, images):
    inputs = shop.folder / "in-flight.npz"
    write_dataset(inputs, images)
    runtime = PluginRef(name="openvino", options={"hint": "throughput", "num_streams": 2})
    subject = protocol.Subject(whole, runtime, PluginRef(name="offline"), shop.folder, "cpu", 2, (), 4, inputs)
    with Worker(Seat("candidate", (), 2, shop.folder / "in-flight.log")) as worker:
        worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=120)
        worker.ask(protocol.Open(), protocol.Opened, timeout_s=120)
        assert worker.ask(protocol.WarmUp(1_000_000, 3), protocol.WarmedUp, timeout_s=120).in_flight == 2
        piece = worker.ask(protocol.TakeSlice(6), protocol.SliceTaken, timeout_s=120).slice
        assert (piece.queries, piece.latencies_ns) == (6, ())
        facts = worker.ask(protocol.Finish(), protocol.Finished, timeout_s=120).facts
    assert facts.details == (*COMPUTED, "hint throughput", "2 streams", "2 requests in flight")


def test_the_same_answer_comes_from_the_onnx_file_itself(shop, onnx_cnn, images):
    converted = shop.apply("export_openvino", onnx_cnn, images)
    direct, through = (shop.answers("openvino", one, images, size=7) for one in (onnx_cnn, converted))
    np.testing.assert_array_equal(direct[0], through[0])


def test_a_graph_that_onnxruntime_quantized_runs_in_int8_and_the_facts_tell_it(shop, workshop, onnx_cnn, images):
    quantized = workshop.apply("quantize_static", onnx_cnn, images)
    with workshop.open("openvino", quantized) as session:
        assert session.facts.precision == "int8"
        assert layers_by_precision(session.compiled) == {("Convolution", "int8"): 2, ("FullyConnected", "int8"): 1}


def test_outputs_are_as_they_were_when_the_next_query_has_run(shop, whole, images):
    with shop.open("openvino", whole) as session:
        first = session.outputs(session.run(session.prepare(images.batch(0, 2))))[0]
        before = first.copy()
        session.run(session.prepare(images.batch(2, 2)))
        np.testing.assert_array_equal(first, before)


def test_a_query_leaves_the_data_as_they_are_and_takes_rows_that_are_not_contiguous(shop, whole, images):
    odd = images.inputs["x"][::2]
    assert not odd.flags.c_contiguous
    kept = odd.copy()
    with shop.open("openvino", whole) as session:
        (got,) = session.outputs(session.run(session.prepare({"x": odd})))
        (expected,) = session.outputs(session.run(session.prepare({"x": kept})))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(odd, kept)


def test_inputs_go_by_name_in_any_order(workshop, pairs):
    artifact = workshop.apply("export_openvino", workshop.source("factory", pairs, target="nets.py:two_inputs"), pairs)
    with workshop.open("openvino", artifact) as session:
        batch = pairs.batch(0, 4)
        turned = dict(reversed(batch.items()))
        answers = [session.outputs(session.run(session.prepare(one)))[0] for one in (batch, turned)]
        np.testing.assert_array_equal(*answers)
        with pytest.raises(BadInput, match="the model's inputs are left, right; the data gives top, bottom"):
            session.prepare({"top": batch["left"], "bottom": batch["right"]})


def test_another_dtype_or_shape_is_refused_before_it_is_timed(shop, workshop, whole, images):
    with shop.open("openvino", whole) as session:
        with pytest.raises(BadInput, match="input 0 of the model is f32, the data gives float64"):
            session.prepare({"x": images.inputs["x"].astype(np.float64)})
        with pytest.raises(BadInput, match=r"input 0 of the model has the shape \[\?,3,12,12\], the data gives \[2, 3, 9, 9\]"):
            session.prepare({"x": np.zeros((2, 3, 9, 9), np.float32)})
    module = workshop.source("factory", images, target="openvino_nets.py:residual")
    fixed = workshop.apply("export_openvino", module, images, batch_size=4)
    with workshop.open("openvino", fixed) as session:
        assert session.outputs(session.run(session.prepare(images.batch(0, 4))))[0].shape == (4, 10)
        with pytest.raises(BadInput, match="export_openvino's 'batch_size' fixes it"):
            session.prepare(images.batch(0, 3))


def test_a_file_that_the_library_cannot_open_is_an_error_with_its_reason(whole, tmp_path):
    (tmp_path / "model.xml").write_text(whole.path.read_text()[:500])
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(CannotMeasure, match=r"OpenVINO cannot open this model: \S+"):
        with opened(dataclasses.replace(whole, folder=tmp_path)):
            pass


def test_without_the_package_the_answer_is_the_line_that_installs_it(whole, monkeypatch):
    monkeypatch.setattr(plugins.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage) as raised:
        plugins.load("runtimes", "openvino")().preload(whole)
    assert "pip install 'harness[openvino]'" in str(raised.value)


def test_a_worker_that_has_never_seen_the_project_gives_the_same_answers(shop, whole, images):
    elsewhere = shop.answers_elsewhere("openvino", whole, images)
    np.testing.assert_allclose(elsewhere, shop.answers("openvino", whole, images, size=40)[0], atol=1e-6)


NET = """
import numpy as np
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))

def data(count=64):
    rows = np.random.default_rng(0).standard_normal((count, 32), dtype=np.float32)
    return rows, rows[:, :10].argmax(axis=1)
"""
SCENARIO = """
version: 1
name: open
model: {factory: net.py:build}
data: {evaluation: net.py:data, calibration: net.py:data, task: classification}
recipes:
  torch: {runtime: torch}
  int8:
    passes:
      - export_openvino
      - quantize_nncf: {preset: mixed, calibration_samples: 32}
    runtime: {openvino: {hint: latency}}
reference: torch
measure: {launches: 2, duration: 0.1 s, warm_up: 0.1 s}
sla:
  int8.model_size: at most 80 % of torch
  int8.agreement: at least 90 %
"""


@whole_int8_products
@pytest.mark.slow
def test_a_scenario_converts_quantizes_measures_and_tells_what_ran(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "open.yaml").write_text(SCENARIO)
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", "open.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "reports" / "latest" / "result.json").read_text())
    trial = next(trial for trial in result["trials"] if trial["recipe"] == "int8")
    assert trial["steps"][2]["notes"][0] == "2 of 2 operators with weights quantized"
    assert trial["facts"]["precision"] == "int8"
    assert trial["facts"]["details"] == ["2 FullyConnected in int8", "hint latency", "1 stream"]
    assert {"openvino", "nncf"} <= set(trial["content"]["toolchain"])
