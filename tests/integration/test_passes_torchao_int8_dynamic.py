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


def near(expected, got, share):
    return 0 < np.abs(got - expected).max() < share * np.abs(expected).max()


@pytest.fixture(scope="module")
def tokens():
    return Dataset({"ids": np.random.default_rng(0).integers(0, 48, (40, 8))}, None)


@pytest.fixture(scope="module")
def vectors():
    return Dataset({"x": np.random.default_rng(0).standard_normal((40, 256), dtype=np.float32)}, None)


@pytest.fixture(scope="module")
def encoder(shop, tokens):
    return shop.source("factory", tokens, target=f"{NETS}:encoder")


@pytest.fixture(scope="module")
def quantized(shop, encoder, tokens):
    return shop.apply("torchao_int8_dynamic", encoder, tokens)


def test_the_linear_layers_of_an_encoder_hold_int8_tensors_after_they_were_saved_and_opened(quantized):
    from torchao.quantization import Int8Tensor

    module = opened(quantized)
    layers = {name: part for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)}
    assert len(layers) == 7
    for layer in layers.values():
        assert type(layer.weight) is Int8Tensor and layer.weight.qdata.dtype is torch.int8
        assert layer.weight.qdata.shape == (layer.out_features, layer.in_features)
        assert layer.weight.scale.shape == (layer.out_features, 1)
        assert layer.weight.act_quant_kwargs is not None
        assert layer.bias.dtype is torch.float32
    assert type(module.tokens.weight) is torch.nn.Parameter and module.tokens.weight.dtype is torch.float32
    rows = sum(layer.out_features for layer in layers.values())
    weights = sum(layer.out_features * layer.in_features for layer in layers.values())
    assert quantized.steps[-1].notes == (
        "7 of 7 Linear layers quantized",
        f"their weights: {4 * weights:,} bytes before, {weights + (4 + 1) * rows:,} after",  # a float scale and an int8 zero for each row
        "int8 weights, a scale for each row; int8 activations, symmetric, a scale for each token in every call",
    )


def test_the_answers_are_near_those_of_the_float_module_and_not_the_same(shop, encoder, quantized, tokens):
    (expected,), (got,) = (shop.answers("torch", artifact, tokens, size=40) for artifact in (encoder, quantized))
    assert near(expected, got, 0.05)


def test_a_layer_computes_what_its_integers_say(workshop, vectors):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp")
    first = opened(workshop.apply("torchao_int8_dynamic", module, vectors))[0]
    x = torch.from_numpy(vectors.inputs["x"])
    scale = (x.abs().amax(dim=1, keepdim=True) / 127.5).to(torch.float64)
    integers = torch.clamp(torch.round(x / scale), -128, 127)
    by_hand = (integers @ first.weight.qdata.double().T) * scale * first.weight.scale.double().T + first.bias.double()
    with torch.inference_mode():
        difference = (first(x).double() - by_hand).abs()
    # where an activation lies half way between two integers, the last bit of its scale decides: there it is one step, elsewhere nothing
    assert difference.median() < 1e-6 and difference.max() < 0.01


def test_the_file_shrinks_to_a_quarter_of_its_weights(workshop, vectors):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp")
    assert workshop.apply("torchao_int8_dynamic", module, vectors).size_bytes < 0.3 * module.size_bytes


def test_a_fresh_process_that_never_saw_the_project_gives_the_same_answers(shop, tokens, quantized):
    (here,) = shop.answers("torch", quantized, tokens, size=40)
    there = shop.answers_elsewhere("torch", quantized, tokens, batch_size=40)
    np.testing.assert_allclose(there, here, atol=1e-5)


def test_several_inputs_and_a_mapping_of_outputs_are_kept(workshop):
    generator = np.random.default_rng(0)
    visits = Dataset(
        {
            "user": generator.integers(0, 200, 40),
            "item": generator.integers(0, 300, 40),
            "visit": generator.standard_normal((40, 32), dtype=np.float32),
        },
        None,
    )
    module = workshop.source("factory", visits, target=f"{NETS}:recommender")
    artifact = workshop.apply("torchao_int8_dynamic", module, visits, activations="asymmetric")
    assert artifact.inputs == module.inputs and artifact.outputs == module.outputs
    assert artifact.steps[-1].notes[0] == "3 of 3 Linear layers quantized"
    (expected, _), (got, _) = (workshop.answers("torch", one, visits, size=40) for one in (module, artifact))
    assert near(expected, got, 0.1)


def test_a_model_of_transformers_is_quantized(workshop):
    pytest.importorskip("transformers")
    ids = np.random.default_rng(0).integers(0, 60, (8, 12))
    data = Dataset({"input_ids": ids, "attention_mask": np.ones_like(ids)}, None)
    module = workshop.source("factory", data, target=f"{NETS}:bert")
    artifact = workshop.apply("torchao_int8_dynamic", module, data, exclude=("classifier", "bert.encoder.layer.0"))
    told = artifact.steps[-1].notes[0]
    assert told.startswith("7 of 14 Linear layers quantized; in float: bert.encoder.layer.0.attention.self.query (excluded), ")
    assert told.endswith(" and 2 more")
    (expected,), (got,) = (workshop.answers("torch", one, data, size=8) for one in (module, artifact))
    assert near(expected, got, 0.05)


def test_activations_behind_a_relu_lose_less_where_they_are_mapped_asymmetric(workshop, vectors):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp")
    (expected,) = workshop.answers("torch", module, vectors, size=40)
    errors = {}
    for mapping in ("symmetric", "asymmetric"):
        artifact = workshop.apply("torchao_int8_dynamic", module, vectors, activations=mapping, exclude=("0",))
        errors[mapping] = np.abs(workshop.answers("torch", artifact, vectors, size=40)[0] - expected).mean()
    assert errors["asymmetric"] < 0.8 * errors["symmetric"]


def test_a_reduced_range_keeps_to_seven_bits(workshop, vectors):
    module = workshop.source("factory", vectors, target=f"{NETS}:mlp")
    artifact = workshop.apply("torchao_int8_dynamic", module, vectors, reduce_range=True)
    assert 60 <= opened(artifact)[0].weight.qdata.abs().max() <= 64


def test_a_tied_weight_stays_shared_and_in_float(workshop, tokens):
    artifact = workshop.apply("torchao_int8_dynamic", workshop.source("factory", tokens, target=f"{NETS}:tied"), tokens)
    assert artifact.steps[-1].notes[0] == "1 of 2 Linear layers quantized; in float: head (shares its weight with another layer)"
    module = opened(artifact)
    assert module.head.weight is module.tokens.weight


def test_a_module_that_is_one_linear_layer_is_quantized(workshop, rows):
    artifact = workshop.apply("torchao_int8_dynamic", workshop.source("factory", rows, target=f"{NETS}:plain"), rows)
    assert opened(artifact).weight.qdata.dtype is torch.int8


def test_convolutions_that_stay_in_float_are_told(workshop, images, cnn):
    artifact = workshop.apply("torchao_int8_dynamic", cnn, images)
    assert artifact.steps[-1].notes[-1] == "2 convolutions left in float: pt2e_static_int8 reaches them"


def test_equal_modules_give_equal_bytes(workshop, encoder, tokens, quantized):
    assert workshop.apply("torchao_int8_dynamic", encoder, tokens).sha256 == quantized.sha256 != encoder.sha256


def test_the_settings_of_torchs_compiler_are_left_alone(workshop, encoder, tokens):
    import torch._inductor.config as settings

    before = settings.save_config()
    workshop.apply("torchao_int8_dynamic", encoder, tokens)
    assert settings.save_config() == before


@pytest.mark.parametrize("second", ["torchao_int8_dynamic", "torchao_int8_weight_only", "torchao_int4_weight_only"])
def test_what_is_quantized_already_is_refused(workshop, tokens, quantized, second):
    with pytest.raises(CannotMeasure, match=r"already quantized \(layer 'blocks.layers.0.self_attn.out_proj'\)"):
        workshop.apply(second, quantized, tokens)


def test_what_torch_itself_has_quantized_is_refused(workshop, vectors):
    classic = workshop.apply("torch_dynamic_int8", workshop.source("factory", vectors, target=f"{NETS}:mlp"), vectors)
    with pytest.raises(CannotMeasure, match=r"already quantized \(layer '0'\)"):
        workshop.apply("torchao_int8_dynamic", classic, vectors)


def test_a_module_with_nothing_to_quantize_is_refused_with_what_it_has(workshop, rows):
    module = workshop.source("factory", rows, target="twins/left/net.py:build")
    with pytest.raises(CannotMeasure, match="no Linear layer to quantize in this module") as raised:
        workshop.apply("torchao_int8_dynamic", module, rows)
    assert "it has Constant" in str(raised.value)


def test_a_module_of_which_no_layer_can_be_quantized_is_refused_with_the_reason(workshop, rows):
    module = workshop.source("factory", rows, target=f"{NETS}:normed_weight")
    with pytest.raises(CannotMeasure, match="can quantize none of the 1 Linear layers") as raised:
        workshop.apply("torchao_int8_dynamic", module, rows)
    assert "0: its weight is computed from other parameters" in str(raised.value)


def test_a_name_to_exclude_that_fits_no_layer_is_refused_with_the_nearest_one(workshop, tokens, encoder):
    with pytest.raises(BadInput, match="excludes 'haed'") as raised:
        workshop.apply("torchao_int8_dynamic", encoder, tokens, exclude=("haed",))
    assert "did you mean 'head'?" in str(raised.value)


def test_the_libraries_that_torchao_misses_on_a_cpu_are_not_spoken_of():
    code = "from harness.formats.torchao_tensors import import_quietly; import_quietly()"
    told = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("", "")


def test_a_scenario_runs_it_and_the_report_tells_what_was_quantized(workshop):
    scenario = workshop.root / "small.yaml"
    scenario.write_text("""
version: 1
name: small
model: {factory: "torchao_nets.py:mlp"}
data: {random: {x: "float32[256]"}, samples: 16}
recipes:
  int8: {passes: [torchao_int8_dynamic: {exclude: ["2"]}], runtime: torch}
measure: {launches: 2, duration: 0.1 s, warm_up: 0.1 s}
""")
    command = [sys.executable, "-m", "harness.cli", "run", scenario.name]
    done = subprocess.run(command, cwd=scenario.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    report = (scenario.parent / "reports" / "latest" / "report.html").read_text()
    assert "1 of 2 Linear layers quantized; in float: 2 (excluded)" in report
