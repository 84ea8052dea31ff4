from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes.served import result_under_load

from harness.cli import cli
from harness.core.errors import BadInput, CannotMeasure
from harness.store.runs import Begun, Runs

SCENARIO = """\
version: 1
name: digits-resnet50
model: {onnx: net.onnx}
data:
  random: {x: "float32[4]"}
recipes:
  int8: {runtime: onnxruntime}
"""


@pytest.fixture
def project(tmp_path, monkeypatch, results):
    """A project with one saved run under load."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"")
    (tmp_path / "s.yaml").write_text(SCENARIO)
    result = result_under_load(results)
    folder = Runs(Path("reports")).create(result.id)
    folder.append(Begun(1, result.id, "run s.yaml", result.started_at, 0, {}))
    folder.save(result, {})
    return tmp_path


def export(*more):
    return CliRunner().invoke(cli, ["export", "kubernetes", "s.yaml", "--image", "i:1", *more])


def test_the_manifests_are_printed_or_written(project):
    told = export("--recipe", "int8", "--capacity", "600 /s", "--load", "2000 /s")
    assert told.exit_code == 0, told.output
    assert "replicas: 5" in told.stdout
    written = export("--recipe", "int8", "--capacity", "600 /s", "--load", "2000 /s", "--output", "k8s.yaml")
    assert written.stdout == "k8s.yaml\n"
    assert Path("k8s.yaml").read_text() == told.stdout


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        (["--recipe", "fp16"], BadInput, "has no recipe 'fp16'"),
        (["--recipe", "int8", "--load", "2000"], BadInput, "--load: '2000' is no rate"),
        (["--recipe", "int8", "--capacity", "fast"], BadInput, "--capacity: 'fast' is not a quantity"),
        (["--recipe", "int8"], CannotMeasure, "has no measured capacity"),
        (["--recipe", "int8", "--run", "nothing"], BadInput, "is not a run here"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_error(project, more, kind, words):
    told = export(*more)
    assert isinstance(told.exception, kind)
    assert words in str(told.exception)
