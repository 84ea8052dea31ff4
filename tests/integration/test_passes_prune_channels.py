import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
from fakes.lessons import accuracy, digits, same, state, taught  # noqa: E402 - needs torch


def drawn(*shape):
    return Dataset({"x": np.random.default_rng(0).standard_normal((12, *shape), dtype=np.float32)}, None)


@pytest.fixture(scope="session")
def eights():
    return drawn(1, 8, 8)


@pytest.fixture(scope="session")
def net(shop, eights):
    return shop.source("factory", eights, target="digits_nets.py:untrained")


def parameters(artifact):
    norms = ("running_mean", "running_var", "num_batches_tracked")
    return sum(value.numel() for name, value in state(artifact).items() if not name.endswith(norms))


def test_residuals_groups_and_joined_branches_become_narrower_together(shop, net, eights):
    pruned = shop.apply("prune_channels", net, eights, ratio=0.5)
    shapes = {name: tuple(value.shape) for name, value in state(pruned).items() if value.ndim > 1}
    assert shapes == {
        "stem.weight": (8, 1, 3, 3),
        **{f"blocks.{index}.narrow.weight": (8, 8, 1, 1) for index in (0, 2)},
        **{f"blocks.{index}.mix.weight": (8, 4, 3, 3) for index in (0, 2)},
        **{f"blocks.{index}.{side}.weight": (4, 8, 3, 3) for index in (0, 2) for side in ("left", "right")},
        "hidden.weight": (32, 8 * 16),
        "head.weight": (10, 32),
    }
    assert (pruned.inputs, pruned.outputs) == (net.inputs, net.outputs)
    assert pruned.size_bytes < 0.5 * net.size_bytes


def test_notes_tell_parameters_work_and_layers_in_numbers_that_are_so(shop, net, eights):
    notes = shop.apply("prune_channels", net, eights, ratio=0.5).steps[-1].notes
    pruned = shop.apply("prune_channels", net, eights, ratio=0.5)
    before, after = parameters(net), parameters(pruned)
    assert notes[0] == f"{before:,} parameters before, {after:,} after ({(before - after) / before:.1%} fewer)"
    places = 64 + 16  # of the two blocks' feature maps
    full = 16 * 9 * 64 + (16 * 16 + 16 * 8 * 9 + 16 * 16 * 9) * places + 256 * 64 + 64 * 10
    half = 8 * 9 * 64 + (8 * 8 + 8 * 4 * 9 + 8 * 8 * 9) * places + 128 * 32 + 32 * 10
    assert notes[1] == f"{full:,} multiplications a sample in convolutions and linear layers before, {half:,} after"
    assert notes[2].startswith("10 of 11 layers give fewer channels: 'stem' 16 to 8, ") and notes[2].endswith(", ...")


def test_what_is_left_computes_with_the_channels_that_were_kept(shop, images, cnn):
    """Where the next layer ignores the channels that go, nothing of the answers may change."""
    with shop.open("torch", cnn) as session:
        module = session.module
    x = torch.from_numpy(images.inputs["x"])
    pruned = state(shop.apply("prune_channels", cnn, images, ratio=0.25, importance="l1", exclude=("second",)))
    original = state(cnn)
    order = original["first.weight"].abs().sum(dim=(1, 2, 3)).argsort()
    kept = sorted(order[4:].tolist())
    assert torch.equal(pruned["first.weight"], original["first.weight"][kept])
    assert torch.equal(pruned["second.weight"], original["second.weight"][:, kept])
    assert torch.equal(pruned["head.weight"], original["head.weight"])
    assert module(x).shape == (40, 10)


def test_importances_choose_by_what_they_say(shop, images, cnn):
    original = state(cnn)["first.weight"]
    for importance, power in (("l1", 1), ("l2", 2)):
        pruned = state(shop.apply("prune_channels", cnn, images, ratio=0.5, importance=importance, exclude=("second",)))
        kept = sorted(original.abs().pow(power).sum(dim=(1, 2, 3)).argsort()[8:].tolist())
        assert torch.equal(pruned["first.weight"], original[kept])
    group = original.pow(2).sum(dim=(1, 2, 3)) + state(cnn)["second.weight"].pow(2).sum(dim=(0, 2, 3))
    pruned = state(shop.apply("prune_channels", cnn, images, ratio=0.5, exclude=("second",)))
    assert torch.equal(pruned["first.weight"], original[sorted(group.argsort()[8:].tolist())])


def test_global_ranking_takes_from_where_there_is_least_and_keeps_to_the_share(shop):
    data = drawn(1, 8, 8)
    module = shop.source("factory", data, target="digits_nets.py:spread")
    layer, everywhere = (state(shop.apply("prune_channels", module, data, ratio=0.25, scope=scope)) for scope in ("layer", "global"))
    assert [len(layer[f"{name}.weight"]) for name in ("even", "uneven")] == [12, 12]
    assert [len(everywhere[f"{name}.weight"]) for name in ("even", "uneven")] == [16, 8]


@pytest.mark.parametrize(("multiple", "left"), [(4, 8), (8, 8), (None, 11)])
def test_channels_are_rounded_down_to_a_multiple(shop, images, cnn, multiple, left):
    pruned = state(shop.apply("prune_channels", cnn, images, ratio=0.3, round_to=multiple))
    assert [len(pruned[f"{name}.weight"]) for name in ("first", "second", "head")] == [left, left, 10]


@pytest.mark.parametrize(("target", "head"), [("resnet", "classifier.1.weight"), ("efficientnet", "classifier.weight")])
def test_nets_of_transformers_keep_their_head_and_run_in_a_fresh_process(shop, target, head):
    data = drawn(1, 32, 32)
    module = shop.source("factory", data, target=f"digits_nets.py:{target}")
    pruned = shop.apply("prune_channels", module, data, ratio=0.5)
    assert len(state(pruned)[head]) == 10 and parameters(pruned) < 0.5 * parameters(module)
    answers = shop.answers_elsewhere("torch", pruned, data)
    assert answers.shape == (12, 10) and np.isfinite(answers).all()
    np.testing.assert_array_equal(answers[:4], shop.answers("torch", pruned, data)[0])


def test_of_an_encoder_the_inside_of_its_attentions_is_left_whole(shop):
    draw = np.random.default_rng(1)
    data = Dataset({"input_ids": draw.integers(0, 50, (8, 8)), "attention_mask": np.ones((8, 8), dtype=np.int64)}, None)
    module = shop.source("factory", data, target="digits_nets.py:bert")
    after = state(shop.apply("prune_channels", module, data, ratio=0.5))
    assert after["bert.encoder.layer.0.intermediate.dense.weight"].shape == (32, 16)
    assert after["bert.encoder.layer.0.attention.self.query.weight"].shape == (32, 16)
    assert len(after["classifier.weight"]) == 3


def test_a_recommender_keeps_its_score_and_gives_up_columns_of_its_tables_or_hidden_units(shop):
    draw = np.random.default_rng(2)
    ids = {name: draw.integers(0, 200, 20) for name in ("user", "item")}
    data = Dataset({**ids, "features": draw.standard_normal((20, 4), dtype=np.float32)}, None)
    pruned = shop.apply("prune_channels", shop.source("factory", data, target="digits_nets.py:recommender"), data, ratio=0.5)
    assert state(pruned)["deep.0.weight"].shape == (16, 36)
    assert state(pruned)["deep.2.weight"].shape == (1, 16)


def test_excluded_layers_keep_their_channels_and_frozen_parameters_stay_frozen(shop, eights):
    module = shop.source("factory", eights, target="digits_nets.py:frozen")
    pruned = shop.apply("prune_channels", module, eights, ratio=0.5, exclude=("stem",))
    shapes = {name: tuple(value.shape) for name, value in state(pruned).items()}
    assert shapes["stem.weight"] == (8, 1, 3, 3) and shapes["blocks.0.left.weight"] == (4, 4, 3, 3) and shapes["hidden.weight"] == (32, 128)
    with shop.open("torch", pruned) as session:
        assert not any(parameter.requires_grad for parameter in session.module.parameters())


def test_the_same_module_gives_the_same_tensors_and_random_draws_go_on(shop, net, eights):
    torch.manual_seed(9)
    first = shop.apply("prune_channels", net, eights)
    drew = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(drew, torch.rand(1))
    assert same(first, shop.apply("prune_channels", net, eights))


def test_a_module_whose_features_are_its_output_has_nothing_to_give(shop):
    data = drawn(1, 8, 8)
    module = shop.source("factory", data, target="digits_nets.py:wide")
    with pytest.raises(CannotMeasure, match="'prune_channels' removed no channel"):
        shop.apply("prune_channels", module, data, ratio=0.5)


@pytest.mark.parametrize("target", ["from_inside", "groups_in_branches"])
def test_what_the_library_cannot_cut_consistently_is_refused_with_the_reason(shop, target):
    data = drawn(1, 8, 8)
    module = shop.source("factory", data, target=f"digits_nets.py:{target}")
    with pytest.raises(CannotMeasure, match="torch-pruning cannot take channels out of this module: ") as raised:
        shop.apply("prune_channels", module, data, ratio=0.25)
    assert "name the layers in 'exclude' whose widths the model's code counts on" in str(raised.value)


def test_unknown_names_and_quantized_layers_are_refused(shop, eights, net, mlp, rows):
    with pytest.raises(BadInput, match=r"did you mean 'blocks\.0'\?"):
        shop.apply("prune_channels", net, eights, exclude=("block.0",))
    with pytest.raises(CannotMeasure, match="layer 'hidden' is quantized, and 'prune_channels' works on float weights"):
        shop.apply("prune_channels", shop.apply("torch_dynamic_int8", mlp, rows), rows)


def test_pruned_then_trained_then_exported_then_quantized_digits_are_still_read(shop):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("sklearn")
    training, testing = (digits(shop.root, part) for part in ("learning_set", "testing_set"))
    whole = shop.source("factory", testing, target="digits_nets.py:trained")
    pruned = shop.apply("prune_channels", whole, testing, ratio=0.4)
    tuned = taught(shop, "finetune", pruned, testing, training, epochs=3, learning_rate=2e-3)
    graph = shop.apply("export_onnx", tuned, testing)
    int8 = shop.apply("quantize_static", graph, testing, calibration=Dataset({"x": training.inputs["x"][:128]}, None))
    assert [step.plugin for step in int8.steps] == ["factory", "prune_channels", "finetune", "export_onnx", "quantize_static"]
    right = {name: accuracy(shop, artifact, testing) for name, artifact in (("whole", whole), ("pruned", pruned), ("tuned", tuned))}
    assert right["whole"] > 0.9 and right["tuned"] > 0.85 and right["pruned"] < right["tuned"] - 0.05
    assert accuracy(shop, int8, testing, "onnxruntime") > right["tuned"] - 0.06
    assert tuned.size_bytes < 0.6 * whole.size_bytes
    assert int8.steps[-1].notes[0] == "11 of 11 Conv, Gemm and MatMul nodes quantized"
