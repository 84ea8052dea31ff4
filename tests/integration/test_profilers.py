"""Real profilers on real models: the operator that was planted is the one that is named."""

import json

import pytest

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
