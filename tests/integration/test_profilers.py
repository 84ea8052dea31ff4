"""Real profilers on real models: the operator that was planted is the one that is named."""

import json
import os
import shutil

import pytest
from fakes.workplaces import workplace

from harness.core.plugin import Device
from harness.core.profile import operator_table

torch = pytest.importorskip("torch")
CPU = Device("cpu", 1)


class Block(torch.nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.fc = torch.nn.Linear(width, width)
        self.act = act

    def forward(self, x):
        return self.act(self.fc(x)) + x


def net(slow_at=None, width=64):
    torch.manual_seed(0)
    blocks = [Block(width, torch.nn.Softplus() if number == slow_at else torch.nn.ReLU()) for number in range(6)]
    return torch.nn.Sequential(*blocks).eval()


def profiled(module, trace, least_ns=50_000_000):
    """As the runtime's session is profiled; the module stays in this process."""
    from harness.runtimes import _torch_profile
    from harness.runtimes.torch import TorchSession

    session = TorchSession(module, torch.device("cpu"), torch.float32, False)
    batches = [{"x": torch.randn(8, 64, generator=torch.Generator().manual_seed(seed)).numpy()} for seed in range(3)]
    return _torch_profile.profile(session, batches, least_ns, trace)


def test_the_module_that_got_a_dearer_operator_is_named(tmp_path):
    base, head = profiled(net(), tmp_path / "base.json"), profiled(net(slow_at=3), tmp_path / "head.json")
    kinds = {change.kind: change for change in operator_table(base, head).kinds}
    assert (kinds["aten::softplus"].baseline_calls, kinds["aten::softplus"].candidate_calls) == (0, 1)
    named = {change.name for change in operator_table(base, head).operators if change.kind == "aten::softplus"}
    assert named == {"3.act"}


def test_calls_are_those_of_a_query_and_own_times_do_not_count_twice(tmp_path):
    found = profiled(net(), tmp_path / "trace.json")
    linear = [one for one in found.operators if one.kind == "aten::addmm"]
    assert {one.name for one in linear} == {f"{number}.fc" for number in range(6)}
    assert {one.calls for one in linear} == {found.queries}
    assert sum(one.own_ns for one in found.operators) <= found.wall_ns


def test_the_trace_is_one_that_perfetto_reads_and_no_hook_is_left_on_the_model(tmp_path):
    module = net()
    profiled(module, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["name"] for event in events if event.get("ph") == "X"} >= {"aten::addmm", "module: 3.fc"}
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_model_of_very_many_operators_is_profiled_for_fewer_queries(tmp_path, monkeypatch):
    from harness.runtimes import _torch_profile

    monkeypatch.setattr(_torch_profile, "MOST_EVENTS", 300)
    assert profiled(net(), tmp_path / "trace.json", least_ns=10**9).queries <= 5


def test_the_last_queries_of_onnx_runtime_s_own_profile_are_counted_and_its_warm_up_is_not(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    import numpy as np

    from harness.runtimes._onnx_profile import operators_in

    weights = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="/fc/MatMul"),
        onnx.helper.make_node("Softplus", ["y"], ["z"], name="/act"),
    ]
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", onnx.TensorProto.FLOAT, [8, 64])], [value("z", onnx.TensorProto.FLOAT, [8, 64])]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", *ends, [weights]), opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for _ in range(7):
        session.run(None, {"x": np.zeros((8, 64), np.float32)})
    from pathlib import Path

    wall_ns, found = operators_in(Path(session.end_profiling()), 5)
    assert {(one.name, one.kind, one.where, one.calls) for one in found} == {
        ("/fc/MatMul", "MatMul", "CPU", 5),
        ("/act", "Softplus", "CPU", 5),
    }
    assert wall_ns > 0


def openvino_profile(folder, nodes, least_ns=50_000_000):
    """A graph of 64 values a row under OpenVINO's counters, as the runtime does it."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    import numpy as np

    from harness.core.artifact import ModelArtifact
    from harness.runtimes.openvino import OpenvinoRuntime

    weights = onnx.numpy_helper.from_array(np.random.default_rng(0).random((512, 512), dtype=np.float32) - 0.5, "w")
    made = [onnx.helper.make_node(kind, inputs, [output], name=name) for name, kind, inputs, output in nodes]
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", onnx.TensorProto.FLOAT, [32, 512])], [value("out", onnx.TensorProto.FLOAT, [32, 512])]
    graph = onnx.helper.make_graph(made, "g", *ends, [weights])
    folder.mkdir()
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), folder / "m.onnx")
    artifact = ModelArtifact(folder, "onnx", "m.onnx", (), (), 1, "0" * 64, ())
    batches = [{"x": np.random.default_rng(seed).random((32, 512), dtype=np.float32)} for seed in range(3)]
    return OpenvinoRuntime().profile(artifact, CPU, batches, least_ns, folder / "trace.json")


def test_openvino_s_counters_are_of_the_queries_and_not_of_the_warm_up_that_compiles_its_kernels(tmp_path):
    found = openvino_profile(tmp_path / "one", [("/fc", "MatMul", ["x", "w"], "y"), ("/sort", "Softmax", ["y"], "out")])
    named = {one.name: one for one in found.operators}
    assert named["/fc"].kind == "FullyConnected"
    assert named["/fc"].calls == found.queries
    assert found.wall_ns / 10 < sum(one.own_ns for one in found.operators) <= found.wall_ns * 1.05  # the library rounds to whole µs
    assert json.loads((tmp_path / "one" / "trace.json").read_text())["traceEvents"][0]["name"] == "/fc"


def test_the_layer_that_openvino_got_more_is_named(tmp_path):
    last = ("/last", "Softmax", ["z"], "out")  # a graph's last node is named after its output
    base = openvino_profile(tmp_path / "base", [("/fc", "MatMul", ["x", "w"], "z"), last])
    head = openvino_profile(tmp_path / "head", [("/fc", "MatMul", ["x", "w"], "y"), ("/again", "MatMul", ["y", "w"], "z"), last])
    first = operator_table(base, head).operators[0]
    assert (first.name, first.kind, first.baseline_calls, first.candidate_calls) == ("/again", "FullyConnected", 0, 1)


STAND_IN = """\
#!/bin/sh
echo "$@" > "$(dirname "$0")/asked"
test "$1" = profile || exit 64
shift
while :; do
  case "$1" in
    --output=*) report=${1#--output=}; shift ;;
    --*) shift ;;
    *) break ;;
  esac
done
"$@"
code=$?
echo "a report" > "$report.nsys-rep"
exit $code
"""


@pytest.fixture
def place(tmp_path):
    """A repository with one small torch model."""
    scenario = """\
version: 1
name: tiny
model: {factory: net.py:build}
data: {random: {x: "float32[16]"}, samples: 8}
recipes:
  fp32: {runtime: torch}
measure: {duration: 0.1 s, warm_up: 0.05 s}
"""
    made = workplace(tmp_path / "repository", tmp_path / "cache", scenario)
    made.write("scenarios/net.py", "import torch\n\n\ndef build():\n    return torch.nn.Linear(16, 16).eval()\n")
    return made


@pytest.mark.slow
def test_a_recording_is_of_queries_in_a_worker_below_nsys_and_lies_beside_the_page(place, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nsys").write_text(STAND_IN)
    (tools / "nsys").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    ended = place.harness("profile", "scenarios/tiny.yaml", "--time", "50 ms", "--nsys", env={"PATH": path})
    assert ended.code == 0, ended
    assert "nsight: reports/profiles/tiny-fp32-cpu-b1/nsight.nsys-rep (nsys-ui opens it)" in ended.out
    assert (place.root / "reports/profiles/tiny-fp32-cpu-b1/nsight.nsys-rep").read_text() == "a report\n"
    asked = (tools / "asked").read_text()
    assert asked.startswith("profile --output=")
    assert "--trace=cuda,cudnn,cublas,nvtx,osrt --sample=none" in asked and "-m harness.engine.worker" in asked


def test_without_nsys_on_the_path_it_is_refused_before_anything_is_built(place, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "git").symlink_to(shutil.which("git"))
    ended = place.harness("profile", "scenarios/tiny.yaml", "--nsys", env={"PATH": str(empty)})
    assert ended.code == 2
    assert "--nsys: there is no 'nsys' on the path" in ended.err
    assert not (place.root / "reports").exists()


@pytest.mark.slow
def test_a_recorder_that_writes_no_report_is_named_with_what_it_said(place, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    silent = STAND_IN.replace('echo "a report" > "$report.nsys-rep"', 'echo "no permission to trace"')
    (tools / "nsys").write_text(silent)
    (tools / "nsys").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    ended = place.harness("profile", "scenarios/tiny.yaml", "--time", "50 ms", "--nsys", env={"PATH": path})
    assert ended.code == 3
    assert "wrote no report" in ended.err and "no permission to trace" in ended.err
