import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

NETS = "torchao_nets.py"


def opened(artifact):
    from harness.formats import torch_module

    return torch_module.load(artifact)


def near(expected, got, share):
    return 0 < np.abs(got - expected).max() < share * np.abs(expected).max()


@pytest.fixture(scope="module")
def vectors():
    return Dataset({"x": np.random.default_rng(0).standard_normal((40, 256), dtype=np.float32)}, None)


@pytest.fixture(scope="module")
def visits():
    generator = np.random.default_rng(0)
    ids = {"user": generator.integers(0, 200, 40), "item": generator.integers(0, 300, 40)}
    return Dataset({**ids, "visit": generator.standard_normal((40, 32), dtype=np.float32)}, None)


@pytest.fixture(scope="module")
def mlp(shop, vectors):
    return shop.source("factory", vectors, target=f"{NETS}:mlp")


@pytest.fixture(scope="module")
def quantized(shop, mlp, vectors):
    return shop.apply("torchao_int8_weight_only", mlp, vectors)


def test_weights_are_int8_tensors_within_half_a_step_of_the_float_ones(mlp, quantized):
    from torchao.quantization import Int8Tensor

    before, after = opened(mlp), opened(quantized)
    for index in (0, 2):
        weight = after[index].weight
        assert type(weight) is Int8Tensor and weight.qdata.dtype is torch.int8 and weight.act_quant_kwargs is None
        off = (weight.qdata.float() * weight.scale - before[index].weight).abs()
        assert (off <= 0.51 * weight.scale).all()
    assert quantized.steps[-1].notes[0] == "2 of 2 Linear layers quantized"
    assert quantized.steps[-1].notes[2] == "int8 weights, a scale for each row; activations in float"


def test_the_answers_are_those_of_the_weights_that_the_integers_stand_for(shop, quantized, vectors):
    module = opened(quantized)
    by_hand = torch.from_numpy(vectors.inputs["x"])
    for index in (0, 2):
        weight = module[index].weight
        by_hand = torch.nn.functional.linear(by_hand, weight.qdata.float() * weight.scale, module[index].bias)
        by_hand = torch.relu(by_hand) if index == 0 else by_hand
    (got,) = shop.answers("torch", quantized, vectors, size=40)
    np.testing.assert_allclose(got, by_hand.detach().numpy(), atol=1e-5)


def test_the_answers_are_nearer_to_float_than_with_quantized_activations(shop, mlp, quantized, vectors):
    dynamic = shop.apply("torchao_int8_dynamic", mlp, vectors)
    expected, weights, both = (shop.answers("torch", one, vectors, size=40)[0] for one in (mlp, quantized, dynamic))
    assert near(expected, weights, 0.02)
    assert np.abs(weights - expected).mean() < np.abs(both - expected).mean()


def test_embeddings_are_reached_where_they_are_asked_for(workshop, visits):
    from torchao.quantization import Int8Tensor

    module = workshop.source("factory", visits, target=f"{NETS}:recommender")
    artifact = workshop.apply("torchao_int8_weight_only", module, visits, layers=("Linear", "Embedding"))
    assert artifact.steps[-1].notes[0] == "5 of 5 Linear and Embedding layers quantized"
    tables = opened(artifact)
    assert all(type(table.weight) is Int8Tensor and table.weight.qdata.dtype is torch.int8 for table in (tables.users, tables.items))
    assert artifact.size_bytes < 0.5 * module.size_bytes  # short rows of 32: each carries a scale, and the file its own
    (expected, _), (got, _) = (workshop.answers("torch", one, visits, size=40) for one in (module, artifact))
    assert near(expected, got, 0.05)


def test_embeddings_alone_leave_the_linear_layers_in_float(workshop, visits):
    module = workshop.source("factory", visits, target=f"{NETS}:recommender")
    artifact = workshop.apply("torchao_int8_weight_only", module, visits, layers=("Embedding",), exclude=("items",))
    assert artifact.steps[-1].notes[0] == "1 of 2 Embedding layers quantized; in float: items (excluded)"
    assert type(opened(artifact).score.weight) is torch.nn.Parameter


def test_groups_have_scales_of_their_own_and_lose_less_where_a_column_stands_out(workshop, vectors):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp", args={"outliers": 20.0})
    (expected,) = workshop.answers("torch", module, vectors, size=40)
    errors = {}
    for size in (None, 32):
        artifact = workshop.apply("torchao_int8_weight_only", module, vectors, group_size=size)
        errors[size] = np.abs(workshop.answers("torch", artifact, vectors, size=40)[0] - expected).mean()
    assert opened(artifact)[0].weight.scale.shape == (512, 8)
    assert artifact.steps[-1].notes[2] == "int8 weights, a scale for each 32 weights of a row; activations in float"
    assert errors[32] < 0.6 * errors[None]


def test_rows_that_do_not_divide_into_groups_stay_in_float_with_the_reason(workshop, visits):
    module = workshop.source("factory", visits, target=f"{NETS}:recommender")
    artifact = workshop.apply("torchao_int8_weight_only", module, visits, group_size=64)
    assert artifact.steps[-1].notes[0] == (
        "1 of 3 Linear layers quantized; in float: tower.0 (96 weights a row are no multiple of 64), "
        "score (32 weights a row are no multiple of 64)"
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_half_precision_keeps_it_for_its_activations(workshop, vectors, dtype):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp", args={"dtype": dtype})
    artifact = workshop.apply("torchao_int8_weight_only", module, vectors)
    assert artifact.outputs[0].dtype == dtype
    (expected,), (got,) = (workshop.answers("torch", one, vectors, size=40) for one in (module, artifact))
    assert near(expected, got, 0.05)


def test_the_file_shrinks_to_a_quarter_of_its_weights(mlp, quantized):
    assert quantized.size_bytes < 0.3 * mlp.size_bytes


def test_a_quantized_module_survives_a_cast(quantized, mlp, vectors):
    x = torch.from_numpy(vectors.inputs["x"])
    expected = opened(mlp)(x).detach().numpy()
    for dtype in (torch.float32, torch.bfloat16):
        module = opened(quantized).to(dtype)
        assert module[0].weight.qdata.dtype is torch.int8
        assert near(expected, module(x.to(dtype)).float().detach().numpy(), 0.05)


def test_a_fresh_process_gives_the_same_answers(shop, quantized, vectors):
    (here,) = shop.answers("torch", quantized, vectors, size=40)
    np.testing.assert_allclose(shop.answers_elsewhere("torch", quantized, vectors, batch_size=40), here, atol=1e-5)


def test_equal_modules_give_equal_bytes(workshop, mlp, quantized, vectors):
    assert workshop.apply("torchao_int8_weight_only", mlp, vectors).sha256 == quantized.sha256 != mlp.sha256


def test_a_module_without_the_kinds_of_layer_asked_for_is_refused_with_what_it_has(workshop, mlp, vectors):
    with pytest.raises(CannotMeasure, match="no Embedding layer to quantize in this module") as raised:
        workshop.apply("torchao_int8_weight_only", mlp, vectors, layers=("Embedding",))
    assert "it has Linear, ReLU" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "in_int8"), [("torchao_int8_dynamic", True), ("torchao_int8_weight_only", False)])
def test_with_freezing_torchs_compiler_keeps_int8_weights_only_where_it_multiplies_in_int8(shop, mlp, vectors, name, in_int8):
    import torch._inductor.config as settings
    from torch._inductor.utils import run_and_get_code

    from harness.formats.torchao_tensors import quiet

    module = opened(shop.apply(name, mlp, vectors))
    with settings.patch(freezing=True), torch.no_grad(), quiet():
        _, code = run_and_get_code(torch.compile(module), torch.from_numpy(vectors.inputs["x"]))
    text = "\n".join(code)
    assert ("_int_mm" in text or "onednn.qlinear" in text) is in_int8  # which of the two: as torchao's own patterns are imported or not
    assert ("torch.int8" in text) is in_int8  # the weights alone, in float32, are constants that the compiler widens
