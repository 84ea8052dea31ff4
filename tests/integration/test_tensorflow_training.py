from pathlib import Path

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_model_optimization")
pytest.importorskip("sklearn")
from fakes.keras_lessons import accuracy, digits, kernels, outputs, taught, tf

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
    """A network that has learned the digits."""
    return shop.source("keras", testing, target="keras_nets.py:taught")


@pytest.fixture(scope="module")
def pruned(shop, net, testing, training):
    return taught(shop, "tfmot_prune_magnitude", net, testing, training, final_sparsity=0.6)


@pytest.fixture(scope="module")
def aware(shop, net, testing, training):
    return taught(shop, "tfmot_quantize", net, testing, training, epochs=2)


def zeros(values):
    return float((values == 0).mean())


def refused(workshop, name, net, evaluation, training=None, **options):
    with pytest.raises((BadInput, CannotMeasure)) as raised:
        taught(workshop, name, net, evaluation, training or evaluation, **options)
    return str(raised.value)


def test_the_asked_share_of_every_kernel_is_zero_and_accuracy_is_won_back(shop, net, pruned, testing):
    found = kernels(pruned)
    assert {name.split("/")[0] for name in found} == {"stem", "hidden", "logits"}
    for name, values in found.items():
        assert zeros(values) == pytest.approx(0.6, abs=0.011), name
    assert max(zeros(values) for values in kernels(net).values()) < 0.01
    assert accuracy(shop, net, testing) > 0.9
    assert accuracy(shop, pruned, testing) > accuracy(shop, net, testing) - 0.05
    notes = pruned.steps[-1].notes
    assert notes[0].startswith("60.0% of ") and notes[0].endswith(" weights in 3 layers are zero")
    assert notes[2] == "by layer: " + ", ".join(f"{name.split('/')[0]} {zeros(values):.1%}" for name, values in found.items())
    assert "loss: cross_entropy on logits" in notes


def test_nothing_of_the_wrappers_stays_in_the_file(pruned, net):
    names = [type(layer).__name__ for layer in tf.keras.models.load_model(pruned.path, compile=False).layers]
    assert names == [type(layer).__name__ for layer in tf.keras.models.load_model(net.path, compile=False).layers]
    assert pruned.inputs == net.inputs and pruned.outputs == net.outputs
    assert pruned.size_bytes == net.size_bytes


def test_one_seed_gives_one_file_and_another_seed_another(shop, net, testing, training, pruned):
    options = {"final_sparsity": 0.6}
    again, other = (taught(shop, "tfmot_prune_magnitude", net, testing, training, seed=seed, **options) for seed in (0, 1))
    assert again.sha256 == pruned.sha256 != other.sha256


def test_two_of_every_four_weights_in_a_row_are_zero(shop, net, testing, training):
    artifact = taught(
        shop, "tfmot_prune_magnitude", net, testing, training, m_by_n=(2, 4), epochs=1, layers=("Dense",), exclude=("logits",)
    )
    found = kernels(artifact)
    (hidden,) = (values for name, values in found.items() if name.startswith("hidden"))
    assert ((hidden.T.reshape(hidden.shape[1], -1, 4) == 0).sum(axis=2) == 2).all()
    assert max(zeros(values) for name, values in found.items() if not name.startswith("hidden")) < 0.01


def test_a_constant_schedule_has_its_zeros_at_once_and_without_held_out_samples_the_last_weights_stay(shop, net, testing, training):
    options = {"schedule_kind": "constant", "held_out": 0, "epochs": 1, "begin_step": 2}
    artifact = taught(shop, "tfmot_prune_magnitude", net, testing, training, **options)
    assert [zeros(values) for values in kernels(artifact).values()] == pytest.approx([0.5] * 3, abs=0.01)
    assert not [note for note in artifact.steps[-1].notes if "held-out" in note]
    assert "41 steps (1 epochs of 1297 samples), adam" in artifact.steps[-1].notes


def test_whole_blocks_are_zero(shop, net, testing, training):
    options = {"block_size": (4, 2), "epochs": 2, "layers": ("Dense",)}
    artifact = taught(shop, "tfmot_prune_magnitude", net, testing, training, **options)
    (hidden,) = (values for name, values in kernels(artifact).items() if name.startswith("hidden"))
    blocks = (hidden == 0).reshape(hidden.shape[0] // 4, 4, hidden.shape[1] // 2, 2).sum(axis=(1, 3))
    assert set(np.unique(blocks)) == {0, 8}
    told = refused(shop, "tfmot_prune_magnitude", net, testing, block_size=(4, 16), layers=("Dense",))
    assert "a block of 4 x 16 fills an axis of layer 'logits', whose kernel is [32, 10]" in told and "exclude: [logits]" in told
    assert "Block Sparsity" in refused(shop, "tfmot_prune_magnitude", net, testing, block_size=(4, 2))


def test_a_layer_inside_a_model_inside_the_model_is_pruned_too(shop, rows):
    labelled = Dataset(rows.inputs, np.arange(rows.count) % 10)
    artifact = taught(shop, "tfmot_prune_magnitude", shop.source("keras", rows, target="keras_nets.py:inside"), labelled, labelled)
    assert [zeros(values) for values in kernels(artifact).values()] == pytest.approx([0.5, 0.5], abs=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"end_step": 1000}, "pruning goes from step 0 to 1000, and training has 60 steps"),
        ({"frequency": 100}, "'frequency' is 100, more than the 45 steps of the schedule"),
        ({"exclude": ("hiden",)}, "excludes the layer 'hiden', which is not in this model\n  did you mean 'hidden'?"),
        ({"layers": ("Embedding",)}, "no Embedding layer to prune in this model\n  it has BatchNormalization"),
        ({"learning_rate": 1e30, "optimizer": "sgd"}, "the loss is "),
        ({"loss": "mse"}, "'mse' does not fit them"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_file_is_written(shop, net, testing, options, said):
    assert said in refused(shop, "tfmot_prune_magnitude", net, testing, **options)


def test_targets_that_do_not_fit_are_refused(shop, net, testing):
    blind, beyond = Dataset(testing.inputs, None), Dataset(testing.inputs, testing.targets + 3)
    assert "data.training has no targets" in refused(shop, "tfmot_quantize", net, testing, blind)
    assert "the targets are classes 3 to 12, and the model has 10 outputs" in refused(shop, "tfmot_quantize", net, testing, beyond)


def test_one_hot_targets_and_probabilities_are_known_for_what_they_are(shop, net, testing):
    hot = Dataset(testing.inputs, np.eye(10, dtype=np.float32)[testing.targets])
    first = taught(shop, "tfmot_prune_magnitude", net, testing, hot, epochs=2)
    same = taught(shop, "tfmot_prune_magnitude", net, testing, testing, epochs=2)
    for name, values in kernels(first).items():
        np.testing.assert_allclose(values, kernels(same)[name], atol=1e-3)


def test_models_that_tfmot_cannot_work_on_are_refused_with_the_way_out(shop, rows, net, aware, testing):
    labelled = Dataset(rows.inputs, np.arange(rows.count) % 4)
    cases = {
        "keras_3": "works on Keras 2, and this is a model of Keras 3\n  make it with tf.keras",
        "subclassed": "'Subclassed' is a subclass of Model",
    }
    for target, said in cases.items():
        made = shop.source("keras", rows, target=f"keras_nets.py:{target}")
        for name in ("tfmot_quantize", "tfmot_prune_magnitude"):
            assert said in refused(shop, name, made, labelled)
    for name in ("tfmot_quantize", "tfmot_prune_magnitude"):
        assert "in training for int8 already" in refused(shop, name, aware, testing)


def test_layers_without_a_quantizer_are_named(shop, rows):
    labelled = Dataset(rows.inputs, np.arange(rows.count) % 4)
    sequences = Dataset({"x": np.repeat(rows.inputs["x"][:, None], 5, axis=1)}, labelled.targets)
    cases = {
        ("own_layers", "first"): "no quantizer for the activation 'softly' of layer 'first'",
        ("memory", "memory"): "no quantizer for layer 'memory', a LSTM",
        ("inside", "inner"): "layer 'inner' is a model inside the model",
    }
    for (target, layer), said in cases.items():
        data = sequences if target == "memory" else labelled
        told = refused(shop, "tfmot_quantize", shop.source("keras", data, target=f"keras_nets.py:{target}"), data)
        assert said in told
        assert target == "inside" or f"exclude: [{layer}]" in told


def test_a_model_in_training_for_int8_rounds_and_goes_on_learning(shop, net, aware, testing):
    assert aware.main == "model.h5" and aware.outputs == net.outputs
    notes = aware.steps[-1].notes
    assert notes[:2] == ("3 of 3 layers with weights round them as int8", "3 ranges of activations start from 128 training samples")
    with shop.open("tensorflow", aware) as session:
        assert any(detail.endswith("FakeQuant: int8 is acted out in float") for detail in session.facts.details)
    assert accuracy(shop, aware, testing) > accuracy(shop, net, testing) - 0.02
    assert np.abs(outputs(shop, aware, testing) - outputs(shop, net, testing)).max() > 0


def test_ranges_start_from_what_the_model_gives_and_nothing_else_has_changed_by_then(shop, net, training):
    import tensorflow_model_optimization as tfmot

    from harness.formats import keras_model
    from harness.passes._tfmot_ranges import start_ranges

    model = keras_model.load(net)
    wrapped = tfmot.quantization.keras.quantize_model(model)
    before = {variable.name: variable.numpy() for variable in wrapped.weights}
    images = training.inputs["x"][:64]
    assert start_ranges(wrapped, [images[:32], images[32:]]) == 3
    after = {variable.name: variable.numpy() for variable in wrapped.weights}
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in after if "output_m" in name or "post_activation_m" in name}
    highest = np.mean([float(tf.reduce_max(model(part, training=False))) for part in (images[:32], images[32:])])
    (found,) = (values for name, values in after.items() if name.startswith("quant_logits/post_activation_max"))
    assert highest > 6.5 and float(found) == pytest.approx(highest, rel=0.1)
    assert all(layer.trainable for layer in wrapped.layers)


def test_layers_that_are_left_out_stay_in_float(shop, net, testing):
    artifact = taught(shop, "tfmot_quantize", net, testing, testing, exclude=("logits",), epochs=1)
    assert artifact.steps[-1].notes[0] == "2 of 3 layers with weights round them as int8; in float: logits"
    assert "500 of 500 evaluation samples are in the training data: the model may know them by heart" in artifact.steps[-1].notes


def test_one_seed_gives_one_file_in_training_for_int8_too(shop, net, testing, training, aware):
    assert taught(shop, "tfmot_quantize", net, testing, training, epochs=2).sha256 == aware.sha256
