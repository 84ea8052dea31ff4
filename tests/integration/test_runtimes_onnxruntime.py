import dataclasses

import numpy as np
import psutil
import pytest

from harness import plugins
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plugin import Device

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

WITHOUT_CUDA = pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build offers CUDA")


def opened(artifact, device="cpu", threads=1, **options):
    return plugins.load("runtimes", "onnxruntime")(**options).open(artifact, Device(device, threads))


def test_the_session_runs_on_the_cpu_alone_and_the_facts_tell_it(onnx_mlp):
    with opened(onnx_mlp) as session:
        assert session.session.get_providers() == ["CPUExecutionProvider"]
        assert (session.facts.device, session.facts.precision) == ("cpu", "float32")
        assert session.facts.details == ("CPUExecutionProvider",)


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


def test_the_precision_is_that_of_most_weights(workshop, rows):
    weights = onnx.numpy_helper.from_array(np.ones((32, 10), np.float16), "weights")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 32), ("y", 10)))
    nodes = [
        onnx.helper.make_node("Cast", ["x"], ["narrow"], to=onnx.TensorProto.FLOAT16),
        onnx.helper.make_node("MatMul", ["narrow", "weights"], ["product"]),
        onnx.helper.make_node("Cast", ["product"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    graph = onnx.helper.make_graph(nodes, "graph", [x], [y], [weights])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), workshop.root / "half.onnx")
    with opened(workshop.source("onnx", rows, path="half.onnx")) as session:
        assert session.facts.precision == "float16"
