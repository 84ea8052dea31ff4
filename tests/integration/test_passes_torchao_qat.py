from pathlib import Path

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")
pytest.importorskip("sklearn")
from fakes.lessons import accuracy, digits, taught  # noqa: E402 - needs torch

PROJECT = Path(__file__).parent / "project"
NETS = "torchao_nets.py"
INT4 = {"weights": "int4", "group_size": 64, "epochs": 4, "learning_rate": 5e-3}
INT8 = {"weights": "int8", "epochs": 2, "learning_rate": 1e-3}


def opened(artifact):
    from harness.formats import torch_module

    return torch_module.load(artifact)


def weights(artifact):
    from harness.formats.torchao_tensors import quantized_weights

    return quantized_weights(opened(artifact))


@pytest.fixture(scope="module")
def testing():
    return digits(PROJECT, "testing_set")


@pytest.fixture(scope="module")
def training():
    return digits(PROJECT, "learning_set", 1024)


@pytest.fixture(scope="module")
def net(shop, testing, training):
    """Linear layers that have learned, with weights of a hundred times the others' size on what is always the same."""
    plain = shop.source("factory", testing, target=f"{NETS}:digits_mlp", args={"outliers": 100.0})
    return taught(shop, "finetune", plain, testing, training, epochs=8, learning_rate=2e-3)


@pytest.fixture(scope="module")
def int4(shop, net, testing, training):
    return taught(shop, "torchao_qat", net, testing, training, **INT4)


@pytest.fixture(scope="module")
def int8(shop, net, testing, training):
    return taught(shop, "torchao_qat", net, testing, training, **INT8)


def test_int4_weights_take_two_to_a_byte_as_those_that_were_not_trained(shop, net, int4, testing):
    from harness.formats.int4_weight import Int4Weight
    from harness.formats.torchao_tensors import bytes_of, width_of

    alone = shop.apply("torchao_int4_weight_only", net, testing, group_size=64)
    assert weights(int4).keys() == weights(alone).keys() == {"1.weight", "3.weight", "5.weight"}
    for weight, other in zip(weights(int4).values(), weights(alone).values(), strict=True):
        assert type(weight) is Int4Weight and width_of(weight) == 4 and weight.qdata.dtype is torch.uint8
        assert bytes_of(weight) == bytes_of(other) and not torch.equal(weight.qdata, other.qdata)
    assert int4.size_bytes == pytest.approx(alone.size_bytes, rel=0.01) and int4.size_bytes < 0.25 * net.size_bytes


def test_int8_weights_are_of_the_kind_that_rounds_activations_in_every_call(shop, net, int8, testing):
    from harness.formats.torchao_tensors import width_of

    alone = weights(shop.apply("torchao_int8_dynamic", net, testing))
    assert weights(int8).keys() == alone.keys()
    for name, weight in weights(int8).items():
        assert width_of(weight) == 8 and weight.qdata.dtype is torch.int8
        assert weight.act_quant_kwargs == alone[name].act_quant_kwargs is not None
        assert not torch.equal(weight.qdata, alone[name].qdata)


def test_training_wins_back_what_int4_costs(shop, net, int4, testing):
    alone = shop.apply("torchao_int4_weight_only", net, testing, group_size=64)
    whole, lost, won = (accuracy(shop, one, testing) for one in (net, alone, int4))
    assert whole > 0.8 and lost < 0.3  # else there would be nothing to win
    assert won > whole - 0.1


def test_the_notes_tell_what_was_quantized_and_how_it_was_trained(int4, int8):
    share, sizes, kind, _, loss, steps, held_out = int4.steps[-1].notes
    assert share == "3 of 3 Linear layers quantized"
    assert sizes == "their weights: 106,496 bytes before, 16,640 after"
    assert kind.startswith("int4 weights, a scale and a zero point for each 64 of a row")
    assert (loss, steps) == ("loss: cross_entropy", "112 steps of 32 samples (4 epochs of 922), adamw")
    assert held_out.startswith("held-out loss ")
    assert int8.steps[-1].notes[2].startswith("int8 weights, a scale for each row; int8 activations, symmetric")


@pytest.mark.parametrize(
    ("dtype", "kind", "options"),
    [
        ("float32", "torchao_int4_weight_only", {"group_size": 32}),
        ("bfloat16", "torchao_int4_weight_only", {"group_size": 64}),
        ("float32", "torchao_int8_dynamic", {}),
        ("bfloat16", "torchao_int8_dynamic", {}),
        ("float32", "torchao_int8_dynamic", {"activations": "asymmetric"}),
        ("float32", "torchao_int8_dynamic", {"reduce_range": True}),
    ],
)
def test_in_training_a_layer_computes_what_it_will_when_it_is_quantized(workshop, testing, dtype, kind, options):
    from harness import plugins
    from harness.passes import _torchao_training

    plain = workshop.source("factory", testing, target=f"{NETS}:digits_mlp", args={"outliers": 3.0, "dtype": dtype})
    x = torch.from_numpy(testing.inputs["x"][:50]).to(getattr(torch, dtype))
    rows = _torchao_training.int8_rows(7 if options.get("reduce_range") else 8)
    tokens = _torchao_training.int8_tokens(8) if options.get("activations") else rows
    given = (rows, tokens) if kind == "torchao_int8_dynamic" else (_torchao_training.int4_groups(options["group_size"]), None)
    seen = []

    def train(module, layers):
        with torch.no_grad(), _torchao_training.rounded(layers, *given, wide=given[1] is None):
            seen.append(module(x).float().numpy())
        return ()

    context = workshop.context(testing)
    quantized = opened(plugins.load("passes", kind)(**options).quantize("torchao_qat", plain, context, "{}", train))
    with torch.no_grad():
        expected, whole = quantized(x).float().numpy(), opened(plain)(x).float().numpy()
    np.testing.assert_allclose(seen[0], expected, atol={"float32": 1e-5, "bfloat16": 0.02}[dtype] * np.abs(whole).max())
    assert np.abs(whole - expected).max() > 0.002 * np.abs(whole).max()


def test_layers_are_their_own_again_after_training(net):
    from harness.passes import _torchao_training

    module = opened(net)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    kinds = [type(part) for part in module.modules()]
    rows = _torchao_training.int8_rows(8)
    with _torchao_training.rounded([module[1], module[3]], rows, rows, wide=False):
        assert [type(part) for part in module.modules()] != kinds and not torch.backends.mha.get_fastpath_enabled()
    assert [type(part) for part in module.modules()] == kinds and torch.backends.mha.get_fastpath_enabled()
    assert not any(part._forward_pre_hooks for part in module.modules())
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.slow
def test_one_seed_gives_one_file_another_seed_another_and_torch_is_left_as_it_was(shop, net, int8, testing, training):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    assert taught(shop, "torchao_qat", net, testing, training, **INT8).sha256 == int8.sha256
    assert torch.equal(torch.rand(3), expected)
    assert taught(shop, "torchao_qat", net, testing, training, seed=1, **INT8).sha256 != int8.sha256


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_answers(shop, int4, testing):
    few = Dataset({"x": testing.inputs["x"][:40]}, None)
    (here,) = shop.answers("torch", int4, few, size=40)
    np.testing.assert_allclose(shop.answers_elsewhere("torch", int4, few, batch_size=40), here, atol=1e-4)


@pytest.mark.slow
def test_a_model_in_bfloat16_learns_in_float32_and_stays_what_it_was(shop, net, testing, training):
    half = shop.apply("bfloat16", net, testing)
    artifact = taught(shop, "torchao_qat", half, testing, training, **INT4)
    assert {weight.scale_and_zero.dtype for weight in weights(artifact).values()} == {torch.bfloat16}
    assert {value.dtype for name, value in opened(artifact).named_parameters() if name.endswith("bias")} == {torch.bfloat16}
    assert accuracy(shop, artifact, testing) > accuracy(shop, half, testing) - 0.1
    assert not [note for note in artifact.steps[-1].notes if "bfloat16" in note]


@pytest.mark.slow
def test_an_encoder_learns_with_its_attention_and_says_what_was_not_rounded(shop):
    ids = np.random.default_rng(0).integers(0, 48, (96, 8))
    tokens = Dataset({"ids": ids}, (ids[:, 0] % 16).astype(np.int64))
    module = shop.source("factory", tokens, target=f"{NETS}:encoder")
    artifact = taught(shop, "torchao_qat", module, tokens, tokens, epochs=2, learning_rate=1e-3, held_out=0)
    notes = artifact.steps[-1].notes
    assert notes[0] == "7 of 7 Linear layers quantized"
    assert "2 output projections of attention learned with rounded weights and whole activations" in notes
    assert "96 of 96 evaluation samples are in the training data: the model may know them by heart" in notes
    (expected,), (got,) = (shop.answers("torch", one, tokens, size=96) for one in (module, artifact))
    assert np.abs(got - expected).max() > 0
    np.testing.assert_array_equal(shop.answers("torch", artifact, tokens, size=96)[0], got)


@pytest.mark.slow
def test_a_model_that_is_one_layer_is_trained_too(workshop, rows):
    labelled = Dataset(rows.inputs, rows.inputs["x"][:, :16].argmax(axis=1))
    module = workshop.source("factory", labelled, target=f"{NETS}:plain")
    artifact = taught(workshop, "torchao_qat", module, labelled, labelled, epochs=2, batch_size=8, learning_rate=1e-2, held_out=0)
    assert weights(artifact).keys() == {"weight"}


@pytest.mark.slow
def test_what_was_pruned_stays_zero(shop, net, testing, training):
    pruned = shop.apply("prune_magnitude", net, testing)
    artifact = taught(shop, "torchao_qat", pruned, testing, training, **INT8)
    floats = {name: value for name, value in opened(pruned).named_parameters() if value.dim() == 2}
    assert sum(int((value == 0).sum()) for value in floats.values()) > 1000
    for name, value in weights(artifact).items():
        assert (value.qdata[floats[name] == 0] == 0).all()


def test_layers_that_are_excluded_stay_in_float(shop, net, testing, training):
    artifact = taught(shop, "torchao_qat", net, testing, training, exclude=("5",), steps=4, held_out=0)
    assert artifact.steps[-1].notes[0] == "2 of 3 Linear layers quantized; in float: 5 (excluded)"
    with pytest.raises(BadInput, match="'torchao_qat' excludes 'head', which is none of the layers that it quantizes"):
        taught(shop, "torchao_qat", net, testing, training, exclude=("head",))


def test_training_data_without_targets_are_refused_with_the_pass_that_needs_none(shop, net, testing):
    blind = Dataset(testing.inputs, None)
    for kind, alone in (("int8", "torchao_int8_dynamic"), ("int4", "torchao_int4_weight_only")):
        with pytest.raises(CannotMeasure, match=r"data.training has no targets") as raised:
            taught(shop, "torchao_qat", net, testing, blind, weights=kind)
        assert f"use {alone}" in str(raised.value)


def test_what_cannot_be_quantized_is_refused_before_anything_is_trained(shop, workshop, int8, testing, training, images):
    with pytest.raises(CannotMeasure, match=r"this module is already quantized \(layer '1'\)"):
        taught(shop, "torchao_qat", int8, testing, training)
    nothing = workshop.source("factory", images, target="openvino_nets.py:without_weights")
    with pytest.raises(CannotMeasure, match="no Linear layer to quantize in this module"):
        taught(workshop, "torchao_qat", nothing, images, images)


def test_an_option_of_the_other_kind_of_weights_is_refused():
    from harness import plugins

    make = plugins.load("passes", "torchao_qat").model_validate
    with pytest.raises(ValueError, match="'group_size' is an option of int4 weights, and 'weights' is int8"):
        make({"group_size": 32})
    with pytest.raises(ValueError, match="'reduce_range' is an option of int8 weights, and 'weights' is int4"):
        make({"weights": "int4", "reduce_range": True})
