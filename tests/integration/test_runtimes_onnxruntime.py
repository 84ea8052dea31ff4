import dataclasses
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from pydantic import ValidationError

from harness import plugins
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plugin import Device

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_kinds  # noqa: E402

WITHOUT_CUDA = pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build offers CUDA")


def opened(artifact, device="cpu", threads=1, **options):
    return plugins.load("runtimes", "onnxruntime")(**options).open(artifact, Device(device, threads))


def test_the_session_runs_on_the_cpu_alone_and_the_facts_tell_it(onnx_mlp):
    with opened(onnx_mlp) as session:
        assert session.session.get_providers() == ["CPUExecutionProvider"]
        assert (session.facts.device, session.facts.precision) == ("cpu", "float32")
        (details,) = session.facts.details
        assert details == "CPUExecutionProvider runs 4 of 4 nodes"


def test_threads_are_as_many_as_are_asked_for(onnx_mlp):
    started = {}
    for threads in (1, 4):
        before = psutil.Process().num_threads()
        with opened(onnx_mlp, threads=threads) as session:
            started[threads] = psutil.Process().num_threads() - before
            assert session.session.get_session_options().intra_op_num_threads == session.facts.threads == threads
            assert session.session.get_session_options().inter_op_num_threads == 1
        del session
    assert started == {1: 0, 4: 3}  # the caller's own thread works too


def test_options_reach_the_session(onnx_mlp):
    levels = onnxruntime.GraphOptimizationLevel
    for name, level in (("none", levels.ORT_DISABLE_ALL), ("basic", levels.ORT_ENABLE_BASIC), ("all", levels.ORT_ENABLE_ALL)):
        with opened(onnx_mlp, optimization=name, inter_op_threads=2) as session:
            assert session.session.get_session_options().graph_optimization_level == level
            assert session.session.get_session_options().inter_op_num_threads == 2


@WITHOUT_CUDA
@pytest.mark.parametrize(("device", "options"), [("cuda", {}), ("cuda:1", {}), ("cpu", {"providers": ("cuda", "cpu")})])
def test_cuda_that_the_build_does_not_have_is_an_error_that_names_what_it_has(onnx_mlp, device, options):
    with pytest.raises(CannotMeasure, match="execution provider CUDAExecutionProvider is not available") as raised:
        with opened(onnx_mlp, device, **options):
            pass
    offered = ", ".join(onnxruntime.get_available_providers())
    assert f"this build of onnxruntime {onnxruntime.__version__} offers {offered}" in str(raised.value)


def test_a_provider_of_no_build_is_an_error_that_names_it(onnx_mlp):
    with pytest.raises(CannotMeasure, match="execution provider AbacusExecutionProvider is not available"):
        with opened(onnx_mlp, providers=("AbacusExecutionProvider",)):
            pass


@WITHOUT_CUDA
def test_a_provider_that_the_library_drops_in_silence_is_an_error(onnx_mlp, monkeypatch):
    offered = onnxruntime.get_available_providers()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", *offered])
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(CannotMeasure, match="was asked for and is not in use") as raised,
    ):
        with opened(onnx_mlp, providers=("cuda", "cpu")):
            pass
    assert "it runs on CPUExecutionProvider instead" in str(raised.value)


def test_a_file_that_the_library_cannot_open_is_an_error_with_its_reason(onnx_mlp, tmp_path):
    (tmp_path / "model.onnx").write_bytes(onnx_mlp.path.read_bytes()[:100])
    with pytest.raises(CannotMeasure, match=r"onnxruntime cannot open this model: .*INVALID_PROTOBUF"):
        with opened(dataclasses.replace(onnx_mlp, folder=tmp_path)):
            pass


def test_inputs_of_another_name_are_refused_unless_there_is_only_one(workshop, pairs, rows, onnx_mlp):
    module = workshop.source("factory", pairs, target="nets.py:two_inputs")
    with opened(workshop.apply("export_onnx", module, pairs)) as session:
        with pytest.raises(BadInput, match="the graph's inputs are left, right; the data gives top, bottom"):
            session.prepare({"top": pairs.inputs["left"], "bottom": pairs.inputs["right"]})
    with opened(onnx_mlp) as session:
        by_position = session.run(session.prepare({"anything": rows.inputs["x"][:2]}))
        by_name = session.run(session.prepare({"x": rows.inputs["x"][:2]}))
    np.testing.assert_array_equal(session.outputs(by_position)[0], session.outputs(by_name)[0])


def half_precision(workshop, rows):
    """x -> Cast -> MatMul in float16 -> Cast."""
    weights = np.ones((32, 10), np.float16)
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["narrow"], to=onnx.TensorProto.FLOAT16),
        onnx.helper.make_node("MatMul", ["narrow", "weights"], ["product"]),
        onnx.helper.make_node("Cast", ["product"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    inputs, outputs = [onnx_kinds.value("x", ["batch", 32])], [onnx_kinds.value("y", ["batch", 10])]
    return onnx_kinds.saved(workshop, rows, nodes, inputs=inputs, outputs=outputs, initializers=[("weights", weights)])


def test_half_precision_weights_that_the_cpu_computes_with_in_float32_are_told_as_that(workshop, rows):
    with opened(half_precision(workshop, rows)) as session:
        facts = session.facts
        product = session.outputs(session.run(session.prepare(rows.batch(0, 4))))[0]
    (computed,) = [detail for detail in facts.details if detail.startswith("weights are kept in float16 and computed with in")]
    assert facts.precision == "float32 (float16 in the file)" and computed.endswith("Casts run")
    np.testing.assert_allclose(product[:, 0], rows.inputs["x"][:4].sum(axis=1), atol=0.05)


def test_without_a_trace_the_precision_is_that_of_most_weights_and_the_reason_is_told(workshop, rows, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    with opened(half_precision(workshop, rows)) as session:
        assert session.facts.precision == "float16"
        assert session.facts.details == ("CPUExecutionProvider", "not traced: too little memory is free to open the model twice")


def test_a_trace_that_fails_costs_its_facts_and_not_the_measurement(onnx_mlp, rows, monkeypatch):
    from harness.runtimes import _onnx_trace

    def failing(*_):
        raise RuntimeError("out of memory on the device\nand more")

    monkeypatch.setattr(_onnx_trace, "trace", failing)
    with opened(onnx_mlp) as session:
        assert session.facts.details == ("CPUExecutionProvider", "not traced: out of memory on the device")


def test_the_nodes_that_are_told_are_those_that_onnxruntime_writes_down_itself(workshop, images, onnx_cnn, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(onnx_cnn.path), options, providers=["CPUExecutionProvider"])
    count = len(onnx.load(tmp_path / "optimized.onnx").graph.node)
    with opened(onnx_cnn) as session:
        session.prepare(images.batch(0, 2))
        assert session.facts.details == (f"CPUExecutionProvider runs {count} of {count} nodes",)


def test_quantized_nodes_that_are_not_fused_are_told_to_run_in_float(workshop, images, onnx_cnn):
    artifact = workshop.apply("quantize_static", onnx_cnn, images)
    with opened(artifact, optimization="all") as session:
        assert session.facts.precision == "int8 (3 of 3 compute nodes)"
        assert not any("run in float" in detail for detail in session.facts.details)
    pairs = sum(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in onnx.load(artifact.path).graph.node)
    with opened(artifact, optimization="none") as session:
        assert session.facts.precision == "float32 (0 of 3 compute nodes in int8)"
        assert f"3 of 3 quantized nodes run in float32: {pairs} QuantizeLinear and DequantizeLinear run" in session.facts.details


def test_a_node_left_in_float_is_told_beside_those_in_int8(workshop, images, onnx_cnn):
    with opened(workshop.apply("quantize_static", onnx_cnn, images, exclude_operators=("Conv",))) as session:
        assert session.facts.precision == "int8 (1 of 3 compute nodes; 2 in float32)"


def test_reading_the_facts_leaves_no_file_and_the_session_as_it_was(onnx_mlp, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in onnx_mlp.folder.iterdir())
    with opened(onnx_mlp) as session:
        batch = session.prepare(rows.batch(0, 3))
        first = session.outputs(session.run(batch))[0]
        assert session.facts == session.facts
        np.testing.assert_array_equal(session.outputs(session.run(batch))[0], first)
    assert sorted(path.name for path in onnx_mlp.folder.iterdir()) == before and list(tmp_path.iterdir()) == []


def test_the_body_of_a_loop_is_counted_once(workshop, rows):
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["go"], ["on"]), onnx.helper.make_node("Tanh", ["state"], ["next"], name="tanh")],
        "body",
        [
            onnx_kinds.value("turn", [], onnx.TensorProto.INT64),
            onnx_kinds.value("go", [], onnx.TensorProto.BOOL),
            onnx_kinds.value("state", None),
        ],
        [onnx_kinds.value("on", [], onnx.TensorProto.BOOL), onnx_kinds.value("next", None)],
    )
    graph = onnx_kinds.saved(
        workshop,
        rows,
        [onnx.helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body, name="loop")],
        inputs=[onnx_kinds.value("x", ["batch", 32])],
        outputs=[onnx_kinds.value("y", ["batch", 32])],
        initializers=[("turns", np.array(7))],
    )
    with opened(graph, optimization="none") as session:
        assert session.facts.details[0] == "CPUExecutionProvider runs 3 of 3 nodes"


def test_a_provider_that_is_given_no_node_is_an_error_that_tells_who_runs_them(onnx_mlp):
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build has no second provider")
    with pytest.raises(CannotMeasure, match="AzureExecutionProvider was asked for and is given no node of this graph") as raised:
        with opened(onnx_mlp, providers=("AzureExecutionProvider", "cpu")):
            pass
    assert "all 4 nodes run on CPUExecutionProvider; take AzureExecutionProvider out of 'providers'" in str(raised.value)


def test_an_option_that_a_provider_does_not_take_is_an_error(onnx_mlp):
    with pytest.raises(CannotMeasure, match="CPUExecutionProvider has not taken the option nonsense"):
        with opened(onnx_mlp, provider_options={"cpu": {"nonsense": True}}):
            pass
    with pytest.raises(BadInput, match="provider_options are for CUDAExecutionProvider; the providers are CPUExecutionProvider"):
        with opened(onnx_mlp, provider_options={"cuda": {"arena_extend_strategy": "kSameAsRequested"}}):
            pass


def test_provider_options_go_to_the_library_as_text_beside_the_device_and_the_graph():
    runtime = plugins.load("runtimes", "onnxruntime")(
        providers=("cuda", "cpu"), provider_options={"cuda": {"use_tf32": False}}, io_binding="copied", cuda_graph=True
    )
    assert runtime.configured(Device("cuda:1", 1)) == [
        ("CUDAExecutionProvider", {"device_id": "1", "enable_cuda_graph": "1", "use_tf32": "0"}),
        ("CPUExecutionProvider", {}),
    ]
    assert "replayed as a CUDA graph" in runtime.details() and "cuda: use_tf32=False" in runtime.details()


@pytest.mark.parametrize("option", ["pinned", "cuda_graph"])
def test_options_that_need_fixed_buffers_are_refused_without_them(option):
    with pytest.raises(ValidationError, match=f"'{option}' needs 'io_binding: copied'"):
        plugins.load("runtimes", "onnxruntime")(**{option: True})


@pytest.mark.parametrize("mode", ["device", "copied"])
def test_bound_sessions_answer_like_plain_ones_and_tell_what_is_counted(workshop, pairs, mode):
    module = workshop.source("factory", pairs, target="nets.py:two_inputs")
    graph = workshop.apply("export_onnx", module, pairs)
    with opened(graph) as plain, opened(graph, io_binding=mode) as bound:
        batches = [pairs.batch(start, 4) for start in (0, 4, 8)]
        prepared = [bound.prepare(batch) for batch in batches]
        for ready, batch in [*zip(prepared, batches, strict=True), (prepared[0], batches[0])]:
            (expected, *_), (got, *_) = plain.outputs(plain.run(plain.prepare(batch))), bound.outputs(bound.run(ready))
            np.testing.assert_array_equal(got, expected)
        told = {"device": "no transfer is counted", "copied": "are copied to the device and outputs back in every query"}[mode]
        assert any(told in detail for detail in bound.facts.details)
        assert not any("transfer" in detail or "copied" in detail for detail in plain.facts.details)


def test_pinned_memory_and_cuda_graphs_are_refused_where_there_is_no_such_device(onnx_mlp, rows):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with opened(onnx_mlp, io_binding="copied", pinned=True) as session:
        with pytest.raises(CannotMeasure, match="sees no CUDA device to pin memory for"):
            session.prepare(rows.batch(0, 2))
    with pytest.raises(CannotMeasure, match="cuda_graph needs the CUDA provider"):
        with opened(onnx_mlp, io_binding="copied", cuda_graph=True):
            pass


def test_buffers_that_a_graph_was_captured_on_are_shared_and_of_one_shape(onnx_mlp, rows):
    """The binder by itself, on the CPU: a later batch is copied into the buffers of the first."""
    from harness.runtimes._onnx_binding import Binder

    session = onnxruntime.InferenceSession(str(onnx_mlp.path), providers=["CPUExecutionProvider"])
    binder = Binder(session, "cpu", copied=True, pinned=False, fixed=True)
    first, second = (binder.bind(rows.batch(start, 4)) for start in (0, 4))
    assert first.binding is second.binding
    for bound, start in ((second, 4), (first, 0)):
        expected = session.run(None, rows.batch(start, 4))[0]
        np.testing.assert_array_equal(binder.outputs(binder.run(bound))[0], expected)
    with pytest.raises(BadInput, match="a CUDA graph is of one shape"):
        binder.bind(rows.batch(0, 5))


def test_a_scenario_tells_the_facts_of_its_recipes(tmp_path, workshop, onnx_cnn):
    """From outside: a file source, two recipes, one worker each."""
    shutil.copyfile(onnx_cnn.path, tmp_path / "model.onnx")
    (tmp_path / "scenario.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "pyproject.toml").touch()  # the project's root
    command = [sys.executable, "-m", "harness.cli", "run", "scenario.yaml"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    page = next((tmp_path / "reports").rglob("report.html"), None)
    assert page is not None, ended.stderr
    told = page.read_text(encoding="utf-8")
    for precision in ("float32 (float16 in the file)", "float32"):
        assert f"onnxruntime on cpu, {precision}, " in told
    assert "CPUExecutionProvider runs " in told


SCENARIO = """\
version: 1
name: facts
model:
  onnx: model.onnx
data:
  random: {x: "float32[3, 12, 12]"}
recipes:
  float: {runtime: onnxruntime}
  half: {passes: [onnx_float16], runtime: onnxruntime}
measure: {duration: 0.1 s, warm_up: 0.05 s, launches: 2}
"""
