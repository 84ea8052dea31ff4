from pathlib import Path

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")
pytest.importorskip("sklearn")
from fakes.lessons import digits, taught  # noqa: E402 - needs torch

PROJECT = Path(__file__).parent / "project"
QUICK = {"epochs": 4, "learning_rate": 2e-3}


def opened(artifact):
    from harness.formats import exported_program, torch_module

    return (exported_program if artifact.format == "exported_program" else torch_module).load(artifact)


def program(artifact):
    from harness.formats import exported_program

    return exported_program.read(artifact)


def outputs(artifact, data):
    from harness.formats import torch_module

    tensors = {name: torch.from_numpy(values) for name, values in data.inputs.items()}
    return next(iter(torch_module.call(opened(artifact), tensors).values())).numpy()


def accuracy(artifact, data):
    return float((outputs(artifact, data).argmax(axis=1) == data.targets).mean())


@pytest.fixture(scope="module")
def testing():
    return digits(PROJECT, "testing_set")


@pytest.fixture(scope="module")
def training():
    return digits(PROJECT, "learning_set", 512)


@pytest.fixture(scope="module")
def net(shop, testing):
    """Convolutions with groups, added to what went in, that have never learned anything."""
    return shop.source("factory", testing, target="torchao_nets.py:digits_plain")


@pytest.fixture(scope="module")
def half(shop, net, testing, training):
    """What has learned for one epoch."""
    return taught(shop, "finetune", net, testing, training, epochs=1, learning_rate=2e-3)


@pytest.fixture(scope="module")
def quantized(shop, half, testing, training):
    return taught(shop, "qat", half, testing, training, **QUICK)


def test_the_trained_graph_computes_in_int8(quantized):
    held = program(quantized)
    names = [str(node.target) for node in held.graph.nodes if node.op == "call_function"]
    assert not [name for name in names if "fake_quant" in name or "observer" in name]
    assert sum(value.dtype is torch.int8 for value in held.state_dict.values()) == 4
    assert max(value.dim() for value in held.state_dict.values() if value.dtype is torch.float32) == 1
    notes = quantized.steps[-1].notes
    assert notes[0] == "4 of 4 convolutions and linear operators quantized"
    assert notes[2] == "loss: cross_entropy"
    assert notes[3] == f"{4 * (461 // 32)} steps of 32 samples (4 epochs of 461), adamw"
    assert notes[4].startswith("held-out loss ")


def test_a_net_goes_on_learning_while_it_is_rounded(shop, half, quantized, testing):
    alone = shop.apply("pt2e_static_int8", half, testing)
    assert accuracy(quantized, testing) > accuracy(alone, testing) + 0.2


def test_weights_are_not_those_of_rounding_alone(shop, half, quantized, testing):
    alone = shop.apply("pt2e_static_int8", half, testing)
    first, second = ([value for value in program(one).state_dict.values() if value.dtype is torch.int8] for one in (alone, quantized))
    assert sorted(tuple(value.shape) for value in first) == sorted(tuple(value.shape) for value in second)
    assert not any(torch.equal(one, other) for one in first for other in second)


def test_one_seed_gives_one_file_another_seed_another_and_torch_is_left_as_it_was(shop, half, testing, training, quantized):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    assert taught(shop, "qat", half, testing, training, **QUICK).sha256 == quantized.sha256
    assert torch.equal(torch.rand(3), expected)
    assert taught(shop, "qat", half, testing, training, seed=1, **QUICK).sha256 != quantized.sha256


def test_ranges_are_learned_from_what_is_trained_on_and_in_training_alone(shop, half, testing, training):
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    from harness.formats import exported_program, torch_module
    from harness.formats.torchao_tensors import quiet
    from harness.passes import _pt2e

    module = torch_module.load(half)
    wanted = _pt2e.quantizer("qat", module, (), reduce_range=False, training=True)
    with quiet():
        graph = prepare_qat_pt2e(exported_program.capture(module.train(), testing).module(), wanted)
    _pt2e.follow_modes(graph)
    x = torch.from_numpy(training.inputs["x"][:8])
    widest = {}
    for mode, factor in ((True, 1), (False, 100), (True, 100)):
        graph.train(mode)(x * factor)
        widest[mode, factor] = max(float(value.max()) for name, value in graph.state_dict().items() if name.endswith("max_val"))
    assert widest[True, 1] == widest[False, 100] < widest[True, 100]


@pytest.mark.slow
def test_batch_norms_are_folded_into_the_convolutions_that_they_were_trained_behind(shop, testing, training):
    net = shop.source("factory", testing, target="torchao_nets.py:digits_resnet")
    tuned = taught(shop, "finetune", net, testing, training, epochs=6, learning_rate=5e-3)
    quantized = taught(shop, "qat", tuned, testing, training, **QUICK)
    names = [str(node.target) for node in program(quantized).graph.nodes if node.op == "call_function"]
    assert not [name for name in names if "batch_norm" in name or "add_" in name]
    assert quantized.steps[-1].notes[0] == "6 of 6 convolutions and linear operators quantized"
    assert accuracy(tuned, testing) > 0.7
    assert accuracy(quantized, testing) > accuracy(tuned, testing) - 0.03


def test_what_was_pruned_stays_zero(shop, half, testing, training):
    pruned = shop.apply("prune_magnitude", half, testing)
    quantized = taught(shop, "qat", pruned, testing, training, **QUICK)
    before = [value for value in opened(pruned).state_dict().values() if value.dim() == 4]
    after = [value for value in program(quantized).state_dict.values() if value.dtype is torch.int8 and value.dim() == 4]
    assert sum(int((value == 0).sum()) for value in before) > 100
    for floats, integers in zip(before, after, strict=True):
        assert (integers[floats == 0] == 0).all()


def test_an_encoder_draws_no_random_number_after_training(shop):
    ids = np.random.default_rng(0).integers(0, 48, (96, 8))
    tokens = Dataset({"ids": ids}, (ids[:, 0] % 16).astype(np.int64))
    module = shop.source("factory", tokens, target="torchao_nets.py:encoder")
    artifact = taught(shop, "qat", module, tokens, tokens, epochs=2, learning_rate=1e-3, held_out=0)
    notes = artifact.steps[-1].notes
    assert notes[0].startswith("5 of 9 convolutions and linear operators quantized; in float: blocks.layers.0.self_attn, ")
    assert "dropout inside 2 fused attentions was off in training" in notes
    assert "96 of 96 evaluation samples are in the training data: the model may know them by heart" in notes
    np.testing.assert_array_equal(outputs(artifact, tokens), outputs(artifact, tokens))
    assert 0 < np.abs(outputs(artifact, tokens) - outputs(module, tokens)).max() < np.abs(outputs(module, tokens)).max()


def test_a_layer_that_stays_random_is_refused_before_anything_is_trained(shop, testing, training):
    module = shop.source("factory", testing, target="torchao_nets.py:digits_with_noise")
    with pytest.raises(CannotMeasure, match=r"'aten.rrelu.*' stays in training mode in this graph"):
        taught(shop, "qat", module, testing, training)


def test_layers_that_are_excluded_stay_in_float(shop, half, testing, training):
    artifact = taught(shop, "qat", half, testing, training, exclude=("stem", "head"), steps=4, held_out=0)
    assert artifact.steps[-1].notes[0] == "2 of 4 convolutions and linear operators quantized; in float: stem, head"


def test_training_data_without_targets_are_refused_with_the_way_out(shop, half, testing):
    blind = Dataset(testing.inputs, None)
    with pytest.raises(CannotMeasure, match=r"data.training has no targets") as raised:
        taught(shop, "qat", half, testing, blind)
    assert "use pt2e_static_int8" in str(raised.value)
