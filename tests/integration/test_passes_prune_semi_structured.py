import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.passes.prune_semi_structured import two_of_four

torch = pytest.importorskip("torch")
from fakes.lessons import same, state, zero_share  # noqa: E402 - needs torch


@pytest.fixture(scope="session")
def uneven(shop, rows):
    return shop.source("factory", rows, target="digits_nets.py:uneven")


@pytest.fixture(scope="session")
def eights():
    return Dataset({"x": np.random.default_rng(0).standard_normal((20, 1, 8, 8), dtype=np.float32)}, None)


def zeros_in_fours(weight):
    """How many zeros each group of four input channels has, written without the code under test."""
    counts = set()
    for index in np.ndindex(weight.shape[0], weight.shape[1] // 4, *weight.shape[2:]):
        out, four, *place = index
        counts.add(sum(float(weight[(out, 4 * four + offset, *place)]) == 0 for offset in range(4)))
    return counts


def test_every_four_neighbours_along_the_input_axis_have_exactly_two_zeros(shop, uneven, rows):
    pruned = shop.apply("prune_semi_structured", uneven, rows)
    for name in ("large.weight", "small.weight"):
        before, after = state(uneven)[name], state(pruned)[name]
        assert zeros_in_fours(after) == {2}
        fours, stayed = before.reshape(-1, 4).abs(), after.reshape(-1, 4) != 0
        assert all(set(four[mask].tolist()) == set(four.sort().values[2:].tolist()) for four, mask in zip(fours, stayed, strict=True))
        assert torch.equal(after[after != 0], before[after != 0])
    assert pruned.steps[-1].notes[:2] == ("2 of 2 layers are 2:4", "50.0% of 672 weights in 2 layers are zero")
    assert "stored dense" in pruned.steps[-1].notes[-1]


def test_convolutions_have_the_pattern_along_their_input_channels_at_each_place_of_the_kernel(shop, eights):
    module = shop.source("factory", eights, target="digits_nets.py:untrained")
    pruned = shop.apply("prune_semi_structured", module, eights, layers=("Conv2d", "Linear"))
    after = state(pruned)
    weights = {name for name, value in after.items() if value.ndim > 1}
    assert {name for name in weights if zero_share(after[name])} == weights - {"stem.weight"}
    assert all(zeros_in_fours(after[name]) == {2} for name in weights - {"stem.weight"})
    assert "left dense: 'stem' (1 inputs)" in pruned.steps[-1].notes


def test_linear_layers_alone_are_pruned_unless_others_are_asked_for(shop, cnn, images):
    after = state(shop.apply("prune_semi_structured", cnn, images))
    assert {name for name, value in after.items() if zero_share(value)} == {"head.weight"}


def test_of_equal_weights_the_first_two_stay():
    assert two_of_four(torch.ones(1, 8)).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
    assert two_of_four(torch.tensor([[1.0, -3.0, 2.0, 3.0]])).tolist() == [[0, -3, 0, 3]]


def test_the_module_runs_dense_in_a_fresh_process_with_the_pruned_weights(shop, uneven, rows):
    pruned = shop.apply("prune_semi_structured", uneven, rows)
    weights, x = state(pruned), torch.from_numpy(rows.inputs["x"][:4])
    expected = torch.relu(x @ weights["large.weight"].T + weights["large.bias"]) @ weights["small.weight"].T + weights["small.bias"]
    np.testing.assert_allclose(shop.answers_elsewhere("torch", pruned, rows)[:4], expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_keeps_its_embeddings_and_gets_the_pattern_in_every_linear_layer(shop):
    draw = np.random.default_rng(1)
    data = Dataset({"input_ids": draw.integers(0, 50, (8, 8)), "attention_mask": np.ones((8, 8), dtype=np.int64)}, None)
    module = shop.source("factory", data, target="digits_nets.py:bert")
    pruned = shop.apply("prune_semi_structured", module, data)
    after = state(pruned)
    linear = {name for name, value in after.items() if value.ndim == 2 and "embeddings" not in name}
    assert len(linear) == 14 and all(zeros_in_fours(after[name]) == {2} for name in linear)
    assert pruned.outputs == module.outputs
    assert torch.equal(after["bert.embeddings.word_embeddings.weight"], state(module)["bert.embeddings.word_embeddings.weight"])


def test_the_same_module_gives_the_same_tensors(shop, uneven, rows):
    first, second = (shop.apply("prune_semi_structured", uneven, rows) for _ in range(2))
    assert same(first, second) and first.sha256 == second.sha256 != uneven.sha256


def test_what_has_the_pattern_already_is_refused(shop, uneven, rows):
    with pytest.raises(CannotMeasure, match="changed nothing: all of 2 layers have the 2:4 pattern already"):
        shop.apply("prune_semi_structured", shop.apply("prune_semi_structured", uneven, rows), rows)


def test_a_module_without_an_axis_that_divides_by_four_is_refused(shop, eights):
    module = shop.source("factory", eights, target="digits_nets.py:untrained")
    with pytest.raises(CannotMeasure, match=r"no layer here has an input axis that divides by four: 'stem' \(1 inputs\)"):
        shop.apply("prune_semi_structured", module, eights, layers=("Conv2d",), exclude=("blocks",))
