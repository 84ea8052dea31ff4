"""A real TorchServe, with Java 17 or later."""

import json
import sys
import zipfile

import numpy as np
import pytest
from fakes.served_models import CLASSES, FEATURES, ROWS, WEIGHTS, ask, check_a_server, deployment, none_lives, onnx_artifact, python_with

from harness import plugins
from harness.core.artifact import ModelArtifact, TensorSpec
from harness.core.errors import BadInput, CannotMeasure
from harness.core.scenario import PluginRef
from harness.kserve.client import Client

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def python():
    return python_with("HARNESS_TORCHSERVE_PYTHON", "torchserve")


def serve(given, **options):
    return plugins.load("serving", "torchserve")(**options).serve(given)


def script_artifact(folder):
    torch = pytest.importorskip("torch")
    folder.mkdir()
    module = torch.nn.Linear(FEATURES, CLASSES, bias=False).eval()
    module.weight.data = torch.from_numpy(WEIGHTS.T.copy())
    torch.jit.trace(module, torch.zeros(2, FEATURES)).save(str(folder / "model.pt"))
    x, y = TensorSpec("x", "float32", (None, FEATURES)), TensorSpec("y", "float32", (None, CLASSES))
    return ModelArtifact(folder, "torchscript", "model.pt", (x,), (y,), 1, "", ())


@pytest.mark.slow
def test_it_answers_batches_counts_stays_on_its_core_and_leaves_nothing_behind(python, tmp_path):
    with serve(deployment(tmp_path, onnx_artifact(tmp_path / "model")), python=python, max_queue_delay="5 ms") as server:
        assert server.facts().details[0].startswith("TorchServe 0.12.0, one worker, the model opened by onnxruntime 1.")
        pids = check_a_server(server)
        assert server.counters().failed == 1 and server.counters().queue_ns is None
        with zipfile.ZipFile(tmp_path / "server" / "store" / "product.mar") as archive:
            assert json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]["handler"] in archive.namelist()
    assert none_lives(pids)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_file_is_opened_by_torch(python, tmp_path):
    with serve(deployment(tmp_path, script_artifact(tmp_path / "model")), python=python) as server, Client(server.endpoint) as client:
        np.testing.assert_allclose(ask(client, ROWS[:3]), ROWS[:3] @ WEIGHTS, atol=1e-4)
        assert "the model opened by torch 2." in server.facts().details[0]


@pytest.mark.slow
def test_a_file_that_is_no_model_ends_the_start_with_the_workers_words(python, tmp_path):
    artifact = onnx_artifact(tmp_path / "model")
    artifact.path.write_bytes(b"not a model")
    with pytest.raises(CannotMeasure) as refused, serve(deployment(tmp_path, artifact), python=python):
        pass
    assert "TorchServe's worker ended before its model was ready" in str(refused.value) and "INVALID_PROTOBUF" in str(refused.value)


def test_without_the_package_the_error_says_how_to_install_it(tmp_path):
    with (
        pytest.raises(CannotMeasure, match="TorchServe is not installed") as refused,
        serve(deployment(tmp_path, onnx_artifact(tmp_path / "model"))),
    ):
        pass
    assert "pip install torchserve pyyaml torch onnxruntime" in str(refused.value)


def test_what_torchserve_cannot_do_is_refused_before_it_is_started(tmp_path):
    artifact = onnx_artifact(tmp_path / "model")
    refused = [
        ({"device": "cuda"}, CannotMeasure, "for a CPU only, and 'cuda' was asked for"),
        ({"host": "10.0.0.5"}, CannotMeasure, "take orders from all who reach 10.0.0.5: its management has no password"),
        ({"runtime": PluginRef(name="onnxruntime", options={"optimization": "none"})}, BadInput, "options \\(optimization\\) do not reach"),
    ]
    for index, (changes, error, said) in enumerate(refused):
        with pytest.raises(error, match=said), serve(deployment(tmp_path / str(index), artifact, **changes), python=sys.executable):
            pass


def test_without_java_the_error_says_how_to_install_it(python, tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(CannotMeasure, match="needs Java 17, and there is none in JAVA_HOME") as refused:
        with serve(deployment(tmp_path, onnx_artifact(tmp_path / "model")), python=python):
            pass
    assert "apt-get install openjdk-17-jre-headless" in str(refused.value)
