import pytest

from harness.core.inspection import Contents, StoredWeights
from harness.core.scenario import PluginRef
from harness.engine.reasons.not_smaller import is_to_shrink, reasons


def refs(*passes):
    return [PluginRef.model_validate(one) for one in passes]


def weights(kind, dtype, stored_bytes, *names, zeros=0.0):
    return StoredWeights(kind, dtype, stored_bytes, zeros, names or ("w",))


def test_weights_that_a_pass_left_in_float_are_told_with_their_layer_and_bytes():
    found = Contents((weights("Embedding", "float32", 80_000, "tokens"), weights("Linear", "int8", 15_000, "fc")))
    assert reasons(found, 100_000, refs("torch_dynamic_int8")) == [
        "80 % of its bytes are float32 weights that 'torch_dynamic_int8' left as they were: Embedding (tokens, 78.1 KiB)"
    ]


def test_zeros_are_stored_like_any_other_value():
    found = Contents((weights("Linear", "float32", 100_000, zeros=0.9),))
    (one,) = reasons(found, 101_000, refs("prune_magnitude"))
    assert one == "90 % of its weights are zero and stored like any other value: 'prune_magnitude' takes none out"


def test_weights_that_are_rounded_when_the_model_is_opened_are_stored_in_float():
    found = Contents((weights("Conv", "float32", 90_000, "stem.weight"),), rounded_late=("stem.weight",))
    (one,) = reasons(found, 100_000, refs("quantize_static"))
    assert one == "weights are stored in float, and QuantizeLinear rounds them when the model is opened: stem.weight"


def test_bytes_of_a_data_file_that_no_tensor_names_are_told():
    found = Contents((weights("Conv", "int8", 20_000),), idle_bytes=80_000)
    assert reasons(found, 100_000, refs("quantize_static")) == ["78.1 KiB of its data file belong to no tensor of the graph any more"]


def test_a_tiny_net_is_mostly_graph_and_packing():
    (one,) = reasons(Contents((weights("Gemm", "int8", 1_000),)), 10_000, refs("quantize_static"))
    assert one.startswith("only 1,000 B of its 9.77 KiB are weights: the rest is graph, names and packing")


def test_what_has_most_bytes_is_told_first_and_what_has_few_not_at_all():
    found = Contents((weights("Linear", "float32", 50_000, "head"), weights("Linear", "int8", 10_000)), idle_bytes=5_000)
    first, second = reasons(found, 100_000, refs("quantize_static"))
    assert first.startswith("50 % of its bytes are float32 weights")
    assert second.startswith("only ")


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("quantize_dynamic", True),
        ("bfloat16", True),
        ("prune_channels", True),
        ("autocast", False),  # weights stay in float32, and are cast in every call
        ("export_onnx", False),
        ("finetune", False),
    ],
)
def test_only_what_was_to_make_a_model_smaller_is_asked_why_it_is_not(step, answer):
    assert is_to_shrink(refs(step)) is answer
