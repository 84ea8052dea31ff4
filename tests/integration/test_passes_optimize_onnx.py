import numpy as np
import pytest

from harness.core.errors import CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402
from onnx_kinds import value  # noqa: E402


@pytest.fixture(scope="module")
def graphs(shop):
    return {kind: onnx_kinds.exported(shop, kind) for kind in ("residual", "encoder", "recommender")}


def domains(artifact):
    return {node.domain for node in onnx.load(artifact.path).graph.node}


@pytest.mark.parametrize(
    ("kind", "fused"),
    [
        ("encoder", {"SkipLayerNormalization": 4, "BiasGelu": 2}),
        ("recommender", {"FusedGemm": 1}),
        ("residual", {"FusedConv": 3}),
    ],
)
def test_extended_fuses_into_the_librarys_own_operators_and_the_notes_count_them(shop, graphs, kind, fused):
    data, before = onnx_kinds.data_of(kind), graphs[kind]
    after = shop.apply("optimize_onnx", before, data)
    found = onnx_kinds.nodes(after)
    assert {name: found[name] for name in fused} == fused
    assert found.total() < onnx_kinds.nodes(before).total()
    assert after.steps[-1].notes[0] == f"{onnx_kinds.nodes(before).total()} nodes before, {found.total()} after"
    assert all(f"{count} {name}" in after.steps[-1].notes[1] for name, count in fused.items())
    assert "no other runtime opens" in after.steps[-1].notes[1]
    assert onnx_kinds.difference(shop, before, after, data) < 1e-5
    assert after.inputs == before.inputs and [path.name for path in after.folder.iterdir()] == ["model.onnx"]


def test_basic_leaves_a_graph_of_plain_onnx_operators(workshop, rows):
    """(x + 0) @ (w * 2), with what says nothing between: the constant is folded, the rest is dropped."""
    weights = np.random.default_rng(2).standard_normal((32, 10)).astype(np.float32)
    graph = onnx_kinds.saved(
        workshop,
        rows,
        [
            onnx.helper.make_node("Identity", ["x"], ["same"]),
            onnx.helper.make_node("Mul", ["w", "two"], ["doubled"]),
            onnx.helper.make_node("MatMul", ["same", "doubled"], ["y"]),
        ],
        inputs=[value("x", ["batch", 32])],
        outputs=[value("y", ["batch", 10])],
        initializers=[("w", weights), ("two", np.float32(2))],
    )
    after = workshop.apply("optimize_onnx", graph, rows, level="basic")
    assert onnx_kinds.nodes(after) == {"MatMul": 1} and domains(after) == {""}
    assert after.steps[-1].notes[:2] == ("3 nodes before, 1 after", "gone: 1 Identity, 1 Mul")
    assert onnx_kinds.difference(workshop, graph, after, rows) < 1e-6


def test_all_writes_this_machines_layout_and_says_that_the_file_is_bound_to_it(shop, graphs):
    data = onnx_kinds.data_of("residual")
    after = shop.apply("optimize_onnx", graphs["residual"], data, level="all")
    model = onnx.load(after.path)
    blocked = sum(node.domain == "com.microsoft.nchwc" for node in model.graph.node)
    if not blocked:
        pytest.skip("ONNX Runtime has no blocked layout for this CPU")
    assert f"{blocked} nodes in the blocked layout of this machine's CPU: not for another kind of CPU" in after.steps[-1].notes
    assert onnx_kinds.difference(shop, graphs["residual"], after, data) < 1e-5


def test_what_is_saved_is_what_a_session_without_optimization_then_runs(shop, graphs):
    after = shop.apply("optimize_onnx", graphs["encoder"], onnx_kinds.data_of("encoder"), level="extended")
    with shop.open("onnxruntime", after, optimization="none") as session:
        count = onnx_kinds.nodes(after).total()
        assert session.facts.details[0] == f"CPUExecutionProvider runs {count} of {count} nodes"


def test_an_optimizer_that_is_disabled_does_not_fuse(shop, graphs):
    after = shop.apply("optimize_onnx", graphs["encoder"], onnx_kinds.data_of("encoder"), disabled=("BiasGeluFusion",))
    assert onnx_kinds.nodes(after)["BiasGelu"] == 0 < onnx_kinds.nodes(after)["SkipLayerNormalization"]


def test_twice_gives_the_same_file(shop, graphs):
    data = onnx_kinds.data_of("encoder")
    assert len({shop.apply("optimize_onnx", graphs["encoder"], data).sha256 for _ in range(2)}) == 1


def test_a_graph_that_it_cannot_better_is_refused(workshop, graphs):
    data = onnx_kinds.data_of("recommender")
    with pytest.raises(CannotMeasure, match="'optimize_onnx' at level 'basic' changed nothing in this graph of 6 nodes"):
        workshop.apply("optimize_onnx", graphs["recommender"], data, level="basic")


def test_a_difference_is_held_against_the_tolerance(workshop, graphs):
    data = onnx_kinds.data_of("encoder")
    with pytest.raises(CannotMeasure, match=r"after 'optimize_onnx' the outputs differ by .*, more than 0\n"):
        workshop.apply("optimize_onnx", graphs["encoder"], data, tolerance=0.0)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build offers CUDA")
def test_a_provider_that_the_build_lacks_is_refused(workshop, graphs):
    with pytest.raises(CannotMeasure, match="execution provider CUDAExecutionProvider is not available"):
        workshop.apply("optimize_onnx", graphs["encoder"], onnx_kinds.data_of("encoder"), provider="cuda")


def test_the_number_of_threads_is_left_to_the_runtime(shop, graphs):
    data = onnx_kinds.data_of("encoder")
    after = shop.apply("optimize_onnx", graphs["encoder"], data)
    one, two = (shop.answers("onnxruntime", after, data, threads=threads)[0] for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)
