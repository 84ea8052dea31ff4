import pytest

from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")

from harness.formats.layers import layer_differences  # noqa: E402


def differences(before, after, data, size=4):
    return {one.name: one.relative for one in layer_differences(before, after, data, size)}


def test_pruning_one_layer_shows_in_that_layer_alone(shop, mlp, rows):
    every = {name for name, part in _module(mlp).named_modules() if isinstance(part, torch.nn.Linear)}
    kept = sorted(every)[1:]
    pruned = shop.apply("prune_magnitude", mlp, rows, amount=0.9, exclude=kept)
    found = differences(mlp, pruned, rows)
    assert found.pop(sorted(every)[0]) > 0.3
    assert {name: found[name] for name in kept} == dict.fromkeys(kept, 0.0)


@pytest.fixture(scope="module")
def outlier(shop, rows):
    return shop.source("factory", rows, target="layer_nets.py:outlier")


@pytest.fixture(scope="module")
def onnx_outlier(outlier, tmp_path_factory):
    """The same network as a graph, made by hand: an export takes seconds."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from harness.formats import onnx_model

    nodes, weights, taken = [], [], "x"
    for name, layer in _module(outlier).named_children():
        weights += [onnx.numpy_helper.from_array(value.detach().numpy(), f"{name}.{key}") for key, value in layer.named_parameters()]
        nodes.append(onnx.helper.make_node("Gemm", [taken, f"{name}.weight", f"{name}.bias"], [f"{name}_out"], name=name, transB=1))
        if name != "last":
            nodes.append(onnx.helper.make_node("Relu", [f"{name}_out"], [f"{name}_act"], name=f"{name}_relu"))
        taken = f"{name}_act"
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", onnx.TensorProto.FLOAT, ["batch", 32])], [value("last_out", onnx.TensorProto.FLOAT, ["batch", 10])]
    graph = onnx.helper.make_graph(nodes, "outlier", *ends, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return onnx_model.save(model, tmp_path_factory.mktemp("outlier"), ())


def test_dynamic_int8_of_torch_hurts_most_the_layer_with_an_outlier_channel(shop, outlier, rows):
    quantized = shop.apply("torch_dynamic_int8", outlier, rows)
    found = differences(outlier, quantized, rows)
    assert next(iter(found)) == "third"
    assert found["third"] > 0.7  # of 48 channels one is left, and the biases of the others
    assert 0 < found["first"] < 0.1


@pytest.mark.parametrize("plugin", ["quantize_static", "quantize_dynamic"])
def test_the_layer_that_is_named_can_be_excluded_by_that_name_and_then_differs_no_more(shop, onnx_outlier, rows, plugin):
    quantized = shop.apply(plugin, onnx_outlier, rows, per_channel=False)
    worst, *_ = layer_differences(onnx_outlier, quantized, rows, 4)
    assert (worst.name, worst.kind) == ("third", "Gemm")
    assert worst.relative > 0.7
    again = shop.apply(plugin, onnx_outlier, rows, per_channel=False, exclude=[worst.name])
    assert differences(onnx_outlier, again, rows).get("third", 0.0) < 0.05


@pytest.mark.slow
def test_a_convolution_that_took_in_its_batch_norm_and_its_relu_is_compared_with_what_came_behind_them(shop, onnx_cnn, images):
    quantized = shop.apply("quantize_static", onnx_cnn, images, reduce_range=True)
    found = differences(onnx_cnn, quantized, images)
    assert len(found) == 3
    assert all(0 < value < 0.1 for value in found.values())


@pytest.mark.slow
def test_half_precision_is_compared_in_a_graph_and_in_a_module(shop, cnn, onnx_cnn, images):
    pytest.importorskip("onnxruntime")
    for before, plugin in ((cnn, "bfloat16"), (onnx_cnn, "onnx_float16")):
        found = differences(before, shop.apply(plugin, before, images), images)
        assert len(found) >= 3
        assert all(0 < value < 0.02 for value in found.values())


@pytest.mark.slow
def test_a_program_with_integer_weights_is_compared_with_the_module_that_it_was_exported_from(shop, images):
    pytest.importorskip("torchao")
    resnet = shop.source("factory", images, target="torchao_nets.py:resnet")
    found = differences(resnet, shop.apply("pt2e_static_int8", resnet, images, reduce_range=True), images)
    assert {"stem", "head", "blocks.0.first", "blocks.1.second"} <= set(found)
    assert all(0 < value < 0.1 for value in found.values())  # its batch norms are folded into the convolutions in front of them


def test_what_has_no_layer_left_to_compare_says_so(outlier, onnx_outlier, rows):
    with pytest.raises(CannotMeasure, match=r"layers of 'torch_module' and 'onnx' are not compared"):
        layer_differences(outlier, onnx_outlier, rows, 4)


def test_layers_are_compared_on_few_samples_and_on_batches_as_large_as_a_fixed_axis(shop, mlp, rows, monkeypatch):
    from harness.formats import torch_layers

    seen = []
    monkeypatch.setattr(torch_layers.torch_module, "call", lambda module, inputs: seen.append(len(inputs["x"])))
    with pytest.raises(CannotMeasure, match="no layer"):
        layer_differences(mlp, mlp, rows, 64)
    assert seen == [4, 4, 4, 4]


def _module(artifact):
    from harness.formats import torch_module

    return torch_module.load(artifact)
