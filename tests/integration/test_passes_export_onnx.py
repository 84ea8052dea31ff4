from collections import Counter

import numpy as np
import pytest

from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def agree_at_every_batch_size(shop, module, graph, data, tolerance):
    with shop.open("torch", module) as torch_session, shop.open("onnxruntime", graph) as onnx_session:
        for size in (1, 2, 3, 7, 40):
            batch = data.batch(0, size)
            (expected, *_), (got, *_) = (one.outputs(one.run(one.prepare(batch))) for one in (torch_session, onnx_session))
            assert len(got) == size
            np.testing.assert_allclose(got, expected, atol=tolerance)


def test_the_graph_answers_like_the_module_at_every_batch_size(shop, mlp, onnx_mlp, cnn, onnx_cnn, rows, images):
    agree_at_every_batch_size(shop, mlp, onnx_mlp, rows, 1e-5)
    agree_at_every_batch_size(shop, cnn, onnx_cnn, images, 1e-5)


def test_the_batch_axis_is_open_and_the_others_are_not(onnx_cnn):
    assert [(spec.name, spec.dtype, spec.shape) for spec in onnx_cnn.inputs] == [("x", "float32", (None, 3, 12, 12))]
    assert [(spec.dtype, spec.shape) for spec in onnx_cnn.outputs] == [("float32", (None, 10))]


def test_the_graph_holds_the_operators_of_the_module_and_the_notes_tell_them(onnx_cnn, cnn):
    model = onnx.load(onnx_cnn.path)
    assert Counter(node.op_type for node in model.graph.node) >= Counter(Conv=2, Relu=2, Gemm=1)
    assert "2 Conv" in onnx_cnn.steps[-1].notes[0] and f"opset {model.opset_import[0].version}" in onnx_cnn.steps[-1].notes[0]
    assert onnx_cnn.steps[:-1] == cnn.steps
    assert [path.name for path in onnx_cnn.folder.iterdir()] == ["model.onnx"]
    assert onnx_cnn.size_bytes == onnx_cnn.path.stat().st_size


def test_several_inputs_go_by_name(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:two_inputs")
    graph = workshop.apply("export_onnx", module, pairs)
    assert {spec.name for spec in graph.inputs} == {"left", "right"}
    agree_at_every_batch_size(workshop, module, graph, pairs, 1e-5)


def test_the_principal_output_comes_first_wherever_the_module_returns_it(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:pair")
    graph = workshop.apply("export_onnx", module, pairs)
    assert len(graph.outputs) == 2
    agree_at_every_batch_size(workshop, module, graph, pairs, 1e-5)


def test_what_is_nested_before_the_principal_output_is_counted(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:nested_pair")
    graph = workshop.apply("export_onnx", module, pairs)
    assert len(graph.outputs) == 4
    agree_at_every_batch_size(workshop, module, graph, pairs, 1e-5)


def test_equal_modules_give_equal_files_wherever_they_were_built(workshop, rows, onnx_mlp):
    module = workshop.source("factory", rows, target="nets.py:mlp")
    assert workshop.apply("export_onnx", module, rows).sha256 == onnx_mlp.sha256


def test_the_file_holds_nothing_of_the_place_that_it_was_made_in(shop, onnx_mlp):
    content = onnx_mlp.path.read_bytes()
    assert str(shop.root).encode() not in content
    assert b"nets.py" not in content


def test_an_opset_that_is_asked_for_is_the_one_that_comes(workshop, rows, mlp):
    graph = workshop.apply("export_onnx", mlp, rows, opset=18)
    assert onnx.load(graph.path).opset_import[0].version == 18
    assert "opset 18" in graph.steps[-1].notes[0]


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("branching", "torch.onnx.export cannot export this module"),
        ("drawing", "the exported graph differs from the module by"),
        ("undefined", "the exported graph differs from the module by nan"),
    ],
)
def test_a_graph_that_is_not_the_module_is_refused(workshop, rows, factory, said):
    module = workshop.source("factory", rows, target=f"refused.py:{factory}")
    with pytest.raises(CannotMeasure, match=said):
        workshop.apply("export_onnx", module, rows)


def test_a_graph_that_onnxruntime_does_not_open_is_refused(workshop, pairs):
    module = workshop.source("factory", pairs, target="refused.py:passing")
    with pytest.raises(CannotMeasure, match="onnxruntime cannot open the exported graph"):
        workshop.apply("export_onnx", module, pairs)


def test_a_difference_is_held_against_the_tolerance_of_the_recipe(workshop, images, cnn):
    with pytest.raises(CannotMeasure, match="more than 1e-12"):
        workshop.apply("export_onnx", cnn, images, tolerance=1e-12)
    assert workshop.apply("export_onnx", cnn, images, tolerance=1e-5).steps[-1].notes[1].startswith("largest difference")


def test_a_module_that_torch_has_quantized_is_refused_with_the_order_that_works(workshop, rows, mlp):
    quantized = workshop.apply("torch_dynamic_int8", mlp, rows)
    with pytest.raises(CannotMeasure, match="layer 'hidden' is quantized by torch") as raised:
        workshop.apply("export_onnx", quantized, rows)
    assert "export first, then quantize_dynamic" in str(raised.value)


def test_a_float_module_is_not_taken_for_a_quantized_one_for_the_name_of_its_file(workshop, rows):
    module = workshop.source("factory", rows, target="quantized_net.py:build")
    assert workshop.apply("export_onnx", module, rows).format == "onnx"


@pytest.mark.slow
def test_a_real_transformer_keeps_its_embeddings_and_opens_its_batch_axis(shop, minilm, onnx_minilm, sentences):
    assert 0.95 < onnx_minilm.size_bytes / minilm.size_bytes < 1.05
    agree_at_every_batch_size(shop, minilm, onnx_minilm, sentences, 1e-5)
