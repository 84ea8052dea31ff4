from pathlib import Path

import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput

onnx = pytest.importorskip("onnx")

WEIGHTS = np.arange(8 * 600, dtype=np.float32).reshape(8, 600) / 600


@pytest.fixture
def inputs():
    return Dataset({"x": np.random.default_rng(0).standard_normal((6, 8), dtype=np.float32)}, None)


def product(source="x"):
    """y = x @ WEIGHTS, for any number of rows."""
    weights = onnx.numpy_helper.from_array(WEIGHTS, "weights")
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 8])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 600])
    node = onnx.helper.make_node("MatMul", [source, "weights"], ["y"], name="product")
    graph = onnx.helper.make_graph([node], "graph", [x], [y], [weights])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def save_apart(path: Path, location: str):
    onnx.save(product(), path, save_as_external_data=True, location=location, size_threshold=16)


def files_of(workshop, path):
    found = plugins.load("sources", "onnx")(path=path).depends_on(workshop.root)
    return {file.relative_to(workshop.root).as_posix() for file in found.files}


def test_a_file_is_copied_and_described(workshop, inputs):
    onnx.save(product(), workshop.root / "product.onnx")
    artifact = workshop.source("onnx", inputs, path="product.onnx")
    assert artifact.format == "onnx"
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [("x", "float32", (None, 8))]
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.outputs] == [("y", "float32", (None, 600))]
    assert artifact.steps[0].notes == ("1 nodes",)
    assert artifact.size_bytes == (workshop.root / "product.onnx").stat().st_size
    (workshop.root / "product.onnx").unlink()
    np.testing.assert_allclose(workshop.answers("onnxruntime", artifact, inputs)[0], inputs.inputs["x"][:4] @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("location", ["product.onnx.data", "weights.bin", "weights/part-1.bin"])
def test_external_data_come_along_wherever_they_lie(workshop, inputs, location):
    (workshop.root / "weights").mkdir()
    save_apart(workshop.root / "product.onnx", location)
    artifact = workshop.source("onnx", inputs, path="product.onnx")
    assert artifact.size_bytes == sum((workshop.root / name).stat().st_size for name in ("product.onnx", location))
    (workshop.root / location).unlink()
    np.testing.assert_allclose(workshop.answers("onnxruntime", artifact, inputs)[0], inputs.inputs["x"][:4] @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("location", ["product.onnx.data", "weights.bin", "weights/part-1.bin"])
def test_external_data_are_among_the_files_that_decide_the_digest(workshop, location):
    (workshop.root / "weights").mkdir()
    save_apart(workshop.root / "product.onnx", location)
    assert files_of(workshop, "product.onnx") == {"product.onnx", location}


def test_a_file_without_external_data_depends_on_itself_alone(workshop):
    onnx.save(product(), workshop.root / "product.onnx")
    (workshop.root / "location.bin").write_bytes(b"of no concern")
    assert files_of(workshop, "product.onnx") == {"product.onnx"}
    assert files_of(workshop, "not_there.onnx") == {"not_there.onnx"}  # whose absence the scenario's check reports


def test_other_external_data_make_another_artifact(workshop, inputs):
    save_apart(workshop.root / "product.onnx", "product.onnx.data")
    first = workshop.source("onnx", inputs, path="product.onnx")
    data = workshop.root / "product.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    assert workshop.source("onnx", inputs, path="product.onnx").sha256 != first.sha256


def text(path):
    path.write_text("this is a letter, not a model")


def nothing(path):
    path.write_bytes(b"")


def noise(path):
    path.write_bytes(b"\xff" * 64)


def an_input_from_nowhere(path):
    onnx.save(product(source="nowhere"), path)


def data_that_are_missing(path):
    save_apart(path, "weights.bin")
    path.with_name("weights.bin").unlink()


def data_outside_the_project(path):
    save_apart(path, "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../weights.bin"
    path.with_name("weights.bin").rename(path.parent.parent / "weights.bin")
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("spoil", [text, nothing, noise, an_input_from_nowhere, data_that_are_missing, data_outside_the_project])
def test_what_is_no_valid_model_is_refused_by_name(workshop, inputs, spoil):
    spoil(workshop.root / "spoilt.onnx")
    with pytest.raises(BadInput, match=r"model\.onnx: spoilt\.onnx is not"):
        workshop.source("onnx", inputs, path="spoilt.onnx")


def test_a_file_that_is_not_there_is_refused_by_name(workshop, inputs):
    with pytest.raises(BadInput, match=r"not_there\.onnx is not a valid ONNX model"):
        workshop.source("onnx", inputs, path="not_there.onnx")
