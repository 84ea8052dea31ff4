import importlib.util

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure
from harness.formats import onnx_model, openvino_model

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
openvino_model.framework()  # without its telemetry, whatever imports it next
pytest.importorskip("nncf")


def model_of(artifact):
    return onnx.load(artifact.path)


def stored(model):
    """Initializers by name: (element type, shape)."""
    return {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer}


def weights_of(artifact):
    """(operator, element type of its stored weight, number of its scales) of each operator whose weight is dequantized, in order."""
    model = model_of(artifact)
    makers, there, found = {output: node for node in model.graph.node for output in node.output}, stored(model), []
    for node in model.graph.node:
        maker = makers.get(node.input[1]) if node.op_type in onnx_model.COMPUTE else None
        if maker is not None and maker.op_type == "DequantizeLinear" and maker.input[0] in there:
            scales = int(np.prod(there[maker.input[1]][1]))
            found.append((node.op_type, there[maker.input[0]][0], scales))
    return found


def linear(folder, opset):
    """[N, 8] to [N, 4] by one Gemm, in an opset of those days."""
    weight = np.random.default_rng(3).standard_normal((8, 4), dtype=np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="gemm")],
        "linear",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(weight, "weight"), onnx.numpy_helper.from_array(np.zeros(4, np.float32), "bias")],
    )
    folder.mkdir()
    return onnx_model.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=6), folder, ())


def brittle(folder):
    """[N, 32] to [N, 10] by two layers. In the second, each channel has one weight that is a thousand times the others, of a value that is
    always zero: in float it changes nothing, and in int8 it leaves nothing of the others."""
    generator = np.random.default_rng(5)
    first, second = (generator.standard_normal(shape, dtype=np.float32) for shape in ((32, 64), (64, 10)))
    bias = np.zeros(64, np.float32)
    bias[0], second[0] = -1000, 1000 * np.abs(second).max()
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "first", "bias"], ["summed"], name="first"),
        onnx.helper.make_node("Relu", ["summed"], ["hidden"], name="relu"),
        onnx.helper.make_node("MatMul", ["hidden", "second"], ["y"], name="second"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "brittle",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 32])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(value, name) for name, value in (("first", first), ("second", second), ("bias", bias))],
    )
    folder.mkdir()
    return onnx_model.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), folder, ())


@pytest.fixture(scope="module")
def quantized(shop, onnx_cnn, images):
    return shop.apply("quantize_nncf", onnx_cnn, images)


def test_an_onnx_graph_stays_one_with_pairs_around_int8_weights_that_have_a_scale_for_each_channel(quantized):
    model = model_of(quantized)
    onnx.checker.check_model(model, full_check=True)
    int8 = onnx.TensorProto.INT8
    assert weights_of(quantized) == [("Conv", int8, 16), ("Conv", int8, 16), ("Gemm", int8, 10)]
    counts = onnx_model.operators(model)
    assert counts["QuantizeLinear"] == 3  # what each operator is given: nothing quantizes weights when the graph runs
    assert counts["DequantizeLinear"] == 3 + 3
    assert quantized.format == "onnx"


def test_weights_take_a_quarter_of_the_bytes_and_the_notes_tell_it(onnx_cnn, quantized):
    before, after = (stored(model_of(one)) for one in (onnx_cnn, quantized))
    weights = 16 * 3 * 9 + 16 * 16 * 9 + 10 * 2304
    assert sum(int(np.prod(shape)) for kind, shape in before.values() if kind == onnx.TensorProto.FLOAT and len(shape) > 1) == weights
    assert not [name for name, (kind, shape) in after.items() if kind == onnx.TensorProto.FLOAT and len(shape) > 1]
    assert quantized.size_bytes < 0.35 * onnx_cnn.size_bytes
    share, told, ranges = quantized.steps[-1].notes
    assert share == "3 of 3 operators with weights quantized"
    assert told.startswith("3 QuantizeLinear and 6 DequantizeLinear; initializers ")
    assert ranges == "ranges from 40 calibration samples: NNCF advises 300"


def test_answers_are_near_the_float_graph_and_not_the_same_at_every_batch_size(shop, onnx_cnn, quantized, images):
    with shop.open("onnxruntime", onnx_cnn) as float_session, shop.open("onnxruntime", quantized) as int8_session:
        for size in (1, 7, 40):
            batch = images.batch(0, size)
            (expected,), (got,) = (one.outputs(one.run(one.prepare(batch))) for one in (float_session, int8_session))
            assert got.shape == (size, 10)
            assert 0 < np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
        assert int8_session.facts.precision.startswith("int8")


def test_openvino_opens_the_same_graph_in_int8(shop, quantized):
    with shop.open("openvino", quantized) as session:
        assert session.facts.details[:2] == ("2 Convolution in int8", "1 FullyConnected in int8")


def test_what_is_excluded_stays_in_float_and_unknown_names_are_refused(workshop, onnx_cnn, images):
    *_, head = [node.name for node in model_of(onnx_cnn).graph.node]
    by_name = workshop.apply("quantize_nncf", onnx_cnn, images, exclude=(head,))
    assert by_name.steps[-1].notes[0] == f"2 of 3 operators with weights quantized; in float: {head}"
    assert [kind for kind, *_ in weights_of(by_name)] == ["Conv", "Conv"]
    by_type = workshop.apply("quantize_nncf", onnx_cnn, images, exclude_types=("Conv",))
    assert [kind for kind, *_ in weights_of(by_type)] == ["Gemm"]
    with pytest.raises(BadInput) as raised:
        workshop.apply("quantize_nncf", onnx_cnn, images, exclude=("node_lin",), exclude_types=("conv",))
    assert f"'exclude' names 'node_lin', which is not in this model\n  did you mean '{head}'?" in str(raised.value)
    assert "'exclude_types' names 'conv', which is not in this model\n  did you mean 'Conv'?" in str(raised.value)


@pytest.mark.slow
def test_equal_graphs_and_data_give_equal_files(workshop, onnx_cnn, quantized, images):
    assert workshop.apply("quantize_nncf", onnx_cnn, images).sha256 == quantized.sha256 != onnx_cnn.sha256


@pytest.mark.parametrize("before", ["quantize_nncf", "quantize_dynamic"])
def test_what_is_quantized_already_is_refused_with_what_it_has(workshop, onnx_cnn, quantized, images, before):
    artifact = quantized if before == "quantize_nncf" else workshop.apply(before, onnx_cnn, images)
    with pytest.raises(CannotMeasure, match=r"this graph is already quantized: it has \d+ (ConvInteger|DequantizeLinear)"):
        workshop.apply("quantize_nncf", artifact, images)


def test_an_opset_without_quantized_operators_is_refused_and_one_without_channels_is_told(workshop, tmp_path):
    rows = Dataset({"x": np.random.default_rng(4).standard_normal((16, 8), dtype=np.float32)}, None)
    with pytest.raises(CannotMeasure, match="this graph is of opset 9, and QuantizeLinear came with opset 10"):
        workshop.apply("quantize_nncf", linear(tmp_path / "nine", 9), rows)
    artifact = workshop.apply("quantize_nncf", linear(tmp_path / "twelve", 12), rows)
    assert weights_of(artifact) == [("Gemm", onnx.TensorProto.INT8, 1)]
    assert artifact.steps[-1].notes[2] == "opset 12: one scale for each weight, where opset 13 has one for each channel"


@pytest.mark.slow
def test_data_that_the_graph_cannot_take_are_an_error_with_the_library_s_reason(workshop, onnx_cnn):
    wrong = Dataset({"x": np.zeros((4, 3, 9, 9), np.float32)}, None)
    with pytest.raises(CannotMeasure, match=r"NNCF cannot quantize this model: .*invalid dimensions for input: x"):
        workshop.apply("quantize_nncf", onnx_cnn, wrong)


def test_a_layer_that_costs_too_much_goes_back_to_float_and_is_named(workshop, tmp_path):
    artifact = brittle(tmp_path / "brittle")
    rows = Dataset({"x": np.random.default_rng(6).standard_normal((160, 32), dtype=np.float32)}, None)
    data = Dataset(rows.inputs, workshop.answers("onnxruntime", artifact, rows, size=160)[0].argmax(axis=1))

    def right(one):
        return float(np.mean(workshop.answers("onnxruntime", one, rows, size=160)[0].argmax(axis=1)[80:] == data.targets[80:]))

    plain = workshop.apply("quantize_nncf", artifact, rows, calibration=data, calibration_samples=80)
    kept = workshop.apply("quantize_nncf", artifact, rows, calibration=data, calibration_samples=80, max_drop=0.2)
    int8 = onnx.TensorProto.INT8
    assert weights_of(plain) == [("Gemm", int8, 64), ("MatMul", int8, 10)]
    assert weights_of(kept) == [("Gemm", int8, 64)]
    assert right(plain) < 0.5 and right(kept) >= 0.8
    told = kept.steps[-1].notes
    assert told[0] == "1 of 2 operators with weights quantized; in float: second"
    assert told[3].startswith("top-1 on 80 held-out calibration samples 100.00%, quantized ")
    assert "with 1 operators back in float" in told[3] and told[3].endswith(": second")


@pytest.mark.slow
def test_nothing_reaches_the_screen(workshop, onnx_cnn, images, capfd):
    workshop.apply("quantize_nncf", onnx_cnn, images, calibration_samples=4)
    assert capfd.readouterr() == ("", "")
