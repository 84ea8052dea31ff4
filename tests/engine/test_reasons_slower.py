import pytest

from harness.core.measurement import SessionFacts
from harness.core.profile import OperatorTime, Profile
from harness.core.scenario import PluginRef
from harness.engine.reasons.passes import HALF_FLAGS
from harness.engine.reasons.slower import Evidence, reasons

VNNI = ("avx2", "avx512_vnni")


def profile(wall_us=1000.0, *, names=(), **own_us):
    """Ten queries; each operator type is called once in a query. ``names`` gives single nodes their names, by type."""
    named = dict(names)
    operators = [OperatorTime(named.get(kind, ""), kind.replace("__", "::"), "cpu", 10, round(us * 1e4)) for kind, us in own_us.items()]
    return Profile(10, round(wall_us * 1e4), tuple(operators))


def told(recipe, *passes, reference=None, flags=VNNI, batch_size=1, details=()):
    facts = SessionFacts("cpu", "int8", 1, tuple(details))
    refs = [PluginRef.model_validate(one) for one in passes]
    return reasons(Evidence(FLOAT if reference is None else reference, recipe, refs, flags, batch_size, facts))


FLOAT = profile(Conv=800, Relu=100)


def test_time_that_goes_into_conversions_is_told_with_the_operators_that_take_it():
    int8 = profile(QLinearConv=500, QuantizeLinear=200, DequantizeLinear=200, Relu=50)
    assert told(int8, "export_onnx", "quantize_static") == [
        "42 % of its time are conversions between float and int8 (1 DequantizeLinear, 1 QuantizeLinear in a query)"
    ]


def test_activations_that_are_quantized_in_every_call_are_told_apart():
    dynamic = profile(MatMulIntegerToFloat=500, DynamicQuantizeLinear=400)
    assert told(dynamic, "quantize_dynamic") == [
        "44 % of its time are conversions of activations to int8, anew in every call (1 DynamicQuantizeLinear in a query)"
    ]


def test_a_kernel_that_quantizes_its_activations_inside_is_named_with_its_share():
    (one,) = told(profile(quantized__linear_dynamic=800, aten__relu=50), "torch_dynamic_int8")
    assert one == "94 % of its time are in quantized::linear_dynamic, which rounds activations to int8 too, anew in every call"


def test_copies_are_found_in_the_operator_that_does_them():
    half = profile(aten__mkldnn_convolution=500, aten__copy_=300, aten__to=50)
    (one,) = told(half, "bfloat16", reference=profile(aten__mkldnn_convolution=500, aten__copy_=20), flags=())
    assert one.startswith("37 % of its time are conversions or copies between number formats")


def test_conversions_that_the_reference_has_too_explain_nothing():
    both = profile(Conv=700, Cast=200)
    assert told(both, "optimize_onnx", reference=both) == []


def test_quantized_nodes_that_run_in_float_are_told_as_the_optimized_graph_shows_them():
    detail = "2 of 3 quantized nodes run in float32: 8 QuantizeLinear and DequantizeLinear run"
    left = profile(names={"Conv": "/stem/Conv"}, QLinearMatMul=300, Conv=550)
    assert told(left, "quantize_static", details=["CPUExecutionProvider runs 9 of 9 nodes", detail]) == [
        f"Q/DQ pairs of the graph were not fused: {detail}",
        "65 % of its time are products in float, for which no int8 kernel was taken: Conv /stem/Conv",
    ]


def test_operators_without_an_int8_kernel_are_named_where_they_hold_the_recipe_back():
    (one,) = told(profile(QLinearMatMul=500, Softmax=200, LayerNormalization=200), "quantize_static")
    assert one == "44 % of its time are operators without an int8 kernel: Softmax, LayerNormalization"
    assert told(profile(QLinearMatMul=800, Softmax=100), "quantize_static") == []
    both = profile(Conv=500, Softmax=400)
    assert told(both, "prune_channels", reference=both) == []  # nothing of it was to be int8


def test_weights_alone_in_int8_are_not_held_against_the_float_products_that_they_are_for():
    (one,) = told(profile(aten__mm=900), "torchao_int8_weight_only", reference=profile(aten__mm=900))
    assert one.startswith("'torchao_int8_weight_only' makes weights smaller, and turns them back into float for every product")
    assert len(told(profile(aten__mm=900), "torchao_int8_weight_only", reference=profile(aten__mm=900), flags=("avx2",))) == 1


def test_an_exported_program_in_eager_torch_is_told_that_a_compiler_fuses_its_pairs():
    found = told(profile(aten__addmm=400, quantized_decomposed__quantize_per_tensor=300), "pt2e_static_int8")
    assert any("not fused: eager torch runs each as operators of its own" in one for one in found)


def test_a_cpu_without_integer_products_is_named_for_int8_only_and_only_where_its_flags_are_known():
    int8 = profile(QLinearConv=900)
    (one,) = told(int8, "quantize_static", flags=("avx2",))
    assert one == "this CPU has no instructions for products of 8-bit integers (avx512_vnni, avx_vnni, amx_int8)"
    assert told(int8, "quantize_static", flags=()) == []
    assert told(int8, "quantize_static", flags=("amx_int8",)) == []
    assert told(FLOAT, "prune_channels", flags=("avx2",)) == []


@pytest.mark.parametrize(
    ("step", "flags", "dtype"),
    [
        ("float16", ("avx2",), "float16"),
        ("onnx_float16", ("avx2", "avx512_bf16"), "float16"),
        ("bfloat16", ("avx2", "avx512_fp16"), "bfloat16"),
        ({"autocast": {"dtype": "float16"}}, ("avx2",), "float16"),
        ("autocast", ("avx2",), "bfloat16"),
        ("float16", ("avx2", "avx512_fp16"), None),
        ("bfloat16", ("amx_bf16",), None),
        ("float16", (), None),
    ],
)
def test_half_precision_that_a_cpu_has_no_instructions_for_is_emulated(step, flags, dtype):
    found = told(FLOAT, step, flags=flags)
    assert [one.partition(" is emulated through float32")[0] for one in found] == ([dtype] if dtype else [])


def test_the_flags_for_half_precision_are_those_that_sessions_warn_by():
    from harness.formats.precision import INSTRUCTIONS

    assert HALF_FLAGS == INSTRUCTIONS


def test_zeros_are_not_skipped_by_dense_kernels():
    (one,) = told(FLOAT, "prune_magnitude", "finetune")
    assert one.startswith("dense kernels do not skip the zeros that 'prune_magnitude' makes")


def test_a_query_that_passes_outside_of_its_operators_is_told_and_a_larger_batch_only_where_there_is_none():
    small = profile(wall_us=1000, aten__addmm=150, aten__relu=100)
    (one,) = told(small, reference=small)
    assert one == (
        "under the profiler 75 % of a query pass outside of its 2 operators, which are small (a larger batch gives each more to do)"
    )
    (one,) = told(small, reference=small, batch_size=32)
    assert "larger batch" not in one


def test_where_nothing_else_is_seen_it_is_the_operator_that_takes_longer_or_those_that_are_new():
    before = profile(aten__addmm=100, aten__relu=50)
    (longer,) = told(profile(aten__addmm=600, aten__relu=60), "finetune", reference=before)
    assert longer == "under the profiler 98 % of what a query takes more is in aten::addmm, which both run"
    (new,) = told(profile(aten___int_mm=700, aten__relu=50), "finetune", reference=before)
    assert new == "93 % of its time are operators that the reference does not run: aten::_int_mm"
    assert told(profile(MatMul=700), "finetune", reference=before) == []  # another framework: nothing is the same operator


def test_kernels_that_take_most_of_the_time_and_that_the_reference_does_not_run_are_told_beside_other_reasons():
    before = profile(Conv=200, MaxPool=20)
    found = told(profile(ConvInteger=700, Cast=120, MaxPool=20), "quantize_dynamic", reference=before)
    assert found[1:] == ["83 % of its time are operators that the reference does not run: ConvInteger"]


def test_without_a_profile_what_passes_and_machine_say_is_told_all_the_same():
    refs = [PluginRef(name="quantize_static"), PluginRef(name="prune_magnitude")]
    assert len(reasons(Evidence(None, None, refs, ("avx2",)))) == 2


def test_a_pass_of_the_user_s_own_is_not_taken_for_one_whose_name_it_begins_with():
    assert told(FLOAT, "qat_of_mine.py", flags=("avx2",)) == []


def test_each_reason_is_a_sentence_of_at_most_fifty_words():
    worst = profile(
        wall_us=5000, QLinearConv=100, Conv=300, Gemm=200, QuantizeLinear=200, DequantizeLinear=200, Softmax=300, LayerNormalization=300
    )
    detail = "2 of 3 quantized nodes run in float32: 8 QuantizeLinear and DequantizeLinear run"
    found = told(worst, "prune_magnitude", "float16", "quantize_static", flags=("avx2",), details=[detail])
    assert len(found) == 4
    assert all(len(one.split()) <= 50 for one in found)
