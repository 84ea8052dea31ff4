from collections import Counter

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402
from onnx_kinds import value  # noqa: E402


@pytest.fixture(scope="module")
def graphs(shop):
    return {kind: onnx_kinds.exported(shop, kind) for kind in ("residual", "encoder", "recommender")}


def kinds(artifact):
    """How many floating-point weights of each type."""
    sizes = Counter()
    for tensor in onnx_kinds.tensors(artifact).values():
        if np.issubdtype(tensor.dtype, np.floating):
            sizes[tensor.dtype.name] += tensor.size
    return sizes


@pytest.mark.parametrize("kind", ["residual", "encoder", "recommender"])
def test_every_weight_takes_half_the_bytes_and_the_answers_stay(shop, graphs, kind):
    before, data = graphs[kind], onnx_kinds.data_of(kind)
    after = shop.apply("onnx_float16", before, data)
    assert kinds(after) == {"float16": kinds(before)["float32"]}
    assert before.size_bytes - after.size_bytes > 0.45 * 4 * kinds(before)["float32"]
    assert after.steps[-1].notes[0] == f"{kinds(after)['float16']:,} of {kinds(after)['float16']:,} weights in float16"
    assert 0 < onnx_kinds.difference(shop, before, after, data) < 5e-3
    assert after.inputs == before.inputs and after.outputs == before.outputs
    assert [path.name for path in after.folder.iterdir()] == ["model.onnx"]


def test_inputs_and_outputs_take_half_precision_where_that_is_asked_for(shop, graphs):
    data = onnx_kinds.data_of("residual")
    after = shop.apply("onnx_float16", graphs["residual"], data, keep_io=False)
    assert {spec.dtype for spec in (*after.inputs, *after.outputs)} == {"float16"}
    assert onnx_kinds.nodes(after)["Cast"] == 0
    assert onnx_kinds.difference(shop, graphs["residual"], after, data) < 5e-3


def test_operators_and_nodes_that_are_to_stay_keep_their_weights(shop, graphs):
    before, data = graphs["encoder"], onnx_kinds.data_of("encoder")
    weighted = onnx_kinds.tensors(before)
    product = next(node for node in onnx.load(before.path).graph.node if node.op_type == "MatMul" and node.input[1] in weighted)
    after = shop.apply("onnx_float16", before, data, keep_operators=("LayerNormalization",), keep_nodes=(product.name,))
    weights, model = onnx_kinds.tensors(after), onnx.load(after.path)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    kept = next(node for node in model.graph.node if node.name == product.name)
    assert {weights[name].dtype.name for node in norms for name in node.input[1:]} == {"float32"}
    assert weights[kept.input[1]].dtype == np.float32
    assert kinds(after)["float16"] > kinds(after)["float32"] > 0
    assert any(note.startswith("in float32 by its operator or name") and note.endswith("(5 nodes)") for note in after.steps[-1].notes)


def test_the_casts_of_the_cpu_provider_are_counted_as_it_runs_them(shop, graphs):
    """The graph that ONNX Runtime itself writes down, and the kernels that it runs, are two witnesses."""
    data = onnx_kinds.data_of("encoder")
    after = shop.apply("onnx_float16", graphs["encoder"], data)
    note = next(note for note in after.steps[-1].notes if note.startswith("the CPU provider runs it with"))
    casts = int(note.split()[6])
    with shop.open("onnxruntime", after) as session:
        session.prepare(data.batch(0, 2))
        facts = session.facts
    assert casts > onnx_kinds.nodes(after)["Cast"]
    assert facts.precision == "float32 (float16 in the file)"
    assert f"weights are kept in float16 and computed with in float32: {casts} Casts run" in facts.details


def test_a_weight_beyond_the_range_is_cut_and_told(workshop, rows):
    weights = np.full((32, 10), 1e-3, np.float32)
    weights[0, 0], weights[1, 1], weights[2, 2] = 1e5, 1e-9, -1e-10
    graph = onnx_kinds.saved(
        workshop,
        rows,
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        inputs=[value("x", ["batch", 32])],
        outputs=[value("y", ["batch", 10])],
        initializers=[("w", weights)],
    )
    after = workshop.apply("onnx_float16", graph, rows, tolerance=1.0)
    assert "1 weights were beyond float16's range and cut to it, 2 too small and raised to it" in after.steps[-1].notes
    assert onnx_kinds.tensors(after)["w"].max() == 65504
    with pytest.raises(CannotMeasure, match="after 'onnx_float16' the outputs differ by"):
        workshop.apply("onnx_float16", graph, rows)


def test_twice_gives_the_same_file(shop, graphs):
    data = onnx_kinds.data_of("encoder")
    assert len({shop.apply("onnx_float16", graphs["encoder"], data).sha256 for _ in range(2)}) == 1


def test_what_is_in_half_precision_already_is_refused(shop, workshop, graphs):
    data = onnx_kinds.data_of("recommender")
    with pytest.raises(CannotMeasure, match="'onnx_float16' finds no float32 weights") as raised:
        workshop.apply("onnx_float16", shop.apply("onnx_float16", graphs["recommender"], data), data)
    assert "its weights are float16" in str(raised.value)


def test_a_graph_whose_every_operator_is_to_stay_is_refused(workshop, graphs):
    data = onnx_kinds.data_of("recommender")
    with pytest.raises(CannotMeasure, match="'onnx_float16' turned no weight into float16"):
        workshop.apply("onnx_float16", graphs["recommender"], data, keep_operators=("Gather", "Gemm"))


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [("keep_operators", "LayerNormalisation", "LayerNormalization"), ("keep_nodes", "node_softmx", "node_softmax")],
)
def test_a_name_that_is_not_there_is_refused_with_the_nearest_right_one(workshop, graphs, option, wrong, right):
    with pytest.raises(BadInput, match=f"'{wrong}', which is not in this graph") as raised:
        workshop.apply("onnx_float16", graphs["encoder"], onnx_kinds.data_of("encoder"), **{option: (wrong,)})
    assert f"did you mean '{right}'?" in str(raised.value)


def test_a_graph_with_a_loop_that_cannot_be_converted_is_refused_by_the_loop_s_name(workshop):
    generator = np.random.default_rng(6)
    dense = generator.standard_normal((8, 8), dtype=np.float32)
    data = Dataset({"dense": dense, "items": generator.integers(0, 50, (8, 4))}, None)
    module = workshop.source("factory", data, target="bag_nets.py:bags")  # torch exports its EmbeddingBag as a loop
    graph = workshop.apply("export_onnx", module, data)
    with pytest.raises(CannotMeasure, match=r"(?s)does not reach into loops and branches, and this graph has Loop '.*Embedding, or leave"):
        workshop.apply("onnx_float16", graph, data)
