"""Models that bring code with them: it is run only where the scenario and the command line both say so."""

import json
import os
import sys
import types

import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput
from harness.core.plugin import BuildContext
from harness.formats import torch_module

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

CONFIGURATION = """
from transformers import PreTrainedConfig

class TinyConfig(PreTrainedConfig):
    model_type = "tiny-own"

    def __init__(self, width=3, **others):
        self.width = width
        super().__init__(**others)
"""
MODEL = """
import os
import torch
from pathlib import Path
from transformers import PreTrainedModel
from .configuration_tiny import TinyConfig

Path(os.environ["MARK"]).touch()

class Tiny(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.linear = torch.nn.Linear(4, config.width)
        self.post_init()

    def forward(self, x):
        return self.linear(x)
"""
CONFIG = {
    "model_type": "tiny-own",
    "width": 3,
    "architectures": ["Tiny"],
    "auto_map": {"AutoConfig": "configuration_tiny.TinyConfig", "AutoModel": "modeling_tiny.Tiny"},
}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that the model's code leaves when it is run."""
    monkeypatch.setenv("MARK", str(tmp_path / "ran"))
    return tmp_path / "ran"


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """transformers copies the code that it runs into a cache of its own: not into the user's."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def rows():
    return Dataset({"x": np.ones((8, 4), np.float32)}, None)


@pytest.fixture
def context(tmp_path, rows):
    """What a build works with; ``remote_code`` is what the command line says."""

    def make(remote_code=False):
        folder = tmp_path / "artifact"
        folder.mkdir()
        return BuildContext(folder, tmp_path, tmp_path, {}, lambda role: rows, 0, "cpu", remote_code)

    return make


@pytest.fixture
def tiny(tmp_path, own_modules):
    """A folder of a model whose class stands in a file beside its weights."""
    from safetensors.torch import save_file

    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "configuration_tiny.py").write_text(CONFIGURATION)
    (folder / "modeling_tiny.py").write_text(MODEL)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weights = {"linear.weight": torch.ones(3, 4), "linear.bias": torch.zeros(3)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return "tiny"


def load(context, **options):
    return plugins.load("sources", "huggingface")(**options).load(context)


@pytest.mark.parametrize(("asked", "allowed"), [(False, False), (False, True), (True, False)])
def test_code_beside_the_weights_is_not_run_on_the_word_of_one_alone(context, tiny, mark, asked, allowed):
    with pytest.raises(BadInput) as caught:
        load(context(remote_code=allowed), id=tiny, trust_remote_code=asked)
    assert not mark.exists()
    assert str(caught.value) == (
        "model.huggingface: 'tiny' needs code that comes with it, which is not run unless the scenario and the command line both say so\n"
        "  read that code; then write 'trust_remote_code: true' under model.huggingface and give --trust-remote-code"
    )


def test_code_beside_the_weights_is_run_where_both_say_so_and_kept_with_the_artifact(context, tiny, mark, rows, tmp_path, workshop):
    artifact = load(context(remote_code=True), id=tiny, trust_remote_code=True)
    assert mark.exists()
    kept = {path.name for path in (artifact.folder / torch_module.CODE).rglob("*.py")}
    assert kept == {"__init__.py", "configuration_tiny.py", "modeling_tiny.py"}
    (tmp_path / "modules").rename(tmp_path / "gone")
    workshop.folder.mkdir()
    assert workshop.answers_elsewhere("torch", artifact, rows).tolist() == [[4.0] * 3] * 8


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc1234"])
def test_code_from_a_hub_is_that_of_one_whole_commit(context, revision):
    with pytest.raises(BadInput) as caught:
        load(context(remote_code=True), id="org/name", revision=revision, trust_remote_code=True)
    assert str(caught.value) == (
        "model.huggingface.revision: 'org/name' is to run code from a hub, and its revision is no commit: what runs could change from day "
        "to day\n  write the 40 hex digits of the commit whose code you have read"
    )


def test_a_switch_that_is_off_leaves_the_content_of_a_baseline_as_it_was():
    kind = plugins.load("sources", "huggingface")
    assert "trust_remote_code" not in kind(id="a").model_dump(mode="json")
    assert kind(id="a", trust_remote_code=True).model_dump(mode="json")["trust_remote_code"] is True


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["MARK"],)


def test_a_pickle_in_the_place_of_weights_is_refused_and_not_run(context, mark, tmp_path):
    import transformers

    config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    config.save_pretrained(tmp_path / "bert")
    torch.save({"embeddings.word_embeddings.weight": Trap()}, tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(BadInput, match="the weights of 'bert' are a pickle that holds more than weights\n  save it again as safetensors"):
        load(context(), id="bert")
    assert not mark.exists()


def test_what_torchvision_fetches_is_read_as_weights_alone(context, mark, tmp_path, monkeypatch):
    """torchvision itself does not load beside this torch: a stand-in reads its download as torchvision does."""
    torch.save({"weight": Trap()}, tmp_path / "fetched.pth")
    models = types.ModuleType("torchvision.models")
    models.list_models = lambda: ["net"]
    models.get_model = lambda name, weights: torch.load(tmp_path / "fetched.pth", weights_only=False)
    package = types.ModuleType("torchvision")
    package.models = models
    package.__spec__ = types.SimpleNamespace(name="torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    with pytest.raises(Exception, match=r"[Ww]eights"):
        plugins.load("sources", "torch_hub")(name="net", weights="DEFAULT").load(context())
    assert not mark.exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
