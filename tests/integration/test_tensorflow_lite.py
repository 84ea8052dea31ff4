import shutil
from pathlib import Path

import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_model_optimization")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("sklearn")
from fakes.keras_lessons import accuracy, constants, digits, kernels, kinds, outputs, taught

from harness.formats import tflite

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="module")
def testing():
    return digits(PROJECT, "testing_set")


@pytest.fixture(scope="module")
def training():
    return digits(PROJECT, "learning_set")


@pytest.fixture(scope="module")
def net(shop, testing):
    return shop.source("keras", testing, target="keras_nets.py:taught")


@pytest.fixture(scope="module")
def plain(shop, net, testing):
    return shop.apply("convert_tflite", net, testing)


@pytest.fixture(scope="module")
def int8(shop, net, testing, training):
    return shop.apply("convert_tflite", net, testing, calibration=training, quantization="int8")


@pytest.fixture(scope="module")
def mlp(shop, rows):
    return shop.source("keras", rows, target="keras_nets.py:mlp")


def refused(call, *arguments, **options):
    with pytest.raises((BadInput, CannotMeasure)) as raised:
        call(*arguments, **options)
    return str(raised.value)


def facts(workshop, artifact, **options):
    with workshop.open("litert", artifact, **options) as session:
        return session.facts


def test_a_model_in_float_answers_as_its_keras_model_in_a_process_without_tensorflow(shop, net, plain, testing):
    expected = outputs(shop, net, testing)
    np.testing.assert_allclose(shop.answers_elsewhere("litert", plain, testing, batch_size=16), expected, atol=1e-4)
    assert {values.dtype for values in constants(plain)} == {np.dtype("float32")}
    assert [kind for kind, _, _ in kinds(plain)] == ["CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert [(spec.name, spec.shape) for spec in plain.inputs] == [("image", (None, 8, 8, 1))]
    assert plain.steps[-1].notes[-1].endswith("the same highest output for 64 of 64 evaluation samples")


def test_one_model_gives_one_file(shop, net, testing, training, plain, int8):
    assert shop.apply("convert_tflite", net, testing).sha256 == plain.sha256
    assert shop.apply("convert_tflite", net, testing, calibration=training, quantization="int8").sha256 == int8.sha256


def test_float16_stores_half_of_the_bytes_and_computes_in_float32(shop, net, plain, testing):
    artifact = shop.apply("convert_tflite", net, testing, quantization="float16")
    sizes = tflite.weight_bytes(artifact.path)
    assert sizes["float16"] == tflite.weight_bytes(plain.path)["float32"] / 2 and not sizes["float32"]
    assert facts(shop, artifact).precision == "float32"
    np.testing.assert_allclose(outputs(shop, artifact, testing), outputs(shop, plain, testing), atol=0.05)


def test_dynamic_quantization_holds_large_kernels_in_int8_and_leaves_activations_in_float(shop, mlp, rows):
    artifact = shop.apply("convert_tflite", mlp, rows, quantization="dynamic")
    dense = [operands for kind, operands, _ in kinds(artifact) if kind == "FULLY_CONNECTED"]
    assert [operands[:2] for operands in dense] == [("float32", "int8"), ("float32", "int8"), ("float32", "float32")]
    assert facts(shop, artifact).precision == "dynamic int8 (2 of 3 compute operators; 1 in float32)"


def test_int8_computes_in_integers_throughout_and_keeps_its_accuracy(shop, net, plain, int8, testing):
    assert kinds(int8)[0] == ("QUANTIZE", ("float32",), ("int8",)) and kinds(int8)[-1][0] == "DEQUANTIZE"
    for kind, operands, results in kinds(int8)[1:-1]:
        assert "float32" not in (*operands, *results), kind
    assert {values.dtype for values in constants(int8)} == {np.dtype("int8")}
    assert int8.size_bytes < 0.45 * plain.size_bytes
    assert facts(shop, int8).precision == "int8"
    assert accuracy(shop, int8, testing) > accuracy(shop, net, testing) - 0.02
    assert int8.steps[-1].notes[0].endswith("3 of 3 with weights in int8, none in float")


def test_ranges_are_those_of_the_calibration_data(shop, net, testing, training, int8):
    dim = Dataset({"x": training.inputs["x"] / 10}, training.targets)
    artifact = shop.apply("convert_tflite", net, testing, calibration=dim, quantization="int8")
    scales = [input_scale(one) for one in (int8, artifact)]
    assert scales[0] == pytest.approx(1 / 255, rel=0.01)
    assert scales[1] == pytest.approx(scales[0] / 10, rel=0.01)


def input_scale(artifact):
    interpreter = tflite.opened(artifact.path)
    first = tflite.operators(interpreter)[0]
    return tflite.scale_of(interpreter, first.outputs[0]).scale


def test_integer_inputs_and_outputs_are_quantized_before_the_query_and_turned_back_after(shop, net, int8, testing, training):
    options = {"quantization": "int8", "inference_input_type": "int8", "inference_output_type": "uint8"}
    artifact = shop.apply("convert_tflite", net, testing, calibration=training, **options)
    interpreter = tflite.opened(artifact.path)
    held = [tflite.scale_of(interpreter, index).dtype for places in tflite.tensors(interpreter) for index in places.values()]
    assert held == ["int8", "uint8"] and "the model takes int8 and gives uint8" in artifact.steps[-1].notes
    assert [spec.dtype for spec in (*artifact.inputs, *artifact.outputs)] == ["float32", "float32"]  # what callers give and get
    assert "QUANTIZE" not in [kind for kind, _, _ in kinds(artifact)][:-1]
    with shop.open("litert", artifact) as session:
        assert "inputs quantized before and outputs dequantized after the query, not in it" in session.facts.details
        ((_, held),) = session.prepare(testing.batch(0, 3)).tensors
        assert held.dtype == np.int8 and held.min() == -128 and held.max() == 127
    np.testing.assert_allclose(outputs(shop, artifact, testing), outputs(shop, int8, testing), atol=1e-4)


def test_a_model_trained_for_int8_is_converted_with_the_ranges_that_it_trained(shop, net, testing, training, plain):
    aware = taught(shop, "tfmot_quantize", net, testing, training, epochs=2)
    artifact = shop.apply("convert_tflite", aware, testing, quantization="qat")
    assert {values.dtype for values in constants(artifact)} == {np.dtype("int8")}
    assert facts(shop, artifact).precision == "int8"
    assert artifact.size_bytes < 0.45 * plain.size_bytes
    assert accuracy(shop, artifact, testing) > accuracy(shop, net, testing) - 0.02
    np.testing.assert_array_equal(outputs(shop, artifact, testing).argmax(axis=1)[:64], outputs(shop, aware, testing).argmax(axis=1)[:64])
    told = refused(shop.apply, "convert_tflite", aware, testing, quantization="int8")
    assert "would not keep its ranges\n  write 'convert_tflite: {quantization: qat}'" in told
    assert "put 'tfmot_quantize' before it" in refused(shop.apply, "convert_tflite", net, testing, quantization="qat")


def test_zeros_are_left_out_of_the_file_in_float_and_in_int8_after_training(shop, net, testing, training, plain):
    pruned = taught(shop, "tfmot_prune_magnitude", net, testing, training, final_sparsity=0.8)
    sparse = shop.apply("convert_tflite", pruned, testing, sparse=True)
    assert sparse.size_bytes < 0.6 * plain.size_bytes
    assert tflite.weight_bytes(sparse.path)["sparse float32"] > 0
    np.testing.assert_allclose(outputs(shop, sparse, testing), outputs(shop, pruned, testing), atol=1e-4)
    aware = taught(shop, "tfmot_quantize", pruned, testing, training, epochs=2)
    integers = constants(shop.apply("convert_tflite", aware, testing, quantization="qat"))
    floats = list(kernels(pruned).values())
    assert zeros_by_size(integers, floats) >= zeros_by_size(floats, floats)
    forgetful = taught(shop, "tfmot_quantize", pruned, testing, training, epochs=2, keep_zeros=False, learning_rate=1e-2)
    lost = constants(shop.apply("convert_tflite", forgetful, testing, quantization="qat"))
    assert sum(zeros_by_size(lost, floats)) < 0.7 * sum(zeros_by_size(integers, floats))
    assert "found no kernel with zeros enough" in refused(shop.apply, "convert_tflite", net, testing, sparse=True)


def zeros_by_size(values, kernels):
    """How many zeros each of the kernels has, the smallest kernel first; a file holds other constants too."""
    sizes = sorted(kernel.size for kernel in kernels)
    return [min(int((one == 0).sum()) for one in values if one.size == size) for size in sizes]


def test_operators_that_stay_in_float_are_named_and_may_be_allowed(shop, rows):
    net = shop.source("keras", rows, target="keras_nets.py:summed")
    told = refused(shop.apply, "convert_tflite", net, rows, quantization="int8")
    assert "1 of 7 operators stay in float: CUMSUM (net/tf.math.cumsum/Cumsum)\n  'allow_float: true'" in told
    artifact = shop.apply("convert_tflite", net, rows, quantization="int8", allow_float=True)
    assert ("CUMSUM", ("float32", "int32"), ("float32",)) in kinds(artifact)
    assert artifact.steps[-1].notes[0] == "7 operators, 2 of 2 with weights in int8; in float: CUMSUM (net/tf.math.cumsum/Cumsum)"
    assert "6 of 7 operators run by XNNPACK; by LiteRT's own kernels: CUMSUM" in facts(shop, artifact).details


def test_an_operator_that_tflite_does_not_have_is_named_with_its_layer(shop, rows):
    net = shop.source("keras", rows, target="keras_nets.py:bell")
    assert "TFLite has no operator for Erf (net/tf.math.erf/Erf)" in refused(shop.apply, "convert_tflite", net, rows)


def test_a_loop_over_time_needs_a_fixed_batch_and_runs_with_one(shop, rows):
    sequences = Dataset({"x": np.repeat(rows.inputs["x"][:, None], 5, axis=1)}, None)
    net = shop.source("keras", sequences, target="keras_nets.py:memory")
    told = refused(shop.apply, "convert_tflite", net, sequences)
    assert "(net/memory/PartitionedCall)" in told and "fix the batch axis with convert_tflite's 'batch_size'" in told
    artifact = shop.apply("convert_tflite", net, sequences, batch_size=2)
    expected = outputs(shop, net, sequences, 2)
    np.testing.assert_allclose(outputs(shop, artifact, sequences, 2), expected, atol=1e-5)
    assert "has the shape [2, 5, 32], the data gives [4, 5, 32]" in refused(outputs, shop, artifact, sequences, 4)


def test_what_nothing_would_come_of_is_refused(shop, rows):
    small = shop.source("keras", rows, target="keras_nets.py:own_layers")
    assert "kernels under 1,024 weights stay in float" in refused(shop.apply, "convert_tflite", small, rows, quantization="dynamic")
    convert = plugins.load("passes", "convert_tflite")
    for options in ({"allow_float": True}, {"inference_input_type": "int8"}, {"quantization": "dynamic", "inference_output_type": "int8"}):
        with pytest.raises(ValueError, match="'quantization: int8'"):
            convert(**options)


def test_calibration_data_are_needed_for_int8_alone():
    convert = plugins.load("passes", "convert_tflite")
    assert convert(quantization="int8").needs == convert.needs == ("evaluation", "calibration")
    assert convert().needs == convert(quantization="qat").needs == ("evaluation",)


def test_outputs_stay_in_the_models_order_and_inputs_go_by_name(shop, pairs):
    net = shop.source("keras", pairs, target="keras_nets.py:two_inputs")
    artifact = shop.apply("convert_tflite", net, pairs)
    assert [spec.name for spec in artifact.outputs] == ["zebra", "ant"]
    for got, wanted in zip(shop.answers("litert", artifact, pairs), shop.answers("tensorflow", net, pairs), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    swapped = Dataset({"left": pairs.inputs["right"], "right": pairs.inputs["left"]}, None)
    assert not np.allclose(outputs(shop, artifact, swapped, 4), outputs(shop, artifact, pairs, 4), atol=1e-2)


def test_models_of_keras_3_and_saved_models_are_converted_too(workshop, rows):
    from harness.formats import keras_model
    from harness.formats.tensorflow_package import quiet

    new = workshop.source("keras", rows, target="keras_nets.py:keras_3")
    artifact = workshop.apply("convert_tflite", new, rows, quantization="int8")
    np.testing.assert_allclose(outputs(workshop, artifact, rows), outputs(workshop, new, rows), atol=0.2)
    with quiet():
        keras_model.load(new).export(str(workshop.root / "exported"), verbose=False)
    saved = workshop.source("saved_model", rows, path="exported")
    for options in ({}, {"batch_size": 4}):
        converted = workshop.apply("convert_tflite", saved, rows, **options)
        np.testing.assert_allclose(outputs(workshop, converted, rows, 4), outputs(workshop, new, rows, 4), atol=1e-4)


def test_the_delegate_is_what_was_asked_for(shop, plain, testing):
    assert "5 of 5 operators run by XNNPACK" in facts(shop, plain, delegate="xnnpack").details
    assert "no delegate: LiteRT's own kernels" in facts(shop, plain, delegate="none").details
    first, second = (outputs(shop, plain, testing, 8, delegate=delegate) for delegate in ("xnnpack", "none"))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_every_batch_size_is_laid_out_and_each_answer_is_its_own(shop, plain, testing):
    with shop.open("litert", plain) as session:
        many, one = session.prepare(testing.batch(0, 6)), session.prepare(testing.batch(3, 1))
        first = session.run(many)
        kept = [values.copy() for values in first]
        (single,) = session.outputs(session.run(one))
        np.testing.assert_array_equal(first[0], kept[0])
        np.testing.assert_allclose(single, session.outputs(session.run(many))[0][3:4], atol=1e-5)


def test_a_tflite_file_of_the_project_is_copied_described_and_runs(workshop, int8, testing):
    shutil.copyfile(int8.path, workshop.root / "net.tflite")
    artifact = workshop.source("tflite", testing, path="net.tflite")
    assert (artifact.sha256, artifact.inputs, artifact.outputs) == (int8.sha256, int8.inputs, int8.outputs)
    np.testing.assert_array_equal(outputs(workshop, artifact, testing), outputs(workshop, int8, testing))


@pytest.mark.parametrize("content", [b"", b"not one", b"\x1c\0\0\0TFL3 cut off"])
def test_what_is_no_tflite_file_is_refused(workshop, testing, content):
    (workshop.root / "net.tflite").write_bytes(content)
    told = refused(workshop.source, "tflite", testing, path="net.tflite")
    assert "net.tflite is not a TFLite file" in told or "LiteRT cannot open" in told


def test_data_that_do_not_fit_are_refused(shop, plain):
    with shop.open("litert", plain) as session:
        assert "input 'image' of the model is float32, the data gives float64" in refused(session.prepare, {"x": np.zeros((1, 8, 8, 1))})
        told = refused(session.prepare, {"x": np.zeros((1, 8, 7, 1), np.float32)})
        assert "has the shape [any, 8, 8, 1], the data gives [1, 8, 7, 1]" in told
        assert "the model's inputs are image; the data gives a, b" in refused(session.prepare, {"a": None, "b": None})
