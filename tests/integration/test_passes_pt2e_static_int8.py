import re
from collections import Counter

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

NETS = "torchao_nets.py"


def read(artifact):
    from harness.formats import exported_program

    return exported_program.read(artifact)


def targets(artifact):
    return Counter(str(node.target).rpartition(".")[0] for node in read(artifact).graph.nodes if node.op == "call_function")


def outputs(artifact, data):
    """What the program, or the module, answers to all samples: the principal output."""
    from harness.formats import exported_program, torch_module

    module = (exported_program if artifact.format == "exported_program" else torch_module).load(artifact)
    return next(iter(torch_module.call(module, {name: torch.from_numpy(values) for name, values in data.inputs.items()}).values())).numpy()


def near(expected, got, share):
    return 0 < np.abs(got - expected).max() < share * np.abs(expected).max()


def sources_of(node):
    """The integer weight and its dequantize node of an operator."""
    dequantize = node.args[1]
    return dequantize.args[0], dequantize


@pytest.fixture(scope="module")
def resnet(shop, images):
    return shop.source("factory", images, target=f"{NETS}:resnet")


@pytest.fixture(scope="module")
def quantized(shop, resnet, images):
    return shop.apply("pt2e_static_int8", resnet, images)


def test_every_convolution_with_residuals_and_groups_stands_between_dequantize_and_quantize(quantized):
    from torch.export.graph_signature import InputKind

    program = read(quantized)
    compute = [node for node in program.graph.nodes if str(node.target) in ("aten.conv2d.default", "aten.linear.default")]
    assert len(compute) == 6
    places = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.kind is not InputKind.USER_INPUT}
    held = {**program.state_dict, **program.constants}
    for node in compute:
        assert str(node.args[0].target) == "quantized_decomposed.dequantize_per_tensor.default"
        integers, dequantize = sources_of(node)
        assert str(dequantize.target) == "quantized_decomposed.dequantize_per_channel.default"
        weight, scales = held[places[integers.name]], held[places[dequantize.args[1].name]]
        assert weight.dtype is torch.int8 and scales.shape == weight.shape[:1]
    assert not [node for node in program.graph.nodes if "batch_norm" in str(node.target)]
    counts = targets(quantized)
    assert quantized.steps[-1].notes == (
        "6 of 6 convolutions and linear operators quantized",
        f"{counts['quantized_decomposed.quantize_per_tensor']} quantize and "
        f"{counts['quantized_decomposed.dequantize_per_tensor'] + counts['quantized_decomposed.dequantize_per_channel']} dequantize nodes; "
        "int8 weights, a scale for each channel; uint8 activations",
        "calibrated on 40 samples",
    )


def test_no_float_weight_is_left_in_the_file_nor_a_place_or_a_sample_of_this_machine(shop, quantized):
    held = read(quantized).state_dict
    assert max(value.dim() for value in held.values() if value.dtype is torch.float32) == 1  # biases and scales
    assert sum(value.dtype is torch.int8 for value in held.values()) == 6
    assert str(shop.folder).encode() not in quantized.path.read_bytes()
    assert b"site-packages" not in quantized.path.read_bytes()
    assert read(quantized).example_inputs is None
    assert [path.name for path in quantized.folder.iterdir()] == ["model.pt2"]


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_answers_for_batches_of_any_size_are_near_the_float_module_and_not_the_same(resnet, quantized, images, size):
    some = Dataset({"x": images.inputs["x"][:size]}, None)
    assert near(outputs(resnet, some), outputs(quantized, some), 0.05)


def test_inputs_and_outputs_are_told_as_the_module_has_them(resnet, quantized):
    assert (quantized.inputs, quantized.outputs) == (resnet.inputs, resnet.outputs)


def test_the_file_shrinks_towards_a_quarter(workshop):
    data = Dataset({"x": np.random.default_rng(0).standard_normal((8, 1024), dtype=np.float32)}, None)
    module = workshop.source("factory", data, target=f"{NETS}:mlp", args={"width": 1024})
    assert workshop.apply("pt2e_static_int8", module, data).size_bytes < 0.3 * module.size_bytes


def test_a_channel_that_is_far_wider_than_the_others_sets_no_scale_but_its_own(quantized):
    scales = [value for name, value in read(quantized).state_dict.items() if "scale" in name]
    assert all(len(value.unique()) > 1 for value in scales)


def test_ranges_come_from_the_calibration_samples_that_are_asked_for(workshop, resnet, images):
    def first_scale(artifact):
        return next(node.args[1] for node in read(artifact).graph.nodes if "quantize_per_tensor" in str(node.target))

    values = images.inputs["x"].copy()
    values[:16] /= 100
    data = Dataset({"x": values}, None)
    small = workshop.apply("pt2e_static_int8", resnet, images, calibration=data, calibration_samples=16)
    whole = workshop.apply("pt2e_static_int8", resnet, images, calibration=data)
    assert first_scale(whole) > 50 * first_scale(small)
    assert "calibrated on 16 samples" in small.steps[-1].notes


def test_a_reduced_range_keeps_activations_to_seven_bits(workshop, resnet, images):
    artifact = workshop.apply("pt2e_static_int8", resnet, images, reduce_range=True)
    nodes = [node for node in read(artifact).graph.nodes if str(node.target) == "quantized_decomposed.quantize_per_tensor.default"]
    assert {node.args[3:5] for node in nodes} == {(0, 127)}


def test_layers_and_blocks_that_are_excluded_stay_in_float_and_are_named(workshop, resnet, images):
    artifact = workshop.apply("pt2e_static_int8", resnet, images, exclude=("head", "blocks.0"))
    assert artifact.steps[-1].notes[0] == (
        "3 of 6 convolutions and linear operators quantized; in float: blocks.0.first, blocks.0.second, head"
    )
    assert sum(value.dtype is torch.int8 for value in read(artifact).state_dict.values()) == 3


def test_an_encoders_attention_that_cannot_be_reached_is_named(workshop):
    tokens = Dataset({"ids": np.random.default_rng(0).integers(0, 48, (40, 8))}, None)
    module = workshop.source("factory", tokens, target=f"{NETS}:encoder")
    artifact = workshop.apply("pt2e_static_int8", module, tokens)
    told = artifact.steps[-1].notes
    assert told[0].startswith("5 of 9 convolutions and linear operators quantized; in float: blocks.layers.0.self_attn, ")
    assert told[-1] == "1 embeddings left in float: torchao_int8_weight_only reaches them"
    assert near(outputs(module, tokens), outputs(artifact, tokens), 0.1)


def test_several_inputs_by_name_and_a_mapping_of_outputs_are_kept(workshop):
    generator = np.random.default_rng(0)
    visits = Dataset(
        {
            "visit": generator.standard_normal((40, 32), dtype=np.float32),
            "user": generator.integers(0, 200, 40),
            "item": generator.integers(0, 300, 40),
        },
        None,
    )
    module = workshop.source("factory", visits, target=f"{NETS}:recommender")
    artifact = workshop.apply("pt2e_static_int8", module, visits)
    assert artifact.steps[-1].notes[0] == "3 of 3 convolutions and linear operators quantized"
    assert artifact.outputs == module.outputs and [spec.name for spec in artifact.outputs] == ["logits", "features"]
    assert near(outputs(module, visits), outputs(artifact, visits), 0.1)


def test_a_model_of_transformers_needs_no_transformers_any_more(workshop):
    pytest.importorskip("transformers")
    ids = np.random.default_rng(0).integers(0, 60, (8, 12))
    data = Dataset({"input_ids": ids, "attention_mask": np.ones_like(ids)}, None)
    module = workshop.source("factory", data, target=f"{NETS}:bert")
    artifact = workshop.apply("pt2e_static_int8", module, data)
    assert artifact.steps[-1].notes[0] == "14 of 14 convolutions and linear operators quantized"
    assert near(outputs(module, data), outputs(artifact, data), 0.1)
    assert b"transformers.modeling_outputs" not in artifact.path.read_bytes()


def test_a_module_that_returns_a_tuple_is_quantized(workshop, images):
    module = workshop.source("factory", images, target=f"{NETS}:classifier")
    assert near(outputs(module, images), outputs(workshop.apply("pt2e_static_int8", module, images), images), 0.05)


def test_equal_modules_and_samples_give_equal_files(workshop, images, resnet, quantized):
    assert workshop.apply("pt2e_static_int8", resnet, images).sha256 == quantized.sha256 != resnet.sha256


def test_a_module_whose_graph_depends_on_values_is_refused_with_the_reason(workshop, images):
    module = workshop.source("factory", images, target=f"{NETS}:undecided")
    with pytest.raises(CannotMeasure, match=r"torch\.export cannot export this module: ") as raised:
        workshop.apply("pt2e_static_int8", module, images)
    assert "its forward must not depend on the values of tensors" in str(raised.value)


def test_a_module_with_nothing_to_quantize_is_refused_with_what_it_has(workshop, rows):
    module = workshop.source("factory", rows, target="twins/left/net.py:build")
    with pytest.raises(CannotMeasure, match="no Conv2d or Linear layer to quantize") as raised:
        workshop.apply("pt2e_static_int8", module, rows)
    assert "it has Constant" in str(raised.value)


def test_what_is_quantized_already_is_refused(workshop, images, resnet):
    once = workshop.apply("torchao_int8_dynamic", resnet, images)
    with pytest.raises(CannotMeasure, match=r"already quantized \(layer 'head'\)"):
        workshop.apply("pt2e_static_int8", once, images)


def test_excluding_everything_is_refused(workshop, images, resnet):
    with pytest.raises(CannotMeasure, match="quantized nothing in this graph") as raised:
        workshop.apply("pt2e_static_int8", resnet, images, exclude=("stem", "blocks", "head"))
    assert "its layers are stem, blocks.0.first" in str(raised.value)


def test_a_name_to_exclude_that_fits_no_layer_is_refused_with_the_nearest_one(workshop, images, resnet):
    with pytest.raises(BadInput, match=r"excludes 'blocks\.0\.frist'") as raised:
        workshop.apply("pt2e_static_int8", resnet, images, exclude=("blocks.0.frist",))
    assert "did you mean 'blocks.0.first'?" in str(raised.value)


def test_calibration_samples_that_do_not_fit_the_model_are_refused_with_the_reason(workshop, images, rows, resnet):
    with pytest.raises(CannotMeasure, match="the calibration samples do not fit this model: "):
        workshop.apply("pt2e_static_int8", resnet, images, calibration=rows)


def test_calibration_samples_with_nan_are_refused(workshop, images, resnet):
    broken = Dataset({"x": np.full_like(images.inputs["x"], np.nan)}, None)
    with pytest.raises(CannotMeasure):
        workshop.apply("pt2e_static_int8", resnet, images, calibration=broken)


@pytest.mark.slow
def test_torchs_compiler_makes_int8_kernels_of_it_with_freezing(quantized, images):
    import torch._inductor.config as settings
    from torch._inductor.utils import run_and_get_code

    from harness.formats import exported_program
    from harness.formats.torchao_tensors import quiet

    x = torch.from_numpy(images.inputs["x"][:8])
    with settings.patch(freezing=True), torch.no_grad(), quiet():
        _, code = run_and_get_code(torch.compile(exported_program.load(quantized)), x)
    text = "\n".join(code)
    assert len(re.findall(r"torch\.ops\.onednn\.qconv\w*\.\w+\(", text)) == 5
    assert "torch.ops.onednn.qlinear_pointwise" in text


def test_layers_that_are_called_more_than_once_are_quantized_in_every_call(workshop, images):
    module = workshop.source("factory", images, target="shared_layers.py:shared")
    made = workshop.apply("pt2e_static_int8", module, images)
    assert made.steps[-1].notes[0] == "4 of 4 convolutions and linear operators quantized"
    assert near(outputs(module, images), outputs(made, images), 0.1)


def test_a_layer_that_is_called_more_than_once_stays_in_float_in_every_call_where_it_is_excluded(workshop, images):
    module = workshop.source("factory", images, target="shared_layers.py:shared")
    made = workshop.apply("pt2e_static_int8", module, images, exclude=["body"])
    assert made.steps[-1].notes[0] == "2 of 4 convolutions and linear operators quantized; in float: body, body (2)"
