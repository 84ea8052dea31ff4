"""What can be shown of the runtime without TensorRT: the order of its calls, its waits, its clock, and what it refuses."""

import gc
import importlib.util

import numpy as np
import pytest
from fakes.nvidia import KERNEL_MS, FakeCuda, FakeTensorrt, put_in_place

from harness import plugins
from harness.core.artifact import AppliedStep, TensorSpec
from harness.core.errors import BadInput, CannotMeasure, MissingPackage
from harness.core.plugin import Device, HasDeviceClock
from harness.formats import tensorrt_engine
from harness.formats.tensorrt_engine import Plate

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def cuda(monkeypatch):
    cuda = FakeCuda()
    put_in_place(monkeypatch, cuda, FakeTensorrt(cuda))
    return cuda


@pytest.fixture
def engine_for(tmp_path):
    """Writes the engine of a model that doubles its input."""

    def make(*, tensorrt="11.4.0", gpu=H100, capability="9.0", batches=(1, 8, 32), shape=(None, 4), output=(None, 4)):
        tensorrt_engine.write(tmp_path, b'{"shape": [-1, 4]}', Plate(tensorrt, gpu, capability, "float32", batches))
        specs = (TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", output),)
        return tensorrt_engine.describe(tmp_path, *specs, (AppliedStep("build_tensorrt", "{}"),))

    return make


def opened(artifact, device="cuda", **options):
    return plugins.load("runtimes", "tensorrt")(**options).open(artifact, Device(device, 1))


def rows(count, start=0):
    return {"x": np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)}


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_the_answer_is_the_line_that_installs_it(engine_for):
    with pytest.raises(MissingPackage, match="'tensorrt' needs the package 'tensorrt', which is not installed") as raised:
        plugins.load("runtimes", "tensorrt")().preload(engine_for())
    assert "pip install 'harness[tensorrt]'" in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"copies": True}, {"cuda_graph": True}, {"cuda_graph": True, "copies": True}])
def test_a_query_is_waited_for_and_its_answer_is_its_own(cuda, engine_for, options):
    with opened(engine_for(), **options) as session:
        assert isinstance(session, HasDeviceClock)
        queries = [session.prepare(rows(2, start)) for start in (0, 100)]
        for query, start in zip([*queries, queries[0]], (0, 100, 0), strict=True):
            (got,) = session.outputs(session.run(query))
            np.testing.assert_array_equal(got, 2 * rows(2, start)["x"])


def test_copies_are_inside_the_query_only_where_they_are_asked_for(cuda, engine_for):
    told = {}
    for copies in (False, True):
        with opened(engine_for(), copies=copies) as session:
            query = session.prepare(rows(2))
            session.run(query)
            cuda.asked.clear()
            session.run(query)
            told[copies] = [what for what in cuda.asked if what != "event"]
            assert any("copies to and from the device are timed" in detail for detail in session.facts.details) is copies
    assert told[False] == ["record", "kernel", "record", "wait"]
    assert told[True] == ["record", "to device", "kernel", "to host", "record", "wait"]


def test_a_graph_is_recorded_once_for_each_batch_after_a_first_call_and_launched_after_that(cuda, engine_for):
    with opened(engine_for(), cuda_graph=True) as session:
        query = session.prepare(rows(2))
        assert [what for what in cuda.asked if what in ("kernel", "wait", "capture", "captured", "graph")] == [
            "kernel",
            "wait",
            "capture",
            "kernel",
            "captured",
            "graph",
            "wait",
        ]
        cuda.asked.clear()
        session.run(query)
        assert [what for what in cuda.asked if what != "event"] == ["record", "launch", "record", "wait"]
        assert "CUDA graph" in session.facts.details
        with pytest.raises(CannotMeasure, match="with 'cuda_graph' no batch may be larger than the first"):
            session.prepare(rows(8))


def test_the_device_s_clock_times_every_query(cuda, engine_for):
    with opened(engine_for()) as session:
        query = session.prepare(rows(2))
        for _ in range(3):
            session.run(query)
        assert session.device_times() == (round(KERNEL_MS * 1e6),) * 3
        assert session.device_times() == ()


def test_shapes_are_set_when_another_batch_comes_and_not_before(cuda, engine_for):
    with opened(engine_for()) as session:
        small, large = session.prepare(rows(1)), session.prepare(rows(8))
        for query in (small, large, small):
            (got,) = session.outputs(session.run(query))
            assert got.shape == session.context.shapes["x"]
        cuda.asked.clear()
        session.run(small)
        assert "shape" not in cuda.asked


def test_device_memory_is_given_back_with_the_batch_and_with_the_session(cuda, engine_for):
    with opened(engine_for()) as session:
        session.outputs(session.run(session.prepare(rows(2))))
        session.run(session.prepare(rows(2)))
        query = session.prepare(rows(2))
        gc.collect()
        assert len(cuda.memory) == 2  # one batch's input, and the output that all share
        del query
    del session
    gc.collect()
    assert cuda.memory == {} and cuda.streams == {}
    assert cuda.asked.count("event") == cuda.asked.count("event gone") > 0


@pytest.mark.parametrize(
    ("plate", "said"),
    [
        ({"tensorrt": "10.9.0"}, "it was built with TensorRT 10.9.0, and 11.4.0 is installed"),
        ({"gpu": "NVIDIA L4", "capability": "8.9"}, rf"it was built for NVIDIA L4 \(compute capability 8.9\), and this is {H100} \(9.0\)"),
    ],
)
def test_an_engine_of_another_tensorrt_or_gpu_is_refused(cuda, engine_for, plate, said):
    with pytest.raises(CannotMeasure, match=f"this engine does not hold here: {said}") as raised:
        with opened(engine_for(**plate)):
            pass
    assert "build it again on this machine" in str(raised.value)


def test_an_engine_that_could_be_anyone_s_is_refused(cuda, engine_for):
    artifact = engine_for()
    (artifact.folder / "engine.json").unlink()
    with pytest.raises(CannotMeasure, match=r"engine\.json beside the engine cannot be read"):
        with opened(artifact):
            pass


def test_an_engine_that_tensorrt_does_not_read_is_refused(monkeypatch, engine_for):
    cuda = FakeCuda()
    put_in_place(monkeypatch, cuda, FakeTensorrt(cuda, fails="open"))
    with pytest.raises(CannotMeasure, match="TensorRT cannot open this engine"):
        with opened(engine_for()):
            pass


def test_a_device_that_is_not_there_is_an_error(cuda, engine_for):
    with pytest.raises(CannotMeasure, match="'cuda:1' was asked for and CUDA sees only 1 of them"):
        with opened(engine_for(), "cuda:1"):
            pass


def test_what_is_not_the_engine_s_is_refused_before_it_is_timed(cuda, engine_for):
    with opened(engine_for()) as session:
        for batch, said in (
            ({"x": rows(1)["x"].astype(np.float64)}, "input 'x' of the engine is float32, the data gives float64"),
            ({"x": np.zeros((2, 5), np.float32)}, r"input 'x' of the engine is \[any, 4\], the data gives \[2, 5\]"),
            (rows(33), "the engine takes batches of 1 to 32, not of 33"),
            ({"a": rows(1)["x"], "b": rows(1)["x"]}, "the engine's inputs are x; the data gives a, b"),
        ):
            with pytest.raises(BadInput, match=said):
                session.prepare(batch)


def test_an_output_whose_size_depends_on_the_data_is_refused(cuda, engine_for):
    with pytest.raises(CannotMeasure, match=r"output 'y' has the shape \[any, any\], which depends on the data"):
        with opened(engine_for(output=(None, None))):
            pass


@pytest.mark.parametrize("call", ["malloc", "copy", "wait"])
def test_an_error_of_cuda_s_is_told_by_its_name(cuda, engine_for, call):
    with opened(engine_for()) as session:
        cuda.fails = call
        with pytest.raises(CannotMeasure, match="CUDA answers cudaErrorMemoryAllocation"):
            session.prepare(rows(2))
        cuda.fails = None
