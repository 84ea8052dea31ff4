import pytest

from harness.core.estimate import ConfidenceInterval
from harness.core.profile import OperatorTime, Profile
from harness.core.result import QualityChange
from harness.core.scenario import PluginRef
from harness.engine.explain_recipes import reasons, saturation

VNNI = ("avx2", "avx512_vnni")


def profile(wall_us=1000.0, **own_us):
    operators = tuple(OperatorTime("", kind.replace("__", "::"), "cpu", 10, round(us * 1e4)) for kind, us in own_us.items())
    return Profile(10, round(wall_us * 1e4), operators)


FLOAT = profile(Conv=800, Relu=100)


def test_time_that_goes_into_conversions_is_told_with_the_operators_that_take_it():
    int8 = profile(QLinearConv=500, QuantizeLinear=200, DequantizeLinear=200, Relu=50)
    assert reasons(FLOAT, int8, ["export_onnx", "quantize_static"], VNNI, 1) == [
        "42 % of its time are conversions between float and int8 (DequantizeLinear, QuantizeLinear)"
    ]


def test_activations_that_are_quantized_in_every_call_are_told_apart():
    dynamic = profile(MatMulIntegerToFloat=500, DynamicQuantizeLinear=400)
    assert reasons(FLOAT, dynamic, ["quantize_dynamic"], VNNI, 1) == [
        "44 % of its time are conversions of activations to int8, anew in every call (DynamicQuantizeLinear)"
    ]


def test_conversions_that_the_reference_has_too_explain_nothing():
    both = profile(Conv=700, Cast=200)
    assert reasons(both, both, ["optimize_onnx"], VNNI, 1) == []


def test_a_cpu_without_integer_products_is_named_for_int8_only_and_only_where_its_flags_are_known():
    told = reasons(FLOAT, FLOAT, ["torch_dynamic_int8"], ("avx2",), 1)
    assert told == ["this CPU has no instructions for products of 8-bit integers (avx512_vnni, avx_vnni, amx_int8)"]
    assert reasons(FLOAT, FLOAT, ["torch_dynamic_int8"], (), 1) == []
    assert reasons(FLOAT, FLOAT, ["prune_channels"], ("avx2",), 1) == []


def test_zeros_are_not_skipped_by_dense_kernels():
    (told,) = reasons(FLOAT, FLOAT, ["prune_magnitude", "finetune"], VNNI, 1)
    assert told.startswith("dense kernels do not skip the zeros that 'prune_magnitude' makes")


def test_a_query_that_passes_outside_of_its_operators_is_told_and_a_larger_batch_only_where_there_is_none():
    small = profile(wall_us=1000, aten__addmm=150, aten__relu=100)
    (told,) = reasons(FLOAT, small, [], VNNI, 1)
    assert (
        told == "under the profiler 75 % of a query pass outside of its 2 operators, which are small (a larger batch gives each more to do)"
    )
    (told,) = reasons(FLOAT, small, [], VNNI, 32)
    assert "larger batch" not in told


def test_without_a_profile_what_passes_and_machine_say_is_told_all_the_same():
    assert len(reasons(None, None, ["quantize_static", "prune_magnitude"], ("avx2",), 1)) == 2


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
    note = saturation([PluginRef.model_validate(one) for one in passes], flags, change)
    assert (note is not None and "reduce_range: true" in note) is told
    assert saturation([PluginRef.model_validate(one) for one in passes], flags, None) is None
