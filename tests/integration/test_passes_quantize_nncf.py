import importlib.util
import logging
import random
from collections import Counter

import numpy as np
import pytest
from fakes.cpus import whole_int8_products

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure
from harness.formats import openvino_model

pytest.importorskip("torch")
if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
openvino_model.framework()  # without its telemetry, whatever imports it next
pytest.importorskip("nncf")


def model_of(artifact):
    return openvino_model.read(artifact.path)


def weights_of(artifact, kind):
    """(element type of the stored weight, number of its scales) of each operator of a kind."""
    found = []
    for node in model_of(artifact).get_ordered_ops():
        if node.get_type_name() == kind:
            weight, scales = node.input_value(1).get_node(), 1
            while weight.get_type_name() != "Constant":
                if weight.get_type_name() == "Multiply":
                    scales = int(np.prod(list(weight.input_value(1).get_shape())))
                weight = weight.input_value(0).get_node()
            found.append((weight.get_output_element_type(0).get_type_name(), scales))
    return found


def labelled(shop, artifact, count):
    """Images with the float model's own answers for labels: what is quantized can only lose."""
    data = Dataset({"x": np.random.default_rng(1).standard_normal((count, 3, 12, 12), dtype=np.float32)}, None)
    answers = shop.answers("openvino", artifact, data, size=count)[0]
    return Dataset(data.inputs, answers.argmax(axis=1))


@pytest.fixture(scope="module")
def whole(shop, images):
    return shop.apply("export_openvino", shop.source("factory", images, target="openvino_nets.py:residual"), images)


@pytest.fixture(scope="module")
def quantized(shop, whole, images):
    return shop.apply("quantize_nncf", whole, images)


def test_every_layer_with_weights_holds_int8_with_a_scale_for_each_channel(quantized):
    assert openvino_model.quantized_share(model_of(quantized)) == (4, 4, [])
    assert weights_of(quantized, "Convolution") == [("i8", 64), ("i8", 64)]
    assert weights_of(quantized, "GroupConvolution") == [("i8", 64)]
    assert weights_of(quantized, "MatMul") == [("i8", 10)]


def test_weights_take_a_quarter_of_the_bytes(whole, quantized):
    before, after = (openvino_model.weight_bytes(model_of(one)) for one in (whole, quantized))
    assert before["i8"] == 0
    assert after["i8"] == 64 * 3 * 9 + 64 * 32 * 9 + 64 * 64 * 9 + 64 * 10
    assert sum(after.values()) < 0.27 * sum(before.values())
    assert quantized.size_bytes < 0.5 * whole.size_bytes  # the graph is told in words


def test_the_notes_tell_what_was_done_in_numbers(quantized):
    fakes = openvino_model.operators(model_of(quantized))["FakeQuantize"]
    assert fakes >= 4
    assert quantized.steps[-1].notes[0] == "4 of 4 operators with weights quantized"
    assert quantized.steps[-1].notes[1].startswith(f"{fakes} FakeQuantize; constants ")
    assert quantized.steps[-1].notes[2] == "ranges from 40 calibration samples: NNCF advises 300"


def test_answers_are_near_the_float_model_and_not_the_same_at_every_batch_size(shop, whole, quantized, images):
    with shop.open("openvino", whole) as float_session, shop.open("openvino", quantized) as int8_session:
        assert int8_session.facts.precision == "int8"
        for size in (1, 2, 7, 40):
            batch = images.batch(0, size)
            (expected,), (got,) = (one.outputs(one.run(one.prepare(batch))) for one in (float_session, int8_session))
            assert got.shape == (size, 10)
            assert 0 < np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


@whole_int8_products
def test_a_recommender_s_tables_and_layers_are_quantized(workshop):
    generator = np.random.default_rng(0)
    ids = {"user": generator.integers(0, 50, 40), "item": generator.integers(0, 80, 40)}
    tastes = Dataset({**ids, "moment": generator.standard_normal((40, 4), dtype=np.float32)}, None)
    before = workshop.apply("export_openvino", workshop.source("factory", tastes, target="openvino_nets.py:recommender"), tastes)
    after = workshop.apply("quantize_nncf", before, tastes)
    assert after.steps[-1].notes[0] == "2 of 2 operators with weights quantized"
    assert openvino_model.weight_bytes(model_of(after))["i8"] == 50 * 16 + 80 * 16 + 36 * 32 + 32 * 2
    (expected,), (got,) = (workshop.answers("openvino", one, tastes, size=40) for one in (before, after))
    assert 0.99 < np.sum(expected * got) / np.linalg.norm(expected) / np.linalg.norm(got) < 1


def test_a_transformer_is_quantized_but_for_the_products_of_its_attention(workshop):
    pytest.importorskip("transformers")
    ids = np.random.default_rng(0).integers(1, 99, (20, 8))
    texts = Dataset({"input_ids": ids, "attention_mask": np.ones_like(ids)}, None)
    before = workshop.apply("export_openvino", workshop.source("factory", texts, target="openvino_nets.py:encoder"), texts)
    after = workshop.apply("quantize_nncf", before, texts, model_type="transformer")
    assert after.steps[-1].notes[0] == "13 of 13 operators with weights quantized"  # six in each of two layers, and the pooler
    (expected, *_), (got, *_) = (workshop.answers("openvino", one, texts, size=20) for one in (before, after))
    cosine = np.sum(expected * got) / np.linalg.norm(expected) / np.linalg.norm(got)
    assert 0.99 < cosine < 1


@pytest.mark.parametrize("preset", ["performance", "mixed"])
def test_a_preset_chooses_whether_the_range_of_an_input_lies_around_zero(workshop, whole, images, preset):
    shifted = Dataset({"x": images.inputs["x"] + 2}, None)
    artifact = workshop.apply("quantize_nncf", whole, shifted, preset=preset)
    fake = next(node for node in model_of(artifact).get_ordered_ops() if node.get_type_name() == "FakeQuantize")
    low, high = (float(fake.input_value(index).get_node().get_data().min()) for index in (1, 2))
    if preset == "performance":
        assert low == pytest.approx(-high, rel=0.02)
    else:
        assert low < 0 and -low < 0.7 * high


def test_ranges_come_from_the_first_calibration_samples_and_from_nothing_else(workshop, whole, images):
    def range_of_the_input(samples, **options):
        artifact = workshop.apply("quantize_nncf", whole, images, calibration=Dataset({"x": samples}, None), **options)
        fake = next(node for node in model_of(artifact).get_ordered_ops() if node.get_type_name() == "FakeQuantize")
        return float(fake.input_value(2).get_node().get_data().max())

    samples = images.inputs["x"].copy()
    samples[8:] *= 100
    assert range_of_the_input(samples) > 20 * range_of_the_input(samples, calibration_samples=8)


def test_what_is_excluded_stays_in_float_by_name_by_pattern_and_by_type(workshop, whole, images):
    head = next(node.get_friendly_name() for node in model_of(whole).get_ops() if node.get_type_name() == "MatMul")
    by_name = workshop.apply("quantize_nncf", whole, images, exclude=(head,))
    assert by_name.steps[-1].notes[0] == f"3 of 4 operators with weights quantized; in float: {head}"
    assert weights_of(by_name, "MatMul") == [("f32", 1)]
    by_pattern = workshop.apply("quantize_nncf", whole, images, exclude_patterns=("linear.*MatMul",))
    assert openvino_model.quantized_share(model_of(by_pattern))[2] == [head]
    by_type = workshop.apply("quantize_nncf", whole, images, exclude_types=("Convolution",))
    assert {kind for kind, _ in weights_of(by_type, "Convolution")} == {"f32"}
    assert openvino_model.quantized_share(model_of(by_type))[:2] == (2, 4)
    with workshop.open("openvino", by_type) as session:
        assert session.facts.precision == "int8 (2 of 4 compute layers; 2 in float32)"


def test_what_is_to_be_excluded_and_is_not_there_is_refused_with_the_nearest_right_name(workshop, whole, images):
    with pytest.raises(BadInput) as raised:
        workshop.apply("quantize_nncf", whole, images, exclude=("linear",), exclude_types=("GroupConv", "Softmax"))
    told = str(raised.value)
    assert "'exclude' names 'linear', which is not in this model\n  did you mean 'linear/aten.linear.default/MatMul'?" in told
    assert "'exclude_types' names 'GroupConv', which is not in this model\n  did you mean 'GroupConvolution'?" in told
    assert "'exclude_types' names 'Softmax', which is not in this model\n  it has Add, Convolution" in told
    with pytest.raises(CannotMeasure, match="nowhere"):
        workshop.apply("quantize_nncf", whole, images, exclude_patterns=("nowhere.*",))


def test_the_better_correction_of_biases_gives_other_biases(workshop, whole, quantized, images):
    slow = workshop.apply("quantize_nncf", whole, images, fast_bias_correction=False)
    assert slow.steps[-1].notes == quantized.steps[-1].notes
    assert slow.sha256 != quantized.sha256


def test_equal_models_and_data_give_equal_files(workshop, whole, quantized, images):
    random.seed(5)
    expected = random.Random(5).random()
    assert workshop.apply("quantize_nncf", whole, images).sha256 == quantized.sha256 != whole.sha256
    assert random.random() == expected


def test_what_is_quantized_already_is_refused(workshop, quantized, images):
    with pytest.raises(CannotMeasure, match=r"this model is already quantized: it has \d+ FakeQuantize operators"):
        workshop.apply("quantize_nncf", quantized, images)


def test_a_model_with_nothing_to_quantize_is_refused_with_what_it_has(workshop, rows):
    artifact = workshop.apply("export_openvino", workshop.source("factory", rows, target="openvino_nets.py:without_weights"), rows)
    with pytest.raises(CannotMeasure, match="left every operator with weights in float") as raised:
        workshop.apply("quantize_nncf", artifact, rows)
    assert "the operators are Tanh" in str(raised.value)


def test_accuracy_that_holds_leaves_the_plain_model(shop, workshop, whole, images):
    data = labelled(shop, whole, 80)
    plain = workshop.apply("quantize_nncf", whole, images, calibration=data, calibration_samples=40)
    kept = workshop.apply("quantize_nncf", whole, images, calibration=data, calibration_samples=40, max_drop=0.9)
    assert weights_of(kept, "Convolution") == weights_of(plain, "Convolution")
    assert kept.path.with_suffix(".bin").read_bytes() == plain.path.with_suffix(".bin").read_bytes()
    assert kept.steps[-1].notes[3].startswith("top-1 on 40 held-out calibration samples 100.00%, quantized ")
    assert kept.steps[-1].notes[3].endswith(": no layer had to go back to float")


@whole_int8_products
def test_layers_that_cost_too_much_go_back_to_float_and_are_named(shop, workshop, whole, images):
    held_out = labelled(shop, whole, 80)
    inputs = held_out.inputs["x"].copy()
    inputs[:40] *= 0.2  # ranges that cut what comes later
    data = Dataset({"x": inputs}, held_out.targets)
    plain = workshop.apply("quantize_nncf", whole, images, calibration=data, calibration_samples=40)
    kept = workshop.apply("quantize_nncf", whole, images, calibration=data, calibration_samples=40, max_drop=0.05)
    done, total, left = openvino_model.quantized_share(model_of(kept))
    assert openvino_model.quantized_share(model_of(plain))[:2] == (4, 4)
    assert 0 < done < total == 4
    assert f"with {len(left)} operators back in float" in kept.steps[-1].notes[3]
    assert all(name in kept.steps[-1].notes[3] for name in left)

    def right(artifact):
        later = Dataset({"x": inputs[40:]}, None)
        answers = shop.answers("openvino", artifact, later, size=40)[0]
        return float(np.mean(answers.argmax(axis=1) == held_out.targets[40:]))

    assert right(whole) == 1 and right(plain) < 0.95 <= right(kept)


def test_accuracy_is_never_told_on_the_evaluation_set(workshop, shop, whole, images):
    data = labelled(shop, whole, 80)
    nothing = Dataset({}, None)  # a pass that read it would fail
    kept = workshop.apply("quantize_nncf", whole, nothing, calibration=data, max_drop=0.9)
    assert "ranges from 40 calibration samples" in kept.steps[-1].notes[2]  # at most half: the rest is held out


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (None, "'max_drop' needs labels, and data.calibration has none"),
        (np.zeros(40, np.float32), r"'max_drop' knows top-1 accuracy alone: targets of data.calibration are float32\[40\]"),
        (np.zeros(40, np.int64), r"a drop of 1\.00% cannot be seen on 20 samples: one of them is 5\.00%"),
    ],
)
def test_a_drop_that_cannot_be_told_is_refused(workshop, whole, images, targets, said):
    with pytest.raises(CannotMeasure, match=said):
        workshop.apply("quantize_nncf", whole, images, calibration=Dataset(images.inputs, targets), max_drop=0.01)


def test_nothing_reaches_the_screen_and_the_log_levels_are_as_before(workshop, whole, images, capfd):
    levels = Counter({name: logging.getLogger(name).level for name in ("nncf", "openvino")})
    workshop.apply("quantize_nncf", whole, images, calibration_samples=4)
    assert capfd.readouterr() == ("", "")
    assert levels == Counter({name: logging.getLogger(name).level for name in ("nncf", "openvino")})
