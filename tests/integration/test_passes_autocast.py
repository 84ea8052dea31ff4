import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.formats import precision

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


@pytest.fixture(scope="session")
def residual(shop, images):
    return built(shop, images, "residual")


@pytest.fixture(scope="session")
def autocast(shop, residual, images):
    return shop.apply("autocast", residual, images)


def test_weights_stay_float32_and_products_are_computed_in_bfloat16(shop, residual, autocast, images):
    assert autocast.size_bytes == residual.size_bytes and autocast.sha256 == residual.sha256
    assert autocast.steps[-1].notes[0] == "4 of 4 matrix products and convolutions of a call in bfloat16"
    with shop.open("torch", autocast) as session:
        assert {weight.dtype for weight in session.module.parameters()} == {torch.float32}
        seen = {}
        for name in ("stem", "head"):
            session.module.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.dtype}))
        session.run(session.prepare(images.batch(0, 2)))
        assert seen == {"stem": torch.bfloat16, "head": torch.bfloat16}
        assert session.facts.precision == "autocast to bfloat16, weights in float32"


def test_answers_are_near_and_come_as_float32(shop, residual, autocast, images):
    (got,), (expected,) = (shop.answers("torch", one, images, size=12) for one in (autocast, residual))
    assert got.dtype == np.float32
    assert 0 < np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_it_survives_saving_and_a_fresh_process(shop, autocast, images):
    few = Dataset({"x": images.inputs["x"][:8]}, None)
    np.testing.assert_array_equal(shop.answers_elsewhere("torch", autocast, few), shop.answers("torch", autocast, few, size=8)[0])


def test_it_survives_being_opened_and_saved_again(shop, autocast, images):
    from harness.formats import torch_module

    context = shop.context(images)
    with shop.open("torch", autocast) as session:
        again = torch_module.save(session.module, context.folder, example=images, root=context.root, steps=())
    with shop.open("torch", again) as session:
        assert precision.autocast_of(session.module) == "bfloat16"
    np.testing.assert_array_equal(*(shop.answers("torch", one, images)[0] for one in (again, autocast)))


def test_float16_is_closer(shop, residual, autocast, images):
    closer = shop.apply("autocast", residual, images, dtype="float16")
    (expected,), (near,), (rough,) = (shop.answers("torch", one, images, size=12) for one in (residual, closer, autocast))
    assert 0 < np.abs(near - expected).max() < 0.5 * np.abs(rough - expected).max()


def test_torch_s_fused_transformer_layers_which_it_does_not_reach_are_told(shop, series):
    artifact = shop.apply("autocast", built(shop, series, "encoder"), series)
    told = "1 of 3 matrix products and convolutions of a call in bfloat16; 2 in float32 inside torch.nn's fused transformer layers"
    assert artifact.steps[-1].notes[0] == told


def test_several_inputs_and_named_outputs_are_kept(shop):
    generator = np.random.default_rng(0)
    data = Dataset({"dense": generator.standard_normal((12, 8), dtype=np.float32), "items": generator.integers(0, 50, (12, 4))}, None)
    artifact = shop.apply("autocast", built(shop, data, "recommender"), data)
    assert [spec.name for spec in artifact.outputs] == ["logits", "interaction"]
    assert artifact.outputs[0].dtype == "bfloat16"


def test_nothing_to_compute_in_half_precision_is_refused(workshop, rows):
    module = workshop.source("factory", rows, target="twins/left/net.py:build")
    with pytest.raises(CannotMeasure, match="autocast changed nothing") as raised:
        workshop.apply("autocast", module, rows)
    assert "convolutions of a call: none at all" in str(raised.value)


def test_what_is_in_bfloat16_already_is_refused(workshop, rows):
    with pytest.raises(CannotMeasure, match="autocast changed nothing") as raised:
        workshop.apply("autocast", built(workshop, rows, "in_bfloat16"), rows)
    assert "1 in bfloat16" in str(raised.value)


def test_twice_is_refused(shop, autocast, images):
    with pytest.raises(CannotMeasure, match="under autocast to bfloat16 already"):
        shop.apply("autocast", autocast, images)


def test_infinity_in_float16_is_refused(workshop, rows):
    with pytest.raises(CannotMeasure, match="under autocast to float16 this module gives NaN or infinity") as raised:
        workshop.apply("autocast", built(workshop, rows, "large_activation"), rows, dtype="float16")
    assert "bfloat16" in str(raised.value)


@pytest.mark.parametrize(("flags", "warned"), [({"avx2"}, True), ({"avx512_bf16"}, False)])
def test_a_processor_that_emulates_it_is_told(shop, residual, images, monkeypatch, flags, warned):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    artifact = shop.apply("autocast", residual, images)
    with shop.open("torch", artifact) as session:
        told = [*artifact.steps[-1].notes, *session.facts.details]
    assert sum("no bfloat16 instructions" in one for one in told) == 2 * warned
