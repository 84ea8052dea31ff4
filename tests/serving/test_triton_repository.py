"""What Triton is given, and what it counts, without a Triton."""

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness import plugins
from harness.core.artifact import ModelArtifact, TensorSpec
from harness.core.errors import BadInput, CannotMeasure
from harness.core.scenario import PluginRef
from harness.core.serving import Deployment, ServerCounters
from harness.serving import _counters, _triton_installation, _triton_repository
from harness.serving._triton_repository import Batching, Instances

HERE = Path(__file__).parent
X = TensorSpec("x", "float32", (None, 1, 8, 8))
IDS = TensorSpec("ids", "int64", (None, None))
Y = TensorSpec("probabilities", "float16", (None, 10))
CPU = Instances(1, "cpu", 2)


def artifact(folder, *, inputs=(X, IDS), outputs=(Y,), format="onnx", main="model.onnx"):
    return ModelArtifact(folder, format, main, inputs, outputs, 1, "", ())


def deployment(tmp_path, **changes):
    model = changes.pop("artifact", artifact(tmp_path))
    folder = tmp_path / "server"
    folder.mkdir(exist_ok=True)
    runtime = PluginRef(name="onnxruntime", options=changes.pop("options", {}))
    whole = Deployment(model, runtime, tmp_path, "digits", "cpu", 2, (), 1, tmp_path / "data.npz", folder, Path(sys.executable))
    return replace(whole, **changes)


def serve(given, **options):
    with plugins.load("serving", "triton")(**options).serve(given):
        pytest.fail("it was served")


def test_every_setting_of_the_batcher_is_in_the_configuration():
    batching = Batching(32, 2000, (8, 16), 64, 500_000)
    text = _triton_repository.config("digits", artifact(HERE), "python", batching, Instances(3, "cpu", 2))
    assert text == (
        'name: "digits"\n'
        'backend: "python"\n'
        'default_model_filename: "model.py"\n'
        "max_batch_size: 32\n"
        'input { name: "x" data_type: TYPE_FP32 dims: [ 1, 8, 8 ] }\n'
        'input { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] }\n'
        'output { name: "probabilities" data_type: TYPE_FP16 dims: [ 10 ] }\n'
        "instance_group { count: 3 kind: KIND_CPU }\n"
        "dynamic_batching {\n"
        "  preferred_batch_size: [ 8, 16 ]\n"
        "  max_queue_delay_microseconds: 2000\n"
        "  default_queue_policy {\n"
        "    timeout_action: REJECT default_timeout_microseconds: 500000\n"
        "    max_queue_size: 64\n"
        "  }\n"
        "}\n"
    )


def test_the_onnxruntime_backend_is_told_the_threads_and_a_gpu_its_number():
    text = _triton_repository.config("digits", artifact(HERE), "onnxruntime", Batching(8, 0), Instances(1, "cuda:1", 2))
    assert 'default_model_filename: "model.onnx"\n' in text
    assert "instance_group { count: 1 kind: KIND_GPU gpus: [ 1 ] }\n" in text
    assert "dynamic_batching {\n  max_queue_delay_microseconds: 0\n}\n" in text
    assert text.endswith('parameters { key: "intra_op_thread_count" value: { string_value: "2" } }\n')


@pytest.mark.parametrize(
    ("shape", "dims"), [((4, 8), "[ 4, 8 ]"), ((None,), "[ -1 ]")], ids=["a fixed number of samples", "nothing but the batch axis"]
)
def test_a_model_whose_requests_cannot_be_joined_is_served_unbatched(shape, dims):
    fixed = artifact(HERE, inputs=(TensorSpec("x", "float32", shape),), outputs=(Y,))
    text = _triton_repository.config("digits", fixed, "python", Batching(32, 0), CPU)
    assert "max_batch_size: 0\n" in text and f'name: "x" data_type: TYPE_FP32 dims: {dims}' in text
    assert 'output { name: "probabilities" data_type: TYPE_FP16 dims: [ -1, 10 ] }' in text
    assert "dynamic_batching" not in text


def test_the_pytorch_backend_gets_outputs_by_their_place():
    script = artifact(HERE, format="torchscript", main="model.pt")
    text = _triton_repository.config("digits", script, "pytorch", Batching(8, 0), CPU)
    assert 'output { name: "probabilities__0"' in text and 'default_model_filename: "model.pt"' in text


def test_text_is_bytes_to_triton_and_what_the_protocol_has_not_is_refused():
    words = artifact(HERE, inputs=(TensorSpec('a "word"', "object", (None, 1)),))
    assert r'name: "a \"word\"" data_type: TYPE_STRING' in _triton_repository.config("digits", words, "python", Batching(8, 0), CPU)
    with pytest.raises(CannotMeasure, match="'x' is bfloat16"):
        bfloat = artifact(HERE, inputs=(TensorSpec("x", "bfloat16", (None, 1)),))
        _triton_repository.config("digits", bfloat, "python", Batching(8, 0), CPU)


def test_a_native_backend_gets_the_model_with_its_external_data(tmp_path):
    for name in ("model.onnx", "model.onnx.data", "artifact.json"):
        (tmp_path / name).write_text(name)
    _triton_repository.write(tmp_path / "repository", "digits", "the text", artifact(tmp_path), None)
    written = {path.relative_to(tmp_path / "repository").as_posix() for path in (tmp_path / "repository").rglob("*") if path.is_file()}
    assert written == {"digits/config.pbtxt", "digits/1/model.onnx", "digits/1/model.onnx.data"}


def test_the_python_backend_gets_its_model_and_what_it_is_told(tmp_path):
    _triton_repository.write(tmp_path, "digits", "the text", artifact(tmp_path), {"threads": 2})
    assert "class TritonPythonModel" in (tmp_path / "digits" / "1" / "model.py").read_text()
    assert json.loads((tmp_path / "digits" / "1" / "job.json").read_text()) == {"threads": 2}


def test_counters_are_those_of_the_model_and_a_batch_is_counted_once():
    told = json.loads((HERE / "triton_stats.json").read_text())
    found = _counters.from_statistics(told, "m")
    by_request = told["model_stats"][0]["inference_stats"]["compute_infer"]["ns"]
    assert found == ServerCounters(13, 0, 4, 13, 1259816992, 22315545 + 141155850 + 18877931)
    assert found.compute_ns < by_request / 3
    assert _counters.from_statistics(told, "other") is None


def test_tritons_metrics_page_tells_the_same_but_for_the_time_in_the_model():
    page = (HERE / "triton_metrics.txt").read_text()
    found = _counters.from_prometheus(page, "m")
    assert found == ServerCounters(13, 3, 4, 13, 1259809000, None)
    assert _counters.from_prometheus(page, "other") is None


def test_this_programs_own_metrics_page_tells_all():
    page = "\n".join(
        [
            "# TYPE harness_requests counter",
            'harness_requests_total{model="net",outcome="ok"} 40.0',
            'harness_requests_total{model="net",outcome="busy"} 2.0',
            'harness_requests_total{model="net",outcome="timeout"} 1.0',
            'harness_samples_total{model="net"} 44.0',
            'harness_model_restarts_total{model="net"} 1.0',
            'harness_queue_seconds_bucket{le="0.001",model="net"} 40.0',
            'harness_queue_seconds_sum{model="net"} 0.5',
            'harness_inference_seconds_count{model="net"} 11.0',
            'harness_inference_seconds_sum{model="net"} 0.25',
        ]
    )
    assert _counters.from_prometheus(page, "net") == ServerCounters(40, 3, 11, 44, 500_000_000, 250_000_000, 1)


def test_without_a_triton_the_error_says_how_to_install_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure) as refused:
        serve(deployment(tmp_path))
    assert "Triton is not installed: there is no tritonserver in PATH" in str(refused.value)
    assert "pip install nvidia-pytriton==0.7.0 onnxruntime 'numpy<2'" in str(refused.value)


def test_an_interpreter_without_the_package_is_named(tmp_path):
    with pytest.raises(CannotMeasure, match=f"{sys.executable} has no nvidia-pytriton"):
        serve(deployment(tmp_path), python=sys.executable)


@pytest.mark.parametrize(
    ("changes", "options", "error", "said"),
    [
        ({"options": {"optimization": "none"}}, {}, BadInput, "the runtime's options \\(optimization\\) do not reach Triton"),
        ({"batch_size": 16}, {"max_batch_size": 8}, BadInput, "max_batch_size is 8, and one request has 16 samples"),
        ({}, {"preferred_batch_sizes": (4, 16)}, BadInput, "16 is above max_batch_size, 8"),
        ({}, {"python": "no/such/python"}, BadInput, "'no/such/python' does not exist"),
        ({}, {"binary": "no/tritonserver"}, BadInput, "'no/tritonserver' does not exist"),
        (
            {"artifact": artifact(HERE, format="openvino")},
            {},
            CannotMeasure,
            "Triton serves onnx, torchscript, tensorrt; this artifact is openvino",
        ),
    ],
)
def test_what_triton_cannot_do_is_refused_before_it_is_started(tmp_path, changes, options, error, said):
    with pytest.raises(error, match=said):
        serve(deployment(tmp_path, **changes), **options)


def binary_in(folder, script, backends):
    binary = folder / "bin" / "tritonserver"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    for name in backends:
        (folder / "backends" / name).mkdir(parents=True)
    return binary


def test_a_binary_that_ends_is_told_with_what_it_printed_last(tmp_path):
    binary = binary_in(tmp_path / "opt", "echo 'E failed to load digits: Invalid argument'; echo '| table |'; exit 1", ["onnxruntime"])
    (tmp_path / "model.onnx").write_text("not a model")
    with pytest.raises(CannotMeasure) as refused:
        serve(deployment(tmp_path), binary=str(binary))
    assert "Triton ended with exit status 1 before its model was ready" in str(refused.value)
    assert "E failed to load digits: Invalid argument\n" in str(refused.value) and "table" not in str(refused.value)


def test_a_folder_that_is_told_relative_to_here_is_found_by_the_server_that_runs_in_it(tmp_path, monkeypatch):
    binary = binary_in(tmp_path / "opt", 'for one in "$@"; do echo "$one"; done; exit 1', ["onnxruntime"])
    (tmp_path / "model.onnx").write_text("not a model")
    given = deployment(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotMeasure, match=f"--model-repository={tmp_path}/server/repository\n"):
        serve(replace(given, folder=Path("server")), binary=str(binary))


def test_a_binary_that_never_answers_is_ended_after_the_time_that_it_had(tmp_path):
    binary = binary_in(tmp_path / "opt", f"echo $$ > {tmp_path}/pid; exec sleep 600", ["onnxruntime"])
    (tmp_path / "model.onnx").write_text("not a model")
    with pytest.raises(CannotMeasure, match=r"Triton was not ready within 0\.5 s"):
        serve(deployment(tmp_path, start_timeout_s=0.5), binary=str(binary))
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_format_whose_backend_is_missing_is_refused_with_the_backends_that_are_there(tmp_path):
    binary = binary_in(tmp_path / "opt", "exit 1", ["onnxruntime", "python"])
    script = deployment(tmp_path, artifact=artifact(tmp_path, format="torchscript", main="model.pt"))
    with pytest.raises(CannotMeasure, match="has no backend 'pytorch' for torchscript; it has onnxruntime, python"):
        serve(script, binary=str(binary))


def test_numpy_2_is_refused_for_the_bundled_python_backend(tmp_path):
    bundle = tmp_path / "pytriton" / "tritonserver"
    stub = bundle / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    stub.parent.mkdir(parents=True)
    stub.write_text("")
    (bundle / "backends" / "python").mkdir(parents=True)
    python = _triton_installation.Interpreter(Path("python"), "3.11", "", (), {"numpy": "2.4.6"})
    installed = _triton_installation.Installation(bundle / "bin", bundle / "backends", (), python, bundle)
    with pytest.raises(CannotMeasure, match=r"numpy 2\.4\.6 in python: nvidia-pytriton's Python backend gives wrong values with numpy 2"):
        _triton_installation.python_backend(installed, tmp_path / "backends")
    older = replace(python, versions={"numpy": "1.26.4"})
    assert (
        _triton_installation.python_backend(replace(installed, interpreter=older), tmp_path / "backends") / "python" / stub.name
    ).is_file()
    with pytest.raises(CannotMeasure, match=r"runs models in Python 3\.11; python is 3\.20"):
        _triton_installation.python_backend(replace(installed, interpreter=replace(older, minor="3.20")), tmp_path / "other")
