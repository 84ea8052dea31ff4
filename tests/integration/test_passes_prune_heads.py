import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from fakes.lessons import same, state  # noqa: E402 - needs torch

LAYER = "bert.encoder.layer.{}.attention"


@pytest.fixture(scope="session")
def texts():
    draw = np.random.default_rng(1)
    mask = (np.arange(8) < draw.integers(3, 9, (24, 1))).astype(np.int64)
    return Dataset({"input_ids": draw.integers(0, 50, (24, 8)), "attention_mask": mask}, draw.integers(0, 3, 24))


@pytest.fixture(scope="session")
def bert(shop, texts):
    return shop.source("factory", texts, target="digits_nets.py:bert")


def without_targets(data):
    return Dataset(data.inputs, None)


def widths(artifact, layers=2):
    """Rows of queries, keys and values and columns of the output projection, layer by layer."""
    tensors, names = state(artifact), ("self.query", "self.key", "self.value")
    inside = [[len(tensors[f"{LAYER.format(layer)}.{name}.weight"]) for name in names] for layer in range(layers)]
    return [[*rows, tensors[f"{LAYER.format(layer)}.output.dense.weight"].shape[1]] for layer, rows in enumerate(inside)]


def by_hand(shop, artifact, data, measure):
    """What ``measure(module)`` says of the opened module, for answers worked out without the code under test."""
    with shop.open("torch", artifact) as session:
        return measure(session.module)


def silenced_loss(module, data, layer, head, gate):
    """The summed cross entropy with one head's output multiplied by a gate, by changing the weights that read it."""
    out = module.bert.encoder.layer[layer].attention.output.dense
    inputs = {name: torch.from_numpy(values) for name, values in data.inputs.items()}
    kept = out.weight.detach().clone()
    with torch.no_grad():
        out.weight[:, head * 8 : head * 8 + 8] *= gate
        logits = module(**inputs).logits
        out.weight.copy_(kept)
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.targets), reduction="none")


def test_half_of_the_heads_are_gone_and_the_projections_really_smaller(shop, bert, texts):
    pruned = shop.apply("prune_heads", bert, texts, ratio=0.5, scope="layer")
    assert widths(pruned) == [[16, 16, 16, 16], [16, 16, 16, 16]]
    removed = 2 * (3 * (16 * 32 + 16) + 32 * 16)
    notes = pruned.steps[-1].notes
    assert notes[0] == f"4 of 8 heads kept ({LAYER.format(0)} 2, {LAYER.format(1)} 2)"
    assert notes[1].split(" after")[0].endswith(f"{sum(v.numel() for v in state(bert).values()) - removed:,}")
    assert notes[2] == "importance: gradient of cross_entropy over 24 samples"
    assert bert.size_bytes - pruned.size_bytes > 0.9 * 4 * removed
    assert pruned.outputs == bert.outputs


def test_answers_are_those_of_the_module_with_the_other_heads_silenced(shop, bert, texts):
    pruned = shop.apply("prune_heads", bert, texts, ratio=0.5)
    original, left = state(bert), state(pruned)
    with shop.open("torch", bert) as session:
        for layer in range(2):
            name = LAYER.format(layer)
            rows = original[f"{name}.self.query.weight"].reshape(4, 8, 32)
            kept = left[f"{name}.self.query.weight"].reshape(-1, 8, 32)
            gone = [head for head in range(4) if not any(torch.equal(rows[head], other) for other in kept)]
            with torch.no_grad():
                weight = session.module.bert.encoder.layer[layer].attention.output.dense.weight
                for head in gone:
                    weight[:, head * 8 : head * 8 + 8] = 0
        (expected,) = session.outputs(session.run(session.prepare(texts.batch(0, 24))))
    (got,) = shop.answers("torch", pruned, texts, size=24)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(got - shop.answers("torch", bert, texts, size=24)[0]).max() > 1e-4
    np.testing.assert_array_equal(shop.answers_elsewhere("torch", pruned, texts, batch_size=24), got)


def test_by_gradient_the_heads_go_whose_gates_move_the_loss_least(shop, bert, texts):
    def slopes(module):
        module = module.double()
        epsilon = 1e-4
        found = torch.zeros(2, 4)
        for layer, head in np.ndindex(2, 4):
            high, low = (silenced_loss(module, texts, layer, head, gate) for gate in (1 + epsilon, 1 - epsilon))
            found[layer, head] = ((high - low) / (2 * epsilon)).abs().sum()
        return found

    expected = by_hand(shop, bert, texts, slopes)
    pruned = shop.apply("prune_heads", bert, texts, ratio=0.25, scope="layer")
    original, left = state(bert), state(pruned)
    for layer in range(2):
        name = f"{LAYER.format(layer)}.self.value.weight"
        kept = sorted(expected[layer].argsort()[1:].tolist())
        assert torch.equal(left[name], original[name].reshape(4, 8, 32)[kept].reshape(24, 32))


def test_without_targets_the_heads_go_that_add_least_where_tokens_are_not_hidden(shop, bert, texts):
    def lengths(module):
        seen = {}
        for layer in range(2):
            dense = module.bert.encoder.layer[layer].attention.output.dense
            dense.register_forward_pre_hook(lambda _, given, layer=layer: seen.update({layer: given[0]}))
        with torch.no_grad():
            module(**{name: torch.from_numpy(values) for name, values in texts.inputs.items()})
        mask, found = torch.from_numpy(texts.inputs["attention_mask"]).bool(), torch.zeros(2, 4)
        for layer, head in np.ndindex(2, 4):
            part = slice(head * 8, head * 8 + 8)
            weight = module.bert.encoder.layer[layer].attention.output.dense.weight[:, part]
            found[layer, head] = (seen[layer][..., part] @ weight.T).norm(dim=-1)[mask].sum()
        return found.detach()

    expected = by_hand(shop, bert, texts, lengths)
    pruned = shop.apply("prune_heads", bert, texts, calibration=without_targets(texts), ratio=0.25, scope="layer")
    assert pruned.steps[-1].notes[2] == "importance: length of each head's output over 24 samples"
    for layer in range(2):
        name = f"{LAYER.format(layer)}.self.key.weight"
        kept = sorted(expected[layer].argsort()[1:].tolist())
        assert torch.equal(state(pruned)[name], state(bert)[name].reshape(4, 8, 32)[kept].reshape(24, 32))


def test_at_least_one_head_stays_in_every_layer(shop, bert, texts):
    for scope in ("layer", "global"):
        assert [rows[0] for rows in widths(shop.apply("prune_heads", bert, texts, ratio=0.95, scope=scope))] == [8, 8]


def test_every_layer_keeps_as_many_heads_as_are_asked_for(shop, bert, texts):
    assert [rows[0] for rows in widths(shop.apply("prune_heads", bert, texts, heads=3))] == [24, 24]


def test_excluded_layers_keep_their_heads(shop, bert, texts):
    pruned = shop.apply("prune_heads", bert, texts, ratio=0.5, exclude=("bert.encoder.layer.0",))
    assert [rows[0] for rows in widths(pruned)] == [32, 16]


def test_the_real_minilm_keeps_its_meaning_when_few_heads_go(shop, minilm, sentences):
    pruned = shop.apply("prune_heads", minilm, sentences, ratio=0.1)
    assert pruned.steps[-1].notes[0].startswith("65 of 72 heads kept")
    assert minilm.size_bytes - pruned.size_bytes > 7 * 4 * 32 * 384 * 4
    (before,), (after,) = (shop.answers("torch", artifact, sentences, size=3) for artifact in (minilm, pruned))
    cosines = (before * after).sum(axis=1)
    assert cosines.min() > 0.9 and cosines.max() < 0.99999
    assert after[0] @ after[1] > after[0] @ after[2] + 0.3


@pytest.mark.parametrize(("target", "part"), [("distilbert", "transformer.layer.0.attention.q_lin"), ("vit", "attention.q_proj")])
def test_other_encoders_of_transformers_are_pruned_too(shop, texts, target, part):
    images = Dataset({"x": np.random.default_rng(3).standard_normal((8, 1, 8, 8), dtype=np.float32)}, np.arange(8) % 10)
    data = images if target == "vit" else without_targets(texts)
    module = shop.source("factory", data, target=f"digits_nets.py:{target}")
    pruned = shop.apply("prune_heads", module, data, ratio=0.5, scope="layer")
    found = {len(value) for name, value in state(pruned).items() if name.endswith(f"{part}.weight")}
    assert found == {16}
    assert shop.answers_elsewhere("torch", pruned, data).shape[1:] == tuple(module.outputs[0].shape[1:])


def test_the_graph_that_is_exported_has_the_smaller_products(shop, bert, texts):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    graph = shop.apply("export_onnx", shop.apply("prune_heads", bert, texts, ratio=0.5, scope="layer"), texts)
    shapes = [tuple(tensor.dims) for tensor in onnx.load(graph.path).graph.initializer]
    assert shapes.count((32, 16)) + shapes.count((16, 32)) == 2 * 4
    assert shapes.count((32, 32)) == 1, "that of the pooler"


def test_the_same_module_and_samples_give_the_same_tensors(shop, bert, texts):
    assert same(*(shop.apply("prune_heads", bert, texts, ratio=0.5) for _ in range(2)))


def test_torchs_own_attention_is_refused_with_what_to_do(shop):
    data = Dataset({"x": np.zeros((4, 8, 16), dtype=np.float32)}, None)
    module = shop.source("factory", data, target="digits_nets.py:packed")
    with pytest.raises(CannotMeasure, match=r"'layer\.self_attn' is a torch\.nn\.MultiheadAttention") as raised:
        shop.apply("prune_heads", module, data)
    assert "build the model with a linear layer each" in str(raised.value)


def test_a_module_without_attention_is_refused(shop, mlp, rows):
    with pytest.raises(CannotMeasure, match="no attention of a known layout in this module"):
        shop.apply("prune_heads", mlp, rows)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"ratio": 0.01}, CannotMeasure, "'prune_heads' would remove none of 8 heads in 2 layers"),
        ({"heads": 4}, CannotMeasure, "would remove none of 8 heads"),
        ({"exclude": ("bert.encoder.layer.7",)}, BadInput, "did you mean 'bert.encoder.layer."),
        ({"loss": "mse"}, CannotMeasure, "'mse' does not fit them"),
    ],
)
def test_options_that_leave_nothing_to_do_or_do_not_fit_are_refused(shop, bert, texts, options, kind, said):
    with pytest.raises(kind) as raised:
        shop.apply("prune_heads", bert, texts, **options)
    assert said in str(raised.value)


def test_a_gradient_without_targets_and_labels_beyond_the_outputs_are_refused(shop, bert, texts):
    with pytest.raises(CannotMeasure, match=r"data\.calibration has no targets, which the gradient needs"):
        shop.apply("prune_heads", bert, texts, calibration=without_targets(texts), importance="gradient")
    with pytest.raises(CannotMeasure, match="the targets are classes 0 to 7, and the model has 3 outputs"):
        shop.apply("prune_heads", bert, texts, calibration=Dataset(texts.inputs, np.arange(24) % 8))
    with pytest.raises(CannotMeasure, match=r"data\.calibration gives the inputs ids, and the model takes input_ids, attention_mask"):
        shop.apply("prune_heads", bert, texts, calibration=Dataset({"ids": texts.inputs["input_ids"]}, None))
