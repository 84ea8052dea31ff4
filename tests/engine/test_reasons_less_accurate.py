import numpy as np
import pytest
from fakes import cases

from harness.core.estimate import Absent, ConfidenceInterval
from harness.core.inspection import LayerDifference
from harness.core.result import QualityChange
from harness.core.scenario import PluginRef
from harness.engine.reasons.less_accurate import advice, fall, saturation, telling, told_of

LAYERS = [
    LayerDifference("head", "Linear", 0.8),
    LayerDifference("stem", "Conv2d", 0.5),
    LayerDifference("neck", "Linear", 0.1),
    LayerDifference("same", "Linear", 0.0),
]
MANY = [*LAYERS, LayerDifference("body", "Linear", 0.01)]


def refs(*passes):
    return [PluginRef.model_validate(one) for one in passes]


def changed(difference, low, high):
    return cases.case(quality_change=QualityChange("accuracy", difference, ConfidenceInterval(low, high, 0.95), 500))


@pytest.mark.parametrize(
    ("difference", "interval", "answer"),
    [
        (-0.084, (-0.1, -0.06), "accuracy -8.40 points"),
        (-0.084, (-0.2, 0.01), None),  # it could be chance
        (-0.002, (-0.003, -0.001), None),  # it is, and is tolerated
        (0.02, (0.01, 0.03), None),
    ],
)
def test_much_worse_is_beyond_the_tolerance_and_shown(difference, interval, answer):
    assert fall(changed(difference, *interval)) == answer


def test_the_scenario_s_own_tolerance_decides_what_is_much():
    tolerant = cases.case(
        trial=cases.trial(gate={"accuracy": {"tolerance": "10 points"}}),
        quality_change=QualityChange("accuracy", -0.084, ConfidenceInterval(-0.1, -0.06, 0.95), 500),
    )
    assert fall(tolerant) is None


def test_without_labels_it_is_the_agreement_with_the_reference_or_the_direction_of_outputs():
    case = cases.case()
    case.scores = {"agreement": Absent("agreement", "no classes"), "output_cosine": np.full(10, 0.9)}
    assert fall(case) == "output_cosine 0.900"
    case.scores = {"agreement": np.array([1.0] * 9 + [0.0])}
    assert fall(case) == "agreement 0.900"
    case.scores = {"agreement": np.ones(10), "output_cosine": np.full(10, 0.5)}
    assert fall(case) is None


def test_the_layers_that_differ_most_are_told_with_their_kinds_and_those_near_nothing_are_left_out():
    assert told_of(telling(LAYERS), "quantize_static") == (
        "given the same inputs as before 'quantize_static', the layers whose outputs differ most are "
        "head (Linear, by 80 %), stem (Conv2d, by 50 %), neck (Linear, by 10 %)"
    )
    assert telling([LayerDifference("same", "Linear", 0.0)]) == []


def test_a_layer_that_gives_nan_is_the_worst_of_all():
    found = telling([LayerDifference("broken", "Linear", None), *LAYERS])
    assert "broken (Linear, NaN or infinity)" in told_of(found, "float16")


def test_advice_names_the_option_that_the_pass_has_for_it_with_the_layers_that_it_takes():
    (step,) = refs({"quantize_static": {"per_channel": False, "exclude": ["conv"]}})
    told = advice(step, [step], MANY, ("avx2",))
    assert told.startswith(
        "what usually helps: 'quantize_static: {exclude: [conv, head, stem]}', 'per_channel: true', 'reduce_range: true' on"
    )
    assert "'method: percentile' or 'entropy'" in told and "more than 128 calibration_samples" in told and "('qat')" in told
    assert len(told.split()) <= 50


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("bfloat16", "'bfloat16: {keep: [head, stem]}'"),
        ("float16", "bfloat16, whose range is float32's"),
        ("onnx_float16", "'onnx_float16: {keep_nodes: [head, stem]}'"),
        ({"prune_magnitude": {"amount": 0.9}}, "a lower 'amount', 'finetune' behind 'prune_magnitude'"),
        ("torch_dynamic_int8", "'torchao_int8_dynamic: {exclude: [head, stem]}'"),
        ("quantize_nncf", "'quantize_nncf: {exclude: [head, stem]}'"),
    ],
)
def test_every_pass_is_advised_in_its_own_words(step, told):
    (ref,) = refs(step)
    assert told in advice(ref, [ref], MANY, ("avx512_vnni",))


def test_what_a_recipe_does_already_is_not_advised():
    step, more = refs({"quantize_static": {"reduce_range": True, "method": "entropy"}}, "qat")
    told = advice(step, [step, more], [], ("avx2",))
    assert "reduce_range" not in told and "method" not in told and "qat" not in told and "per_channel" not in told
    prune, tune = refs("prune_channels", "finetune")
    assert "finetune" not in advice(prune, [prune, tune], [], ())


def test_names_that_yaml_would_read_as_something_else_are_quoted():
    (step,) = refs("quantize_static")
    told = advice(step, [step], [LayerDifference(name, "Linear", 0.5) for name in ("0", "a b", "c", "d")], ())
    assert 'exclude: ["0", "a b"]' in told


def test_the_layers_to_leave_out_are_never_more_than_half_of_what_the_pass_changed():
    (step,) = refs("prune_magnitude")
    told = advice(step, [step], LAYERS[:2], ())
    assert "exclude: [head]" in told


def test_there_is_no_advice_for_a_pass_of_the_user_s_own():
    assert advice(PluginRef(name="./mine.py"), [], LAYERS, ()) is None


@pytest.mark.parametrize(
    ("passes", "flags", "difference", "told"),
    [
        ([{"quantize_static": {}}], ("avx2",), -0.02, True),
        (["export_onnx", "quantize_dynamic"], ("avx2", "avx512f"), -0.02, True),
        ([{"quantize_static": {"reduce_range": True}}], ("avx2",), -0.02, False),
        (["quantize_static"], ("avx2", "avx512_vnni"), -0.02, False),
        (["quantize_static"], (), -0.02, False),  # nothing is known of the CPU
        (["quantize_static"], ("avx2",), 0.0, False),
        (["export_onnx"], ("avx2",), -0.02, False),
    ],
)
def test_int8_that_answers_worse_where_its_sums_saturate_is_told_the_option_that_avoids_it(passes, flags, difference, told):
    change = QualityChange("accuracy", difference, ConfidenceInterval(-0.03, 0.01, 0.95), 500)
    note = saturation(refs(*passes), flags, change)
    assert (note is not None and "reduce_range: true" in note) is told
    assert saturation(refs(*passes), flags, None) is None
