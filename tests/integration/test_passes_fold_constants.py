import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402
from onnx_kinds import value  # noqa: E402


def node(kind, inputs, outputs, **attributes):
    return onnx.helper.make_node(kind, inputs, outputs, name=f"{kind}_{outputs[0]}", **attributes)


@pytest.fixture
def rough(workshop, rows):
    """x @ transpose(w * 2) + (shape of a constant), with a branch that nobody reads: as careless exporters write it."""
    weights = np.random.default_rng(3).standard_normal((10, 32)).astype(np.float32)
    nodes = [
        node("Mul", ["w", "two"], ["doubled"]),
        node("Transpose", ["doubled"], ["turned"], perm=[1, 0]),
        node("Shape", ["w"], ["sizes"]),
        node("Cast", ["sizes"], ["wide"], to=onnx.TensorProto.FLOAT),
        node("ReduceSum", ["wide"], ["total"], keepdims=0),
        node("MatMul", ["x", "turned"], ["product"]),
        node("Relu", ["product"], ["nobody"]),
        node("Add", ["product", "total"], ["y"]),
    ]
    return onnx_kinds.saved(
        workshop,
        rows,
        nodes,
        inputs=[value("x", ["batch", 32])],
        outputs=[value("y", ["batch", 10])],
        initializers=[("w", weights), ("two", np.float32(2))],
    )


def test_what_is_constant_is_computed_and_what_nobody_reads_is_dropped(workshop, rough, rows):
    after = workshop.apply("fold_constants", rough, rows)
    assert onnx_kinds.nodes(after) == {"MatMul": 1, "Add": 1}
    assert after.steps[-1].notes[:2] == ("8 nodes before, 2 after", "gone: 1 Cast, 1 Mul, 1 ReduceSum, 1 Relu, 1 Shape, 1 Transpose")
    assert onnx_kinds.difference(workshop, rough, after, rows) < 1e-6
    assert after.inputs == rough.inputs and after.outputs == rough.outputs


def test_shapes_of_inner_tensors_are_written_down(workshop, rough, rows):
    after = workshop.apply("fold_constants", rough, rows)
    known = {
        one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
        for one in onnx.load(after.path).graph.value_info
    }
    assert known["product"] == ["batch", 10]
    assert any(note.startswith("shapes known of 0 inner tensors before") for note in after.steps[-1].notes)


def test_a_tensor_beyond_the_limit_is_left_to_the_runtime(workshop, rough, rows):
    after = workshop.apply("fold_constants", rough, rows, input_size_limit=100)
    assert onnx_kinds.nodes(after)["Transpose"] == 1


def test_twice_gives_the_same_file(workshop, rough, rows):
    assert len({workshop.apply("fold_constants", rough, rows).sha256 for _ in range(2)}) == 1


def test_what_is_folded_already_is_refused(workshop, rough, rows):
    once = workshop.apply("fold_constants", rough, rows)
    with pytest.raises(CannotMeasure, match="'fold_constants' changed nothing in this graph of 2 nodes") as raised:
        workshop.apply("fold_constants", once, rows)
    assert "leave the pass out" in str(raised.value)


def test_samples_that_do_not_fit_the_graph_are_refused_with_the_librarys_reason(workshop, rough):
    wrong = Dataset({"x": np.zeros((4, 7), np.float32)}, None)
    with pytest.raises(CannotMeasure, match=r"onnxruntime cannot run the graph that was given: .*x"):
        workshop.apply("fold_constants", rough, wrong)
