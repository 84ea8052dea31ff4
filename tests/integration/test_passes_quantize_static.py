import contextlib
import io
import json
from collections import Counter

import numpy as np
import pytest
from fakes.cpus import whole_int8_products
from pydantic import ValidationError

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402


def initializers(artifact):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(artifact.path).graph.initializer}


def scale_of_the_input(artifact):
    """The scale with which the graph's input is quantized: its range / 255."""
    model = onnx.load(artifact.path)
    node = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "x")
    return float(initializers(artifact)[node.input[1]])


def weights_of_convolutions(artifact):
    """(weight's dtype, number of its scales, its channels) of each convolution, through its DequantizeLinear."""
    model, values = onnx.load(artifact.path), initializers(artifact)
    made_by = {output: node for node in model.graph.node for output in node.output}
    sources = [made_by[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert all(node.op_type == "DequantizeLinear" for node in sources)
    return [(values[node.input[0]].dtype.name, values[node.input[1]].size, len(values[node.input[0]])) for node in sources]


@pytest.fixture(scope="session")
def quantized(shop, onnx_cnn, images):
    return shop.apply("quantize_static", onnx_cnn, images)


def test_every_convolution_and_product_stands_between_q_and_dq(onnx_cnn, quantized):
    model = onnx.load(quantized.path)
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    compute = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(compute) == 3
    assert all(made_by[name] == "DequantizeLinear" for node in compute for name in node.input)
    share, ranges = quantized.steps[-1].notes
    assert share == "3 of 3 Conv, Gemm and MatMul nodes quantized"
    assert ranges.startswith("ranges of ") and ranges.endswith(" tensors by minmax from 40 samples")
    assert [path.name for path in quantized.folder.iterdir()] == ["model.onnx"]
    assert quantized.inputs == onnx_cnn.inputs and quantized.outputs == onnx_cnn.outputs


def test_weights_are_int8_with_a_scale_for_each_channel_and_activations_uint8(quantized):
    assert weights_of_convolutions(quantized) == [("int8", 16, 16), ("int8", 16, 16)]
    kinds = Counter(values.dtype.name for name, values in initializers(quantized).items() if name.endswith("_zero_point"))
    assert kinds["uint8"] >= 3  # of the activations


def test_per_tensor_gives_one_scale(workshop, images, onnx_cnn):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, per_channel=False)
    assert weights_of_convolutions(artifact) == [("int8", 1, 16), ("int8", 1, 16)]


def test_types_are_those_that_are_asked_for(workshop, images, onnx_cnn):
    signed = workshop.apply("quantize_static", onnx_cnn, images, activation_type="int8")
    zero_points = [node.input[2] for node in onnx.load(signed.path).graph.node if node.op_type == "QuantizeLinear"]
    assert {initializers(signed)[name].dtype.name for name in zero_points} == {"int8"}
    unsigned = workshop.apply("quantize_static", onnx_cnn, images, per_channel=False, weight_type="uint8")
    assert [kind for kind, _, _ in weights_of_convolutions(unsigned)] == ["uint8", "uint8"]


def test_a_pair_of_types_that_the_library_does_not_do_is_refused(workshop, images, onnx_cnn):
    with pytest.raises(CannotMeasure, match=r"activation_type=QuantType\.QInt8, weight_type=QuantType\.QUInt8"):
        workshop.apply("quantize_static", onnx_cnn, images, activation_type="int8", weight_type="uint8")


def test_ranges_come_from_the_first_calibration_samples_and_from_nothing_else(workshop, images, onnx_cnn):
    values = images.inputs["x"].copy()
    values[20:] *= 100
    loud = Dataset({"x": values}, None)
    few = workshop.apply("quantize_static", onnx_cnn, images, calibration=loud, calibration_samples=20)
    many = workshop.apply("quantize_static", onnx_cnn, images, calibration=loud, calibration_samples=40)
    assert scale_of_the_input(few) == pytest.approx((values[:20].max() - values[:20].min()) / 255, rel=1e-5)
    assert scale_of_the_input(many) == pytest.approx((values.max() - values.min()) / 255, rel=1e-5)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("samples", [7, 1000])
def test_any_number_of_samples_will_do_for_every_method(workshop, images, onnx_cnn, method, samples):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, method=method, calibration_samples=samples, num_bins=512)
    values = images.inputs["x"][:samples]
    whole = (values.max() - values.min()) / 255
    assert 0.2 * whole < scale_of_the_input(artifact) < 1.001 * whole
    assert method != "minmax" or scale_of_the_input(artifact) == pytest.approx(whole, rel=1e-5)
    assert f"from {min(samples, 40)} samples" in artifact.steps[-1].notes[1]


@pytest.fixture(scope="session")
def spiked(images):
    """Images of which one pixel in a thousand is far beyond all others."""
    values = images.inputs["x"].copy()
    values.reshape(-1)[::1000] *= 40
    return Dataset({"x": values}, None)


def test_percentile_cuts_where_that_share_of_the_values_ends(workshop, images, onnx_cnn, spiked):
    values = np.sort(spiked.inputs["x"].reshape(-1))
    for percentile in (90, 99, 99.5):
        artifact = workshop.apply(
            "quantize_static", onnx_cnn, images, calibration=spiked, method="percentile", percentile=percentile, num_bins=8192
        )
        low, high = np.percentile(values, [(100 - percentile) / 2, 100 - (100 - percentile) / 2])
        assert scale_of_the_input(artifact) == pytest.approx((high - low) / 255, rel=0.05)
        assert f"by percentile {percentile} over 8192 bins" in artifact.steps[-1].notes[1]


def test_entropy_cuts_off_the_spikes_that_minmax_keeps(workshop, images, onnx_cnn, spiked):
    def scale(**options):
        return scale_of_the_input(workshop.apply("quantize_static", onnx_cnn, images, calibration=spiked, **options))

    assert scale(method="entropy", num_bins=1024) < 0.5 * scale(method="minmax")


def test_entropy_at_128_bins_is_minmax_which_is_why_fewer_than_256_are_refused(onnx_cnn, images, tmp_path):
    """The library's own default: as many bins as levels leave the whole range as the only candidate."""
    from onnxruntime.quantization import CalibrationMethod, quantize_static

    from harness.passes._onnx_calibration import Reader

    scales = {}
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy):
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(onnx_cnn.path, tmp_path / "q.onnx", Reader(images, ["x"], 32), calibrate_method=method)
        scales[method] = {
            t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "q.onnx").graph.initializer if t.name.endswith("_scale")
        }
    first, second = scales.values()
    assert first.keys() == second.keys()
    assert all(np.allclose(first[name], second[name], rtol=0.02) for name in first)
    with pytest.raises(ValidationError, match="num_bins"):
        plugins.load("passes", "quantize_static")(num_bins=128)


def test_a_symmetric_activation_has_no_zero_point_to_subtract(workshop, images, onnx_cnn):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, activation_type="int8", symmetric_activation=True)
    zero_points = [node.input[2] for node in onnx.load(artifact.path).graph.node if node.op_type == "QuantizeLinear"]
    assert {int(initializers(artifact)[name]) for name in zero_points} == {0}


def test_operators_that_are_excluded_stay_in_float(workshop, images, onnx_cnn):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, exclude_operators=("Conv",))
    assert artifact.steps[-1].notes[0].startswith("1 of 3 Conv, Gemm and MatMul nodes quantized; in float: node_conv")
    with pytest.raises(BadInput, match="excludes the operator 'Convolution', which is not in this graph"):
        workshop.apply("quantize_static", onnx_cnn, images, exclude_operators=("Convolution",))


def test_the_report_names_what_loses_most_and_the_model_alone_is_counted(workshop, images, onnx_cnn, quantized, spiked):
    artifact = workshop.apply("quantize_static", onnx_cnn, images, debug=True)
    assert sorted(path.name for path in artifact.folder.iterdir()) == ["model.onnx", "quantization_loss.json"]
    assert (artifact.size_bytes, artifact.sha256) == (quantized.size_bytes, quantized.sha256)
    rows = json.loads((artifact.folder / "quantization_loss.json").read_text())["tensors"]
    assert [row["own_db"] for row in rows] == sorted(row["own_db"] for row in rows)
    by_kind = {kind: {row["tensor"]: row for row in rows if row["kind"] == kind} for kind in ("weight", "activation")}
    assert set(by_kind["weight"]) == {"first.weight", "second.weight", "head.weight"}
    names = {node.name for node in onnx.load(onnx_cnn.path).graph.node}
    assert all(set(row["nodes"]) <= names and row["nodes"] for row in rows)
    note = artifact.steps[-1].notes[-1]
    assert f"{rows[0]['tensor']} ({rows[0]['kind']}) {rows[0]['own_db']:.1f} dB" in note and f"all {len(rows)} tensors" in note
    crude = workshop.apply("quantize_static", onnx_cnn, images, calibration=spiked, debug=True)
    coarse = {row["tensor"]: row for row in json.loads((crude.folder / "quantization_loss.json").read_text())["tensors"]}
    assert coarse["relu"]["own_db"] < by_kind["activation"]["relu"]["own_db"]


def test_the_loss_of_a_weight_is_that_of_its_rounding(workshop, images, onnx_cnn):
    """Recomputed from the two files, for unsigned weights with a zero point too."""
    for kind in ("int8", "uint8"):
        artifact = workshop.apply("quantize_static", onnx_cnn, images, debug=True, weight_type=kind)
        rows = json.loads((artifact.folder / "quantization_loss.json").read_text())["tensors"]
        values, exact = initializers(artifact), initializers(onnx_cnn)["second.weight"]
        scale, zero = (values[f"second.weight_{part}"].astype(np.float64).reshape(-1, 1, 1, 1) for part in ("scale", "zero_point"))
        restored = (values["second.weight_quantized"].astype(np.float64) - zero) * scale
        expected = 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - restored))
        assert next(row["own_db"] for row in rows if row["tensor"] == "second.weight") == pytest.approx(expected, abs=0.05)


@whole_int8_products
@pytest.mark.parametrize("kind", ["residual", "encoder", "recommender"])
def test_nets_of_other_kinds_are_quantized_and_stay_near(shop, kind):
    graph, data = onnx_kinds.exported(shop, kind), onnx_kinds.data_of(kind)
    artifact = shop.apply("quantize_static", graph, data, method="percentile", percentile=100, debug=True)
    done, total = (int(word) for word in artifact.steps[-1].notes[0].split()[:3:2])
    assert done == total >= 2
    assert onnx_kinds.difference(shop, graph, artifact, data) < 0.12


@whole_int8_products
def test_answers_are_near_the_float_graph_and_not_the_same_at_every_batch_size(shop, onnx_cnn, quantized, images):
    with shop.open("onnxruntime", onnx_cnn) as float_session, shop.open("onnxruntime", quantized) as int8_session:
        assert int8_session.facts.precision == "int8 (3 of 3 compute nodes)"
        for size in (1, 2, 7, 40):
            batch = images.batch(0, size)
            (expected,), (got,) = (one.outputs(one.run(one.prepare(batch))) for one in (float_session, int8_session))
            assert got.shape == (size, 10)
            assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_the_file_shrinks_towards_a_quarter(onnx_cnn, quantized):
    assert quantized.size_bytes < 0.4 * onnx_cnn.size_bytes


def test_several_inputs_are_calibrated_by_name(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:two_inputs")
    graph = workshop.apply("export_onnx", module, pairs)
    turned = Dataset({"right": pairs.inputs["right"] * 50, "left": pairs.inputs["left"]}, None)
    artifact = workshop.apply("quantize_static", graph, pairs, calibration=turned)
    model, values = onnx.load(artifact.path), initializers(artifact)
    scales = {node.input[0]: float(values[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert scales["right"] > 20 * scales["left"]


def test_a_node_that_is_excluded_stays_in_float_and_is_named(workshop, images, onnx_cnn):
    first = next(node.name for node in onnx.load(onnx_cnn.path).graph.node if node.op_type == "Conv")
    artifact = workshop.apply("quantize_static", onnx_cnn, images, exclude=(first,))
    assert artifact.steps[-1].notes[0] == f"2 of 3 Conv, Gemm and MatMul nodes quantized; in float: {first}"


def test_equal_graphs_and_samples_give_equal_files(workshop, images, onnx_cnn, quantized):
    assert workshop.apply("quantize_static", onnx_cnn, images).sha256 == quantized.sha256 != onnx_cnn.sha256


def test_operators_that_have_no_weights_leave_nothing_quantized_and_are_refused(workshop, images, onnx_cnn):
    with pytest.raises(CannotMeasure, match="'quantize_static' quantized nothing in this graph") as raised:
        workshop.apply("quantize_static", onnx_cnn, images, operators=("Relu",))
    assert "its operators are Conv, Gemm, Relu" in str(raised.value)


@pytest.mark.parametrize("second", ["quantize_static", "quantize_dynamic"])
def test_what_is_quantized_already_is_refused(workshop, images, quantized, second):
    with pytest.raises(CannotMeasure) as raised:
        workshop.apply(second, quantized, images)
    assert "3 of 3 Conv, Gemm and MatMul nodes were int8 before" in str(raised.value)


def test_calibration_samples_that_do_not_fit_the_graph_are_refused_with_the_reason(workshop, images, rows, onnx_cnn):
    with pytest.raises(CannotMeasure, match=r"ONNX Runtime cannot quantize this graph: .*[Rr]ank"):
        workshop.apply("quantize_static", onnx_cnn, images, calibration=rows)
