import os

import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def tokens():
    """Ids and mask of a vocabulary of 99, the second half of every other row padded."""
    ids = np.random.default_rng(0).integers(1, 99, (12, 8))
    mask = np.ones_like(ids)
    mask[::2, 4:] = 0
    return Dataset({"input_ids": ids, "attention_mask": mask}, None)


@pytest.fixture(scope="session")
def small_bert():
    """A BERT of two layers, small enough to be drawn."""
    torch.manual_seed(11)
    config = transformers.BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=16
    )
    return transformers.BertModel(config).eval()


@pytest.fixture
def saved(workshop, small_bert):
    small_bert.save_pretrained(workshop.root / "bert")
    return "bert"


def test_a_local_folder_gives_its_model_with_the_principal_output_first(workshop, tokens, small_bert, saved):
    artifact = workshop.source("huggingface", tokens, id=saved)
    assert artifact.format == "torch_module"
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [
        ("input_ids", "int64", (None, 8)),
        ("attention_mask", "int64", (None, 8)),
    ]
    assert [(spec.name, spec.shape) for spec in artifact.outputs] == [("last_hidden_state", (None, 8, 32)), ("pooler_output", (None, 32))]
    assert artifact.steps[0].notes == (f"{sum(one.numel() for one in small_bert.parameters()):,} parameters",)
    with torch.inference_mode():
        expected = small_bert(**{name: torch.from_numpy(values) for name, values in tokens.inputs.items()}).last_hidden_state.numpy()
    (workshop.root / saved).rename(workshop.root / "moved")
    np.testing.assert_allclose(workshop.answers_elsewhere("torch", artifact, tokens), expected, atol=1e-5)


def test_an_embedding_is_the_mean_over_the_mask_scaled_to_length_one(workshop, tokens, small_bert, saved):
    artifact = workshop.source("huggingface", tokens, id=saved, task="embedding")
    with torch.inference_mode():
        states = small_bert(**{name: torch.from_numpy(values) for name, values in tokens.inputs.items()}).last_hidden_state.numpy()
    expected = np.stack([row[mask == 1].mean(axis=0) for row, mask in zip(states, tokens.inputs["attention_mask"], strict=True)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(workshop.answers("torch", artifact, tokens, size=12)[0], expected, atol=1e-5)


def test_a_head_that_the_weights_do_not_hold_is_drawn_from_the_seed_and_named(workshop, tokens, saved):
    first, again, other = (
        workshop.build("huggingface", tokens, {"id": saved, "task": "text-classification"}, seed=seed) for seed in (1, 1, 2)
    )
    assert "not in the weights and drawn at random: classifier.bias, classifier.weight" in first.steps[0].notes
    assert first.sha256 == again.sha256 != other.sha256


def test_a_checkpoint_in_half_precision_runs_in_the_precision_that_is_asked_for(workshop, tokens, small_bert):
    small_bert.half().save_pretrained(workshop.root / "half")
    small_bert.float()
    artifact = workshop.source("huggingface", tokens, id="half")
    with workshop.open("torch", artifact, dtype="float32") as session:
        assert session.facts.precision == "float32"
    with workshop.open("torch", artifact, dtype="float16") as session:
        assert session.facts.precision == "float16"


def test_every_file_of_a_local_folder_decides_the_digest_and_a_hub_id_is_a_name_with_its_revision(workshop, saved):
    source = plugins.load("sources", "huggingface")
    local = source(id=saved).depends_on(workshop.root)
    assert {file.name for file in local.files} == {"config.json", "model.safetensors"}
    assert not local.names
    assert source(id="org/name", revision="abc").depends_on(workshop.root).names == ("org/name@abc",)
    assert source(id="org/name").depends_on(workshop.root).names == ("org/name@main",)


def test_real_weights_know_which_sentences_mean_the_same(shop, minilm, sentences):
    assert minilm.steps[0].notes == ("22,713,216 parameters",)
    assert [spec.shape for spec in minilm.outputs] == [(None, 384)]
    cat, kitten, bank = shop.answers("torch", minilm, sentences, size=3)[0]
    assert cat @ cat == pytest.approx(1, abs=1e-5)
    assert cat @ kitten > 0.5 > 0.2 > abs(cat @ bank)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no model 'bert' in this folder"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345"), "header too small"),
        (lambda folder: (folder / "config.json").write_text("{"), "no model 'bert' in this folder"),
    ],
    ids=["no config", "no weights", "weights that are no weights", "a config that is no JSON"],
)
def test_a_folder_that_is_not_whole_is_refused(workshop, tokens, saved, spoil, said):
    spoil(workshop.root / saved)
    with pytest.raises(CannotMeasure, match=said):
        workshop.source("huggingface", tokens, id=saved)


def test_a_model_of_another_kind_than_the_task_is_refused(workshop, tokens, saved):
    with pytest.raises(CannotMeasure, match="AutoModelForImageClassification"):
        workshop.source("huggingface", tokens, id=saved, task="image-classification")


@pytest.mark.parametrize("name", ["nobody/has-this-model", "./no-such-folder"])
def test_an_id_that_is_not_there_says_what_to_check(workshop, tokens, name):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(CannotMeasure, match=f"no model '{name}' on the hub") as raised:
        workshop.source("huggingface", tokens, id=name, revision="0123abc")
    assert "check the id, the revision and the network" in str(raised.value)
