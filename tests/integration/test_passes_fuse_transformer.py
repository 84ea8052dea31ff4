import sys

import pytest

from harness.core.errors import CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402


@pytest.fixture(scope="module")
def encoder(shop):
    return onnx_kinds.exported(shop, "encoder")


@pytest.fixture(scope="module")
def data():
    return onnx_kinds.data_of("encoder")


@pytest.fixture(scope="module")
def fused(shop, encoder, data):
    return shop.apply("fuse_transformer", encoder, data, model_type="bert")


def attribute(artifact, kind, name):
    found = [node for node in onnx.load(artifact.path).graph.node if node.op_type == kind]
    return {entry.i for node in found for entry in node.attribute if entry.name == name}


def test_attention_norm_and_activation_of_every_layer_become_one_node_each(shop, encoder, fused, data):
    found = onnx_kinds.nodes(fused)
    assert {name: found[name] for name in ("Attention", "SkipLayerNormalization", "BiasGelu")} == {
        "Attention": 2,
        "SkipLayerNormalization": 4,
        "BiasGelu": 2,
    }
    assert found["Softmax"] == found["Gelu"] == found["LayerNormalization"] == 0
    before = onnx_kinds.nodes(encoder).total()
    assert fused.steps[-1].notes[:2] == (
        f"{before} nodes before, {found.total()} after",
        "fused into 4 SkipLayerNormalization, 2 Attention, 2 BiasGelu",
    )
    assert onnx_kinds.difference(shop, encoder, fused, data) < 1e-5
    assert not any("shape inference failed" in note for note in fused.steps[-1].notes)


def test_heads_are_found_in_the_graph(fused):
    assert attribute(fused, "Attention", "num_heads") == {4}


def test_a_fusion_that_is_disabled_is_left_out_and_softmax_is_not_called_missed(shop, encoder, data):
    after = shop.apply("fuse_transformer", encoder, data, disabled=("attention", "bias_gelu"))
    found = onnx_kinds.nodes(after)
    assert found["Attention"] == found["BiasGelu"] == 0 < found["SkipLayerNormalization"]
    assert not any("attention itself" in note for note in after.steps[-1].notes)


def test_multi_head_keeps_the_projections_apart(shop, encoder, data):
    after = shop.apply("fuse_transformer", encoder, data, multi_head=True)
    assert onnx_kinds.nodes(after)["MultiHeadAttention"] == 2
    assert onnx_kinds.nodes(after)["Attention"] == 0
    assert onnx_kinds.difference(shop, encoder, after, data) < 1e-5


def test_the_approximation_is_used_where_it_is_allowed_and_is_seen_in_the_outputs(shop, encoder, data, fused):
    after = shop.apply("fuse_transformer", encoder, data, gelu_approximation=True)
    assert onnx_kinds.nodes(after)["FastGelu"] == 2
    exact, near = (onnx_kinds.difference(shop, encoder, one, data) for one in (fused, after))
    assert exact < near < 1e-2


def test_attention_that_keeps_its_pattern_is_told(shop, data, encoder):
    """With a family that looks for attention elsewhere, norms are fused and attention is not."""
    after = shop.apply("fuse_transformer", encoder, data, model_type="clip")
    assert onnx_kinds.nodes(after)["Softmax"] == 2
    assert any(note.startswith("attention itself was not fused: 2 Softmax nodes stay") for note in after.steps[-1].notes)


def test_the_path_for_imports_is_left_as_it_was(shop, encoder, data):
    before = list(sys.path)
    shop.apply("fuse_transformer", encoder, data)
    assert sys.path == before


def test_twice_gives_the_same_file(shop, encoder, data, fused):
    assert shop.apply("fuse_transformer", encoder, data, model_type="bert").sha256 == fused.sha256 != encoder.sha256


@pytest.mark.parametrize("kind", ["residual", "recommender"])
def test_a_graph_that_is_no_transformer_is_refused_with_what_it_has(shop, workshop, kind):
    with pytest.raises(CannotMeasure, match="'fuse_transformer' found no pattern of 'bert' in this graph") as raised:
        workshop.apply("fuse_transformer", onnx_kinds.exported(shop, kind), onnx_kinds.data_of(kind))
    assert {"residual": "5 Conv", "recommender": "2 Gemm"}[kind] in str(raised.value)


def test_what_is_fused_already_is_refused(workshop, fused, data):
    with pytest.raises(CannotMeasure, match="found no pattern"):
        workshop.apply("fuse_transformer", fused, data)


@pytest.mark.slow
def test_a_real_transformer_keeps_its_embeddings(shop, onnx_minilm, sentences):
    after = shop.apply("fuse_transformer", onnx_minilm, sentences)
    assert onnx_kinds.nodes(after)["BiasGelu"] == 6
    told = any("shape inference failed" in note for note in after.steps[-1].notes)
    assert told is (onnx_kinds.nodes(after)["SkipLayerNormalization"] == 0)
    assert onnx_kinds.difference(shop, onnx_minilm, after, sentences) < 1e-4
