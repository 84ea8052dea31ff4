"""Building and running engines, on a machine with a GPU and TensorRT; skipped elsewhere."""

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("tensorrt", exc_type=ImportError)
pytest.importorskip("cuda.bindings.runtime", exc_type=ImportError)
onnx = pytest.importorskip("onnx")
pytest.importorskip("pydantic")
torch = pytest.importorskip("torch")

from harness import plugins  # noqa: E402  (the machine may not have what the package needs)
from harness.core.artifact import Dataset, ModelArtifact, TensorSpec  # noqa: E402
from harness.core.errors import BadInput, CannotMeasure  # noqa: E402
from harness.core.plugin import BuildContext, Device  # noqa: E402
from harness.formats import tensorrt_engine  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

WIDTH = 512


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)


@pytest.fixture(scope="module")
def data():
    return Dataset({"x": np.random.default_rng(1).standard_normal((32, WIDTH), dtype=np.float32)}, None)


@pytest.fixture(scope="module")
def graph(tmp_path_factory, weights):
    """A product and a ReLU, with an open batch axis."""
    folder = tmp_path_factory.mktemp("graph")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", WIDTH]) for name in "xy")
    nodes = [onnx.helper.make_node("MatMul", ["x", "weights"], ["product"]), onnx.helper.make_node("Relu", ["product"], ["y"])]
    made = onnx.helper.make_graph(nodes, "graph", [x], [y], [onnx.numpy_helper.from_array(weights, "weights")])
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx")
    specs = (TensorSpec("x", "float32", (None, WIDTH)),), (TensorSpec("y", "float32", (None, WIDTH)),)
    return ModelArtifact(folder, "onnx", "model.onnx", *specs, 0, "", ())


@pytest.fixture(scope="module")
def build(tmp_path_factory, graph, data):
    def build(**options):
        folder = tmp_path_factory.mktemp("engine")
        context = BuildContext(folder, graph.folder, graph.folder, {}, lambda role: data, 0, "cpu")
        return plugins.load("passes", "build_tensorrt")(**options).apply(graph, context)

    return build


@pytest.fixture(scope="module")
def engine(build):
    return build()


def opened(artifact, device="cuda", **options):
    return plugins.load("runtimes", "tensorrt")(**options).open(artifact, Device(device, 1))


@pytest.mark.parametrize("options", [{}, {"copies": True}, {"cuda_graph": True}, {"cuda_graph": True, "copies": True}])
def test_the_engine_answers_like_the_graph(engine, weights, data, options):
    expected = np.maximum(data.inputs["x"] @ weights, 0)
    with opened(engine, **options) as session:
        queries = [session.prepare(data.batch(start, 8)) for start in (0, 8, 16)]
        for query, start in zip(queries, (0, 8, 16), strict=True):
            (got,) = session.outputs(session.run(query))
            np.testing.assert_allclose(got, expected[start : start + 8], atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 32])
def test_every_batch_size_between_the_least_and_the_most_runs(engine, data, size):
    with opened(engine) as session:
        assert session.outputs(session.run(session.prepare(data.batch(0, size))))[0].shape == (size, WIDTH)


def test_a_batch_that_the_engine_was_not_built_for_is_refused(build, data):
    with opened(build(batches=(1, 2, 4))) as session, pytest.raises(BadInput, match="the engine takes batches of 1 to 4, not of 5"):
        session.prepare(data.batch(0, 5))


def test_products_are_not_rounded_unless_it_is_asked_for(build, engine, weights, data):
    expected = np.maximum(data.inputs["x"].astype(np.float64) @ weights, 0)
    worst = {}
    for name, artifact in (("float32", engine), ("tf32", build(tf32=True))):
        with opened(artifact) as session:
            worst[name] = np.abs(session.outputs(session.run(session.prepare(data.batch(0, 32))))[0] - expected).max()
    assert worst["float32"] < 1e-5


def test_the_device_s_clock_is_never_ahead_of_the_host_s(engine, data):
    import time

    with opened(engine) as session:
        query = session.prepare(data.batch(0, 32))
        for _ in range(5):
            session.run(query)
        session.device_times()
        start = time.perf_counter_ns()
        session.run(query)
        host_ns = time.perf_counter_ns() - start
        (device_ns,) = session.device_times()
    assert 0 < device_ns <= host_ns


def test_the_plate_tells_this_gpu_and_another_one_s_engine_is_refused(engine, tmp_path):
    plate = json.loads((engine.folder / tensorrt_engine.PLATE).read_text())
    assert plate["gpu"] == torch.cuda.get_device_name()
    assert plate["compute_capability"] == "{}.{}".format(*torch.cuda.get_device_capability())
    (tmp_path / tensorrt_engine.MAIN).write_bytes(engine.path.read_bytes())
    (tmp_path / tensorrt_engine.PLATE).write_text(json.dumps({**plate, "gpu": "NVIDIA Abacus"}))
    with pytest.raises(CannotMeasure, match="it was built for NVIDIA Abacus"):
        with opened(dataclasses.replace(engine, folder=tmp_path)):
            pass
