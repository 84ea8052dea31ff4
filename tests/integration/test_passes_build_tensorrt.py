"""What can be shown of build_tensorrt without TensorRT: what it asks for, and what it answers when it cannot."""

import importlib.util
import json

import pytest
from fakes.nvidia import FakeCuda, FakeTensorrt, put_in_place

from harness import plugins
from harness.core.errors import BadInput, CannotMeasure, MissingPackage

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and TensorRT, as far as this program can tell."""

    def make(*, cuda=None, **options):
        cuda = cuda or FakeCuda()
        tensorrt = FakeTensorrt(cuda, **options)
        put_in_place(monkeypatch, cuda, tensorrt)
        return tensorrt

    return make


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_the_answer_is_the_line_that_installs_it(workshop, rows, onnx_mlp):
    with pytest.raises(MissingPackage, match="'build_tensorrt' needs the package 'tensorrt', which is not installed") as raised:
        workshop.apply("build_tensorrt", onnx_mlp, rows)
    assert "pip install 'harness[tensorrt]'" in str(raised.value)


def test_a_package_whose_libraries_do_not_load_is_told_as_that(workshop, rows, onnx_mlp, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tensorrt.py").write_text("raise ImportError('libnvonnxparser.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    with pytest.raises(CannotMeasure, match=r"the package 'tensorrt' is installed and does not load: libnvonnxparser\.so\.11") as raised:
        workshop.apply("build_tensorrt", onnx_mlp, rows)
    assert not isinstance(raised.value, MissingPackage)


def test_the_engine_is_written_with_what_it_holds_for(workshop, rows, onnx_mlp, gpu):
    gpu()
    artifact = workshop.apply("build_tensorrt", onnx_mlp, rows)
    assert {path.name for path in artifact.folder.iterdir()} == {"model.engine", "engine.json", "timing.cache"}
    assert artifact.size_bytes == (artifact.folder / "model.engine").stat().st_size
    plate = json.loads((artifact.folder / "engine.json").read_text())
    assert (plate["tensorrt"], plate["gpu"], plate["compute_capability"]) == ("11.4.0", "NVIDIA H100 80GB HBM3", "9.0")
    assert (plate["precision"], plate["batches"]) == ("float32", [1, 8, 32])
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [("x", "float32", (None, 4))]
    assert artifact.steps[-1].notes[1:3] == (
        "TensorRT 11.4.0 for NVIDIA H100 80GB HBM3 (compute capability 9.0)",
        "batches of 1 to 32, best 8",
    )


def test_the_network_is_strongly_typed_and_products_are_not_rounded_unless_it_is_asked_for(workshop, rows, onnx_mlp, gpu):
    tensorrt = gpu()
    workshop.apply("build_tensorrt", onnx_mlp, rows)
    assert tensorrt.told["flags"] == 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert tensorrt.told["TF32"] is False
    artifact = workshop.apply("build_tensorrt", onnx_mlp, rows, tf32=True)
    assert tensorrt.told["TF32"] is True
    assert "float32 with TF32 products" in artifact.steps[-1].notes[0]


def test_a_graph_with_q_and_dq_is_told_as_int8(workshop, rows, onnx_mlp, gpu):
    quantized = workshop.apply("quantize_static", onnx_mlp, rows, activation_type="int8")
    gpu()
    artifact = workshop.apply("build_tensorrt", quantized, rows)
    assert "int8 (2 of 2 compute nodes between Q/DQ; float32 beside)" in artifact.steps[-1].notes[0]


def test_options_reach_the_builder(workshop, rows, onnx_mlp, gpu):
    tensorrt = gpu()
    workshop.apply("build_tensorrt", onnx_mlp, rows, batches=(2, 4, 16), workspace_mib=512, optimization_level=5)
    assert tensorrt.told["x"] == ((2, 4), (4, 4), (16, 4)) and tensorrt.told["profiles"] == 1
    assert tensorrt.told["workspace"] == 512 * 2**20
    assert tensorrt.told["level"] == 5


def test_fixed_shapes_need_no_profile(workshop, rows, onnx_mlp, gpu):
    tensorrt = gpu(shape=(4, 4))
    artifact = workshop.apply("build_tensorrt", onnx_mlp, rows)
    assert "profiles" not in tensorrt.told
    assert artifact.steps[-1].notes[2] == "every shape is fixed"


@pytest.mark.parametrize("batches", [(0, 1, 2), (4, 2, 8), (1, 8, 4)])
def test_batches_that_do_not_grow_are_refused(batches):
    with pytest.raises(ValueError, match=r"batches are \[least, best, most\]"):
        plugins.load("passes", "build_tensorrt")(batches=batches)


def test_another_open_axis_is_refused_with_its_input(workshop, rows, onnx_mlp, gpu):
    gpu(shape=(-1, -1, 4))
    with pytest.raises(CannotMeasure, match="input 'x' leaves axis 1 open, beside the batch axis"):
        workshop.apply("build_tensorrt", onnx_mlp, rows)


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("parse", "TensorRT cannot read this graph: operator NonZero is not supported"),
        ("build", "TensorRT cannot build this network: no kernel for node 7$"),
        ("open", "TensorRT does not read the engine that it has built"),
    ],
)
def test_what_tensorrt_says_against_a_graph_is_told_in_one_line(workshop, rows, onnx_mlp, gpu, fails, said):
    gpu(fails=fails)
    with pytest.raises(CannotMeasure, match=said):
        workshop.apply("build_tensorrt", onnx_mlp, rows)


@pytest.mark.parametrize(("count", "index", "seen"), [(0, 0, "no CUDA device"), (2, 2, "only 2 of them")])
def test_a_device_that_is_not_there_is_an_error(workshop, rows, onnx_mlp, gpu, count, index, seen):
    gpu(cuda=FakeCuda(count=count))
    with pytest.raises(CannotMeasure, match=f"'cuda:{index}' was asked for and CUDA sees {seen}"):
        workshop.apply("build_tensorrt", onnx_mlp, rows, gpu=index)


def test_a_timing_cache_is_read_from_the_project_and_its_digest_is_noted(workshop, rows, onnx_mlp, gpu):
    tensorrt = gpu()
    (workshop.root / "h100.cache").write_bytes(b"earlier timings")
    artifact = workshop.apply("build_tensorrt", onnx_mlp, rows, timing_cache="h100.cache")
    assert tensorrt.told["known"] == b"earlier timings"
    assert artifact.steps[-1].notes[-1].startswith("timings read from h100.cache (sha256 ")
    assert (artifact.folder / "timing.cache").read_bytes() == b"timings"
    with pytest.raises(BadInput, match=r"'timing_cache' names '\.\./elsewhere', which is no file of this project"):
        workshop.apply("build_tensorrt", onnx_mlp, rows, timing_cache="../elsewhere")


def test_a_timing_cache_of_another_machine_is_refused(workshop, rows, onnx_mlp, gpu):
    gpu(takes_cache=False)
    (workshop.root / "a100.cache").write_bytes(b"timings")
    with pytest.raises(CannotMeasure, match=r"TensorRT does not take the timing cache a100\.cache"):
        workshop.apply("build_tensorrt", onnx_mlp, rows, timing_cache="a100.cache")
