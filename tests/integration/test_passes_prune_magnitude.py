import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

torch = pytest.importorskip("torch")
from fakes.lessons import same, state, zero_share  # noqa: E402 - needs torch


@pytest.fixture(scope="session")
def uneven(shop, rows):
    return shop.source("factory", rows, target="digits_nets.py:uneven")


@pytest.fixture(scope="session")
def eights():
    return Dataset({"x": np.random.default_rng(0).standard_normal((20, 1, 8, 8), dtype=np.float32)}, None)


def test_half_of_all_weights_are_zero_and_every_shape_is_as_before(shop, cnn, images):
    pruned = shop.apply("prune_magnitude", cnn, images)
    before, after = state(cnn), state(pruned)
    weights = [name for name in after if name.endswith("weight")]
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}
    count = sum(after[name].numel() for name in weights)
    assert sum(int((after[name] == 0).sum()) for name in weights) == count // 2
    assert pruned.steps[-1].notes[0] == f"50.0% of {count:,} weights in 3 layers are zero"
    assert pruned.size_bytes == cnn.size_bytes


def test_the_weights_that_stay_are_the_largest_and_have_not_changed(shop, cnn, images):
    before, after = state(cnn), state(shop.apply("prune_magnitude", cnn, images, scope="layer", amount=0.7))
    for name in ("first.weight", "second.weight", "head.weight"):
        gone = after[name] == 0
        assert gone.sum() == round(0.7 * gone.numel())
        assert before[name][gone].abs().max() <= before[name][~gone].abs().min()
        assert torch.equal(before[name][~gone], after[name][~gone])
    assert all(torch.equal(before[name], after[name]) for name in before if name.endswith("bias"))


def test_globally_the_layer_of_small_weights_loses_most_and_is_named(shop, uneven, rows):
    everywhere = shop.apply("prune_magnitude", uneven, rows, amount=0.3)
    each = shop.apply("prune_magnitude", uneven, rows, amount=0.3, scope="layer")
    assert zero_share(state(everywhere)["small.weight"]) > 0.99 > 0.1 > zero_share(state(everywhere)["large.weight"])
    assert everywhere.steps[-1].notes[1].startswith("most in 'small' (")
    assert "fewest in 'large' (" in everywhere.steps[-1].notes[1]
    assert {round(zero_share(state(each)[f"{name}.weight"]), 2) for name in ("small", "large")} == {0.3}


def test_the_module_opens_as_an_ordinary_one_and_its_answers_are_those_of_its_weights(shop, uneven, rows):
    pruned = shop.apply("prune_magnitude", uneven, rows)
    with shop.open("torch", pruned) as session:
        assert {name for name, _ in session.module.named_parameters()} == {"large.weight", "large.bias", "small.weight", "small.bias"}
        assert not any(part._forward_pre_hooks for part in session.module.modules())
    weights, x = state(pruned), torch.from_numpy(rows.inputs["x"][:4])
    hidden = torch.relu(x @ weights["large.weight"].T + weights["large.bias"])
    expected = hidden @ weights["small.weight"].T + weights["small.bias"]
    np.testing.assert_allclose(shop.answers("torch", pruned, rows)[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(shop.answers_elsewhere("torch", pruned, rows)[:4], shop.answers("torch", pruned, rows)[0])


def test_answers_after_a_little_pruning_are_near_the_original_and_not_the_same(shop, cnn, images):
    pruned = shop.apply("prune_magnitude", cnn, images, amount=0.1)
    (expected,), (got,) = (shop.answers("torch", artifact, images, size=40) for artifact in (cnn, pruned))
    assert 0 < np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_kinds_of_layer_and_modules_with_all_that_is_in_them_are_left_alone(shop, eights):
    module = shop.source("factory", eights, target="digits_nets.py:untrained")
    after = state(shop.apply("prune_magnitude", module, eights, layers=("Conv2d",), exclude=("blocks.0", "stem")))
    pruned = {name for name, value in after.items() if value.ndim > 1 and zero_share(value)}
    assert pruned == {f"blocks.2.{name}.weight" for name in ("narrow", "mix", "left", "right")}


def test_tables_of_a_recommender_are_pruned_when_they_are_asked_for(shop):
    draw = np.random.default_rng(0)
    ids = {name: draw.integers(0, 200, 20) for name in ("user", "item")}
    data = Dataset({**ids, "features": draw.standard_normal((20, 4), dtype=np.float32)}, None)
    module = shop.source("factory", data, target="digits_nets.py:recommender")
    after = state(shop.apply("prune_magnitude", module, data, layers=("Embedding",), amount=0.9))
    assert round(zero_share(torch.cat([after["users.weight"], after["items.weight"]])), 3) == 0.9
    assert zero_share(after["deep.0.weight"]) == 0


def test_a_matrix_that_two_layers_share_is_counted_once_and_stays_shared(shop, rows):
    pruned = shop.apply("prune_magnitude", shop.source("factory", rows, target="digits_nets.py:tied"), rows)
    assert pruned.steps[-1].notes[0] == "50.0% of 1,024 weights in 1 layers are zero"
    with shop.open("torch", pruned) as session:
        assert session.module.first.weight is session.module.second.weight


def test_the_same_module_gives_the_same_tensors(shop, cnn, images):
    first, second = (shop.apply("prune_magnitude", cnn, images) for _ in range(2))
    assert same(first, second) and not same(first, cnn)
    assert first.sha256 == second.sha256


def test_pruning_again_by_as_much_changes_nothing_and_is_refused(shop, uneven, rows):
    once = shop.apply("prune_magnitude", uneven, rows)
    with pytest.raises(CannotMeasure, match=r"changed nothing: 0\.5 of these weights were zero before"):
        shop.apply("prune_magnitude", once, rows)
    assert shop.apply("prune_magnitude", once, rows, amount=0.6).steps[-1].notes[0].startswith("60.0%")


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"exclude": ("larg",)}, BadInput, "excludes 'larg', which is not in this module\n  did you mean 'large'?"),
        ({"exclude": ("zzz",)}, BadInput, "its modules are large, small"),
        ({"exclude": ("large", "small")}, CannotMeasure, "layer to prune in this module beside those that are excluded"),
        ({"layers": ("Conv2d",)}, CannotMeasure, "no Conv2d layer to prune in this module\n  it has Linear"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(shop, uneven, rows, options, kind, said):
    with pytest.raises(kind) as raised:
        shop.apply("prune_magnitude", uneven, rows, **options)
    assert said in str(raised.value)


def test_a_weight_that_is_computed_is_refused_by_its_name(shop, rows):
    module = shop.source("factory", rows, target="digits_nets.py:masked")
    with pytest.raises(CannotMeasure, match="the weight of layer '0' is computed from other parameters") as raised:
        shop.apply("prune_magnitude", module, rows)
    assert "exclude: [0]" in str(raised.value)
    assert zero_share(state(shop.apply("prune_magnitude", module, rows, exclude=("0",)))["2.weight"]) == 0.5


def test_quantized_layers_are_refused(shop, mlp, rows):
    with pytest.raises(CannotMeasure, match="layer 'hidden' is quantized, and 'prune_magnitude' works on float weights"):
        shop.apply("prune_magnitude", shop.apply("torch_dynamic_int8", mlp, rows), rows)
