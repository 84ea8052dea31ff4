import os
import subprocess
import sys

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

NETS = "torchao_nets.py"


def opened(artifact):
    from harness.formats import torch_module

    return torch_module.load(artifact)


def mean_error(expected, got):
    return np.abs(got - expected).mean() / np.abs(expected).mean()


@pytest.fixture(scope="module")
def vectors():
    return Dataset({"x": np.random.default_rng(0).standard_normal((40, 256), dtype=np.float32)}, None)


@pytest.fixture(scope="module")
def mlp(shop, vectors):
    return shop.source("factory", vectors, target=f"{NETS}:mlp")


@pytest.fixture(scope="module")
def quantized(shop, mlp, vectors):
    return shop.apply("torchao_int4_weight_only", mlp, vectors)


def test_two_weights_share_a_byte_in_tensors_of_torchaos(quantized):
    from torchao.prototype.quantization.int4 import Int4OpaqueTensor

    for layer in (opened(quantized)[0], opened(quantized)[2]):
        assert isinstance(layer.weight, Int4OpaqueTensor) and layer.weight.qdata.dtype is torch.uint8
        assert layer.weight.qdata.numel() * 2 == layer.in_features * layer.out_features
        assert layer.weight.scale_and_zero.shape == (layer.in_features // 128, layer.out_features, 2)
    weights, groups = 256 * 512 + 512 * 48, 2 * 512 + 4 * 48
    assert quantized.steps[-1].notes[:3] == (
        "2 of 2 Linear layers quantized",
        f"their weights: {4 * weights:,} bytes before, {weights // 2 + 8 * groups:,} after",
        "int4 weights, a scale and a zero point for each 128 of a row (minmax); activations in float",
    )


def test_a_file_of_weights_shrinks_to_about_an_eighth(workshop):
    wide = Dataset({"x": np.random.default_rng(0).standard_normal((4, 1024), dtype=np.float32)}, None)
    module = workshop.source("factory", wide, target=f"{NETS}:mlp", args={"width": 1024, "rows": 512})
    assert 0.125 < workshop.apply("torchao_int4_weight_only", module, wide).size_bytes / module.size_bytes < 0.15


def test_the_kernel_computes_with_the_weights_that_the_nibbles_stand_for(quantized, vectors):
    from harness.formats.int4_weight import unpack

    layer = opened(quantized)[0]
    plain = unpack(layer.weight.qdata, (512, 256))
    nibbles = torch.stack((plain & 15, plain >> 4), dim=-1).flatten(1).float().reshape(512, 2, 128)
    scale, middle = (layer.weight.scale_and_zero[..., index].T.unsqueeze(-1) for index in (0, 1))
    weight = ((nibbles - 8) * scale + middle).flatten(1)
    x = torch.from_numpy(vectors.inputs["x"])
    with torch.inference_mode():
        np.testing.assert_allclose(layer(x).numpy(), torch.nn.functional.linear(x, weight, layer.bias).numpy(), atol=1e-4)


def test_smaller_groups_and_searched_scales_lose_less_and_take_more_bytes(workshop, mlp, vectors):
    (expected,) = workshop.answers("torch", mlp, vectors, size=40)
    errors, sizes = {}, {}
    for group, algorithm in ((128, "minmax"), (32, "minmax"), (128, "hqq")):
        artifact = workshop.apply("torchao_int4_weight_only", mlp, vectors, group_size=group, algorithm=algorithm)
        errors[group, algorithm] = mean_error(expected, workshop.answers("torch", artifact, vectors, size=40)[0])
        sizes[group, algorithm] = artifact.size_bytes
    assert errors[32, "minmax"] < errors[128, "minmax"] < 0.25
    assert errors[128, "hqq"] < errors[128, "minmax"]
    assert sizes[32, "minmax"] > sizes[128, "minmax"]


def test_what_one_cpu_has_packed_another_opens_and_answers_the_same(shop, quantized, vectors, tmp_path):
    (here,) = shop.answers("torch", quantized, vectors, size=40)
    np.save(tmp_path / "x.npy", vectors.inputs["x"])
    code = f"""
import sys, numpy, torch
from harness.formats.torchao_tensors import import_quietly
import_quietly()
module = torch.load({str(quantized.path)!r}, weights_only=False)
with torch.inference_mode():
    numpy.save({str(tmp_path)!r} + "/y.npy", module(torch.from_numpy(numpy.load({str(tmp_path)!r} + "/x.npy"))).numpy())
print(torch.backends.cpu.get_cpu_capability(), numpy.frombuffer(module[0].weight.qdata.numpy().tobytes(), "<u8").sum(dtype="u8"))
"""
    orders = set()
    has = torch.backends.cpu.get_cpu_capability()
    for capability in ("default", "avx2", *(["avx512"] if "AVX512" in has else [])):
        environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), here, atol=1e-4)
        orders.add(told.stdout.split()[-1])
    if "AVX512" in has:
        assert len(orders) > 1  # else this test would prove nothing


@pytest.mark.parametrize("shape", [(16, 32), (48, 64), (80, 256), (144, 96)])
def test_packed_weights_come_out_as_they_went_in(shape):
    from harness.formats.int4_weight import pack, unpack

    values = torch.randint(0, 16, shape, dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    plain = unpack(pack(values), shape)
    assert plain.shape == (shape[0], shape[1] // 2)
    assert torch.equal(plain & 15, values[:, 0::2].to(torch.uint8)) and torch.equal(plain >> 4, values[:, 1::2].to(torch.uint8))


def test_a_model_in_bfloat16_is_what_the_kernel_is_made_for_and_others_are_told(workshop, mlp, vectors, quantized):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp", args={"dtype": "bfloat16"})
    artifact = workshop.apply("torchao_int4_weight_only", module, vectors)
    (expected,), (got,) = (workshop.answers("torch", one, vectors, size=40) for one in (module, artifact))
    assert artifact.outputs[0].dtype == "bfloat16" and 0 < mean_error(expected, got) < 0.25
    assert len(artifact.steps[-1].notes) == 3
    assert quantized.steps[-1].notes[-1] == (
        "torch's int4 kernel is written for bfloat16: in float32 it is slower than float, so put the pass bfloat16 before this one"
    )


def test_a_quantized_module_survives_a_cast(quantized, mlp, vectors):
    x = torch.from_numpy(vectors.inputs["x"])
    expected = opened(mlp)(x).detach().numpy()
    for dtype in (torch.float32, torch.bfloat16):
        module = opened(quantized).to(dtype)
        assert module[0].weight.dtype is dtype and module[0].weight.qdata.dtype is torch.uint8
        assert 0 < mean_error(expected, module(x.to(dtype)).float().detach().numpy()) < 0.25


def test_layers_that_the_kernel_cannot_take_stay_in_float_with_the_reason(workshop):
    generator = np.random.default_rng(0)
    ids = {"user": generator.integers(0, 200, 40), "item": generator.integers(0, 300, 40)}
    visits = Dataset({**ids, "visit": generator.standard_normal((40, 32), dtype=np.float32)}, None)
    module = workshop.source("factory", visits, target=f"{NETS}:recommender")
    artifact = workshop.apply("torchao_int4_weight_only", module, visits, group_size=64)
    assert artifact.steps[-1].notes[0] == (
        "1 of 3 Linear layers quantized; in float: tower.0 (96 weights a row are no multiple of 64), "
        "score (32 weights a row are no multiple of 64)"
    )
    with pytest.raises(CannotMeasure, match="can quantize none of the 3 Linear layers") as raised:
        workshop.apply("torchao_int4_weight_only", module, visits)
    assert "tower.0: 96 weights a row are no multiple of 128" in str(raised.value)


def test_output_features_that_the_kernel_cannot_take_are_named(workshop, vectors):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp", args={"rows": 10})
    artifact = workshop.apply("torchao_int4_weight_only", module, vectors)
    assert artifact.steps[-1].notes[0] == "1 of 2 Linear layers quantized; in float: 2 (10 output features are no multiple of 16)"


def test_a_fresh_process_gives_the_same_answers(shop, quantized, vectors):
    (here,) = shop.answers("torch", quantized, vectors, size=40)
    np.testing.assert_allclose(shop.answers_elsewhere("torch", quantized, vectors, batch_size=40), here, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["minmax", "hqq"])
def test_equal_modules_give_equal_bytes(workshop, mlp, vectors, algorithm):
    first, second = (workshop.apply("torchao_int4_weight_only", mlp, vectors, algorithm=algorithm) for _ in range(2))
    assert first.sha256 == second.sha256 != mlp.sha256


def test_a_module_that_was_opened_is_saved_as_it_was(quantized, tmp_path):
    torch.save(opened(quantized).state_dict(), tmp_path / "again.pt")
    state = torch.load(tmp_path / "again.pt", weights_only=False)
    first = torch.load(quantized.folder / "state.pt", weights_only=False)
    for name, value in first.items():
        assert torch.equal(getattr(value, "qdata", value), getattr(state[name], "qdata", state[name]))


def test_a_name_to_exclude_that_fits_no_layer_is_refused(workshop, mlp, vectors):
    with pytest.raises(BadInput, match="excludes 'head', which is none of the layers that it quantizes"):
        workshop.apply("torchao_int4_weight_only", mlp, vectors, exclude=("head",))
