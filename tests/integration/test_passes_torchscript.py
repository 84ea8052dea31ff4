import warnings
import zipfile
from collections import Counter

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.formats import torchscript

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


def graph_of(artifact):
    with torchscript.quietly():
        return torch.jit.load(str(artifact.path)).inlined_graph


@pytest.fixture(scope="session")
def residual(shop, images):
    return built(shop, images, "residual")


@pytest.fixture(scope="session")
def scripted(shop, residual, images):
    return shop.apply("torchscript", residual, images)


def test_batch_norms_are_folded_and_weights_are_in_the_graph(shop, residual, scripted):
    counts = torchscript.nodes(graph_of(scripted))
    assert counts["aten::_convolution"] == 3 and counts["aten::batch_norm"] == 0 and counts["prim::GetAttr"] == 0
    nodes, folded, difference = scripted.steps[-1].notes
    before, after = (int(part.split()[0]) for part in nodes.split("; "))
    assert after == torchscript.operators(counts) == before - 2
    assert folded == "2 of 2 batch norms folded into convolutions"
    assert difference.endswith("at batch sizes 1 and 3")
    assert (scripted.format, scripted.inputs, scripted.outputs) == ("torchscript", residual.inputs, residual.outputs)


def test_without_freezing_the_graph_keeps_its_norms_and_parameters(shop, residual, images):
    artifact = shop.apply("torchscript", residual, images, freeze=False)
    counts = torchscript.nodes(graph_of(artifact))
    assert counts["aten::batch_norm"] == 2 and counts["prim::GetAttr"] > 0
    told = artifact.steps[-1].notes[0]
    assert told.startswith(f"{torchscript.operators(counts)} operators, ") and told.endswith(" nodes in the graph")


def test_answers_are_the_module_s(shop, residual, scripted, images):
    (expected,) = shop.answers("torch", residual, images, size=12)
    np.testing.assert_allclose(shop.answers("torch", scripted, images, size=12)[0], expected, atol=1e-5)


def test_the_file_tells_nothing_of_the_place_where_it_was_made(scripted):
    with zipfile.ZipFile(scripted.path) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".debug_pkl")]
        assert str(scripted.folder.parent).encode() not in b"".join(archive.read(name) for name in archive.namelist())
    assert [path.name for path in scripted.folder.iterdir()] == ["model.pt"]


def test_equal_modules_give_equal_weights_and_graphs(shop, residual, scripted, images):
    again = shop.apply("torchscript", residual, images)
    assert torchscript.nodes(graph_of(again)) == torchscript.nodes(graph_of(scripted))
    weights = []
    for artifact in (again, scripted):
        with zipfile.ZipFile(artifact.path) as archive:
            weights.append({name: archive.read(name) for name in archive.namelist() if "/constants/" in name})
    assert weights[0] == weights[1] != {}


def test_several_inputs_named_outputs_and_their_order_are_kept(shop):
    generator = np.random.default_rng(0)
    data = Dataset({"dense": generator.standard_normal((12, 8), dtype=np.float32), "items": generator.integers(0, 50, (12, 4))}, None)
    module = built(shop, data, "recommender")
    artifact = shop.apply("torchscript", module, data)
    assert [spec.name for spec in artifact.outputs] == ["logits", "interaction"]
    for got, expected in zip(*(shop.answers("torch", one, data, size=5) for one in (artifact, module)), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_model_of_transformers_whose_output_is_a_class_of_its_own_is_traced(workshop):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    transformers.BertModel(config).save_pretrained(workshop.root / "bert")
    ids = np.random.default_rng(0).integers(1, 50, (6, 7))
    data = Dataset({"input_ids": ids, "attention_mask": np.ones_like(ids)}, None)
    module = workshop.source("huggingface", data, id="bert")
    artifact = workshop.apply("torchscript", module, data)
    assert [spec.name for spec in artifact.outputs] == ["last_hidden_state", "pooler_output"]
    for got, expected in zip(*(workshop.answers("torch", one, data, size=5) for one in (artifact, module)), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_trace_that_holds_its_batch_size_is_refused_and_a_script_is_not(workshop, rows):
    module = built(workshop, rows, "fixed")
    with pytest.raises(CannotMeasure, match="the compiled graph differs from the module by") as raised:
        workshop.apply("torchscript", module, rows)
    assert "torchscript: {method: script}" in str(raised.value)
    artifact = workshop.apply("torchscript", module, rows, method="script")
    for size in (2, 5):
        got, expected = (workshop.answers("torch", one, rows, size=size)[0] for one in (artifact, module))
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_what_the_tracer_doubts_is_told(workshop, rows):
    artifact = workshop.apply("torchscript", built(workshop, rows, "fixed"), rows, tolerance=100.0)
    assert (
        "warnings of the tracer, the first: Using len to get tensor shape might cause the trace to be incorrect"
        in artifact.steps[-1].notes[1]
    )


def test_what_cannot_be_scripted_is_refused_with_the_reason(workshop, mlp, rows):
    with pytest.raises(CannotMeasure, match=r"torch.jit.script cannot compile this module: \S.*\n  use the other method"):
        workshop.apply("torchscript", mlp, rows, method="script")


def test_half_precision_is_frozen_into_the_graph(shop, residual, images):
    for name in ("bfloat16", "autocast"):
        artifact = shop.apply("torchscript", shop.apply(name, residual, images), images)
        sizes = torchscript.constants(graph_of(artifact))
        assert sizes["bfloat16"] > 0 and sizes["float32"] == 0


def test_optimizing_what_cannot_be_saved_afterwards_is_refused_and_what_can_is_saved(shop, residual, images):
    with pytest.raises(CannotMeasure, match="after optimize_for_inference torch cannot save this module and open it again") as raised:
        shop.apply("torchscript", residual, images, optimize_for_inference=True)
    assert "leave optimize_for_inference to the runtime 'torchscript'" in str(raised.value)
    half = shop.apply("bfloat16", residual, images)
    artifact = shop.apply("torchscript", half, images, optimize_for_inference=True)
    assert "after optimize_for_inference" in artifact.steps[-1].notes[0]
    assert Counter(torchscript.nodes(graph_of(artifact)))["aten::batch_norm"] == 0


def test_no_warning_of_deprecation_reaches_the_screen(shop, residual, images):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        shop.answers("torchscript", shop.apply("torchscript", residual, images), images)
    assert heard == []
