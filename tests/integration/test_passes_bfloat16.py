import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure
from harness.formats import precision

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


@pytest.fixture(scope="session")
def clicks():
    generator = np.random.default_rng(0)
    return Dataset({"dense": generator.standard_normal((12, 8), dtype=np.float32), "items": generator.integers(0, 50, (12, 4))}, None)


@pytest.fixture(scope="session")
def residual(shop, images):
    return built(shop, images, "residual")


@pytest.fixture(scope="session")
def cast(shop, residual, images):
    return shop.apply("bfloat16", residual, images)


def dtypes(session):
    return {name: value.dtype for name, value in session.module.state_dict().items() if value.is_floating_point()}


def test_every_floating_weight_and_buffer_is_bfloat16_in_the_session_and_half_the_bytes_are_left(shop, residual, cast):
    with shop.open("torch", cast) as session:
        assert set(dtypes(session).values()) == {torch.bfloat16}
        assert session.module.body[0].norm.num_batches_tracked.dtype is torch.int64
        assert session.facts.precision == "bfloat16"
    weights = {name: value for name, value in torch.load(cast.folder / "state.pt").items() if value.is_floating_point()}
    values = sum(value.numel() for value in weights.values())
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert cast.steps[-1].notes[0] == f"{values:,} of {values:,} values cast to bfloat16, {4 * values:,} bytes to {2 * values:,}"
    assert residual.size_bytes - cast.size_bytes == pytest.approx(2 * values, abs=64 * len(weights))  # each is aligned in the file


def test_inputs_and_outputs_stay_float32_and_answers_are_near(shop, residual, cast, images):
    assert cast.inputs == residual.inputs and cast.outputs == residual.outputs
    with shop.open("torch", cast) as session:
        prepared = session.prepare(images.batch(0, 12))
        raw = session.run(prepared)
        assert prepared["x"].dtype is raw.dtype is torch.float32
        (got,) = session.outputs(raw)
    (expected,) = shop.answers("torch", residual, images, size=12)
    assert 0 < np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_it_opens_in_a_fresh_process_and_answers_the_same(shop, cast, images):
    few = Dataset({"x": images.inputs["x"][:8]}, None)
    np.testing.assert_array_equal(shop.answers_elsewhere("torch", cast, few), shop.answers("torch", cast, few, size=4 * 2)[0])


@pytest.mark.parametrize(("name", "data"), [("encoder", "series"), ("recommender", "clicks")])
def test_transformers_and_recommenders_stay_near_too(shop, request, name, data):
    data = request.getfixturevalue(data)
    module = built(shop, data, name)
    artifact = shop.apply("bfloat16", module, data)
    for got, expected in zip(*(shop.answers("torch", one, data, size=12) for one in (artifact, module)), strict=True):
        assert got.dtype == np.float32
        assert 0 < np.abs(got - expected).max() < 0.03 * max(1, np.abs(expected).max())


def test_kept_norms_hold_float32_and_are_called_in_float32(shop, residual, images):
    artifact = shop.apply("bfloat16", residual, images, keep_norms=True)
    with shop.open("torch", artifact) as session:
        found = dtypes(session)
        assert {name for name, dtype in found.items() if dtype is torch.float32} == {name for name in found if ".norm." in name}
        seen = []
        norm = session.module.body[0].norm
        norm.register_forward_hook(lambda _, args, output: seen.append((args[0].dtype, output.dtype)))
        session.run(session.prepare(images.batch(0, 2)))
        assert seen == [(torch.bfloat16, torch.bfloat16)]  # what lies around it is in one precision
        assert norm.forward.args[1:] == ("float32", "bfloat16")
        assert session.facts.precision.startswith("bfloat16 (") and "float32" in session.facts.precision
    assert "; in float32: body.0.norm, body.1.norm (128 values)" in artifact.steps[-1].notes[0]


def test_kept_norms_of_a_transformer_keep_its_answers(shop, series):
    module = built(shop, series, "encoder")
    artifact = shop.apply("bfloat16", module, series, keep_norms=True)
    assert "layers.layers.0.norm1" in artifact.steps[-1].notes[0]
    (got,), (expected,) = (shop.answers("torch", one, series, size=12) for one in (artifact, module))
    assert 0 < np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_a_kept_head_gives_answers_that_bfloat16_could_not_hold(shop, residual, cast, images):
    kept = shop.apply("bfloat16", residual, images, keep=("head",))
    (rounded,), (whole,) = (shop.answers("torch", one, images, size=12) for one in (cast, kept))

    def held(values):
        return np.array_equal(torch.from_numpy(values).bfloat16().float().numpy(), values)

    assert held(rounded) and not held(whole)
    with shop.open("torch", kept) as session:
        assert dtypes(session)["head.weight"] is torch.float32 and dtypes(session)["stem.weight"] is torch.bfloat16


def test_a_pattern_keeps_all_that_lies_below_it(shop, residual, images):
    with shop.open("torch", shop.apply("bfloat16", residual, images, keep=("body.*",))) as session:
        kept = {name.split(".")[0] for name, dtype in dtypes(session).items() if dtype is torch.float32}
        assert kept == {"body"}


def test_a_tied_weight_stays_one_tensor_in_one_precision(workshop):
    tokens = Dataset({"tokens": np.random.default_rng(0).integers(0, 20, (6, 3))}, None)
    module = built(workshop, tokens, "tied")
    artifact = workshop.apply("bfloat16", module, tokens)
    with workshop.open("torch", artifact) as session:
        assert session.module.head.weight is session.module.table.weight
        assert session.module.head.weight.dtype is torch.bfloat16
    with pytest.raises(CannotMeasure, match="'bfloat16' found no weights to cast") as raised:
        workshop.apply("bfloat16", module, tokens, keep=("head",))  # the table is the head's weight
    assert "kept in float32: head, table" in str(raised.value)


def test_equal_modules_give_equal_bytes(shop, residual, cast, images):
    assert shop.apply("bfloat16", residual, images).sha256 == cast.sha256 != residual.sha256


def test_a_layer_that_is_not_there_is_refused_with_the_nearest_name(shop, residual, images):
    with pytest.raises(BadInput, match=r"'bfloat16' is told to keep 'stemm', which names no layer[^\n]*\n  did you mean 'stem'\?"):
        shop.apply("bfloat16", residual, images, keep=("stemm",))


def test_keep_norms_without_a_norm_is_refused(shop, cnn, images):
    with pytest.raises(CannotMeasure, match="no normalisation layer"):
        shop.apply("bfloat16", cnn, images, keep_norms=True)


def test_a_module_that_is_in_bfloat16_already_is_refused(shop, cast, images):
    with pytest.raises(CannotMeasure, match="'bfloat16' found no weights to cast in this module\n  its weights are in bfloat16"):
        shop.apply("bfloat16", cast, images)


def test_a_module_that_does_not_run_any_more_is_refused_with_its_layer_and_runs_when_that_is_kept(workshop, rows):
    module = built(workshop, rows, "stubborn")
    with pytest.raises(CannotMeasure, match=r"no longer runs \(in layer 'second'\)") as raised:
        workshop.apply("bfloat16", module, rows)
    assert "keep that layer in float32: bfloat16: {keep: [...]}" in str(raised.value)
    kept = workshop.apply("bfloat16", module, rows, keep=("second",))
    (got,), (expected,) = (workshop.answers("torch", one, rows) for one in (kept, module))
    np.testing.assert_allclose(got, expected, atol=0.05)


def test_what_is_quantized_already_is_refused(workshop, mlp, rows):
    quantized = workshop.apply("torch_dynamic_int8", mlp, rows)
    with pytest.raises(CannotMeasure, match="'bfloat16' cannot change layer 'hidden': it is quantized"):
        workshop.apply("bfloat16", quantized, rows)


def test_the_runtime_s_dtype_does_not_undo_it(shop, cast):
    with pytest.raises(CannotMeasure, match="'dtype: float32' would cast weights that a pass has put in a precision of their own"):
        with shop.open("torch", cast, dtype="float32"):
            pass


@pytest.mark.parametrize(("flags", "warned"), [({"avx512f"}, True), ({"avx512f", "amx_bf16"}, False), (None, False)])
def test_a_processor_that_emulates_it_is_told_and_never_refused(shop, residual, images, monkeypatch, flags, warned):
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    artifact = shop.apply("bfloat16", residual, images)
    with shop.open("torch", artifact) as session:
        told = [*artifact.steps[-1].notes, *session.facts.details]
    assert sum("this CPU has no bfloat16 instructions (avx512_bf16, amx_bf16)" in one for one in told) == 2 * warned
