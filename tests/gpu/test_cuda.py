"""What only a CUDA device can show. On a machine that has one and little else: ``tests/gpu/check.sh``."""

import contextlib
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")

from harness import plugins  # noqa: E402  (the machine may not have what the package needs)
from harness.core.artifact import Dataset, ModelArtifact  # noqa: E402
from harness.core.errors import CannotMeasure  # noqa: E402
from harness.core.plugin import BuildContext, Device  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

WIDTH = 4096


def drawn(**shapes):
    generator = np.random.default_rng(0)
    return Dataset({name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}, None)


def saved(module, folder, data):
    from harness.formats import torch_module

    return torch_module.save(module, folder, example=data, root=folder / "project", steps=())


def opened(artifact, device="cuda", **options):
    return plugins.load("runtimes", "torch")(**options).open(artifact, Device(device, 1))


def answers(artifact, data, device, size=8, **options):
    with opened(artifact, device, **options) as session:
        return session.outputs(session.run(session.prepare(data.batch(0, size))))[0]


@contextlib.contextmanager
def device_time(module):
    """Brackets a module's work with events on the device's own clock; gives a function that waits for them and returns ns."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    hooks = [module.register_forward_pre_hook(lambda *_: start.record()), module.register_forward_hook(lambda *_: end.record())]

    def elapsed_ns():
        end.synchronize()
        return start.elapsed_time(end) * 1e6

    try:
        yield elapsed_ns
    finally:
        for hook in hooks:
            hook.remove()


@pytest.fixture(scope="session")
def vectors():
    return drawn(x=(WIDTH, WIDTH))


@pytest.fixture(scope="session")
def matmuls(tmp_path_factory, vectors):
    """Eight products of 4096 x 4096 matrices: about a tera-operation a query, launched in microseconds."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(8)))
    return saved(module, tmp_path_factory.mktemp("matmuls"), vectors)


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16 * 12 * 12, 10)
    )
    return saved(module, tmp_path_factory.mktemp("network"), drawn(x=(8, 3, 12, 12)))


@pytest.fixture(scope="session")
def images():
    return drawn(x=(8, 3, 12, 12))


def test_a_timed_query_lasts_at_least_as_long_as_the_device_has_worked(matmuls, vectors):
    with opened(matmuls) as session:
        prepared = session.prepare(vectors.batch(0, WIDTH))
        session.run(prepared)  # the first call also chooses kernels
        with device_time(session.module) as device_ns:
            for _ in range(5):
                start = time.perf_counter_ns()
                session.run(prepared)
                host_ns = time.perf_counter_ns() - start
                assert host_ns >= 0.99 * device_ns()  # two clocks, which differ by less than that


def test_without_the_wait_the_same_query_would_have_returned_early(matmuls, vectors):
    with opened(matmuls) as session, torch.inference_mode():
        prepared = session.prepare(vectors.batch(0, WIDTH))["x"]
        session.module(prepared)
        torch.cuda.synchronize()
        with device_time(session.module) as device_ns:
            start = time.perf_counter_ns()
            session.module(prepared)
            host_ns = time.perf_counter_ns() - start
            assert host_ns < 0.5 * device_ns()


def test_a_slice_of_the_single_stream_load_waits_for_every_query(matmuls, vectors):
    with opened(matmuls) as session:
        prepared = [session.prepare(vectors.batch(0, WIDTH))]
        session.run(prepared[0])
        with device_time(session.module) as device_ns:
            piece = plugins.load("loads", "single_stream")().take_slice(session.run, prepared, 5, time.perf_counter_ns)
            assert piece.latencies_ns[-1] >= 0.99 * device_ns()
        assert sum(piece.latencies_ns) <= piece.duration_ns


def test_the_facts_tell_the_device_and_the_weights_are_on_it(network):
    with opened(network) as session:
        assert session.facts.device == "cuda"
        assert session.facts.precision == "float32"
        assert {weight.device.type for weight in session.module.parameters()} == {"cuda"}
    with opened(network, "cuda:0") as session:
        assert session.facts.device == "cuda:0"


def test_the_device_answers_like_the_processor(network, images):
    np.testing.assert_allclose(answers(network, images, "cuda"), answers(network, images, "cpu"), atol=1e-2)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_in_the_weights_in_the_inputs_and_in_what_comes_out(network, images, precision):
    dtype = getattr(torch, precision)
    with opened(network, dtype=precision) as session:
        prepared = session.prepare(images.batch(0, 8))
        raw = session.run(prepared)
        assert {weight.dtype for weight in session.module.parameters()} == {dtype}
        assert prepared["x"].dtype is raw.dtype is dtype and raw.device.type == "cuda"
        assert session.facts.precision == precision
        (got,) = session.outputs(raw)
    expected = answers(network, images, "cpu")
    assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_channels_last_is_in_the_weights_and_in_the_inputs(network, images):
    with opened(network, channels_last=True) as session:
        prepared = session.prepare(images.batch(0, 8))
        assert prepared["x"].is_contiguous(memory_format=torch.channels_last)
        assert session.module[0].weight.is_contiguous(memory_format=torch.channels_last)
        (got,) = session.outputs(session.run(prepared))
    np.testing.assert_allclose(got, answers(network, images, "cpu"), atol=1e-2)


def test_a_device_that_is_not_there_is_an_error(network):
    count = torch.cuda.device_count()
    with pytest.raises(CannotMeasure, match=f"'cuda:{count}' was asked for and this torch .* sees only {count} of them"):
        with opened(network, f"cuda:{count}"):
            pass


def test_a_transformer_answers_on_the_device_like_on_the_processor(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=99, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    ids = np.random.default_rng(0).integers(1, 99, (8, 16))
    data = Dataset({"input_ids": ids, "attention_mask": np.ones_like(ids)}, None)
    (tmp_path / "artifact").mkdir()
    context = BuildContext(tmp_path / "artifact", tmp_path, tmp_path, {}, lambda role: data, 0, "cpu")
    artifact = plugins.load("sources", "huggingface")(id="bert", task="embedding").load(context)
    np.testing.assert_allclose(answers(artifact, data, "cuda"), answers(artifact, data, "cpu"), atol=1e-3)


def test_a_worker_measures_on_the_device_and_tells_its_memory(tmp_path, matmuls, vectors):
    for package in ("psutil", "ruamel.yaml"):
        pytest.importorskip(package)
    from harness.core.scenario import PluginRef
    from harness.engine import protocol
    from harness.engine.datasets import write_dataset
    from harness.engine.workers import Seat, Worker

    few = Dataset({"x": vectors.inputs["x"][:64]}, None)
    write_dataset(tmp_path / "inputs.npz", few)
    runtime, load = PluginRef(name="torch"), PluginRef(name="single_stream")
    subject = protocol.Subject(matmuls, runtime, load, tmp_path, "cuda", 1, (), 8, tmp_path / "inputs.npz")
    with Worker(Seat("candidate", (), 1, tmp_path / "worker.log")) as worker:
        worker.ask(protocol.Preload(subject), protocol.Done, timeout_s=300)
        worker.ask(protocol.Open(), protocol.Opened, timeout_s=300)
        worker.ask(protocol.WarmUp(0, 5), protocol.WarmedUp, timeout_s=300)
        piece = worker.ask(protocol.TakeSlice(10), protocol.SliceTaken, timeout_s=300).slice
        assert len(piece.latencies_ns) == 10
        finished = worker.ask(protocol.Finish(), protocol.Finished, timeout_s=300)
    assert (finished.facts.device, finished.facts.precision) == ("cuda", "float32")
    weights = 8 * WIDTH * WIDTH * 4
    assert weights < finished.device_peak_bytes < 2 * weights


def onnx_providers():
    return pytest.importorskip("onnxruntime").get_available_providers()


def test_onnxruntime_without_the_provider_is_an_error_and_never_the_processor(tmp_path):
    offered = onnx_providers()
    if "CUDAExecutionProvider" in offered:
        pytest.skip("this build of onnxruntime offers CUDA")
    artifact = ModelArtifact(tmp_path, "onnx", "model.onnx", (), (), 0, "", ())
    with pytest.raises(CannotMeasure, match="execution provider CUDAExecutionProvider is not available") as raised:
        with plugins.load("runtimes", "onnxruntime")().open(artifact, Device("cuda", 1)):
            pass
    assert ", ".join(offered) in str(raised.value)


def test_onnxruntime_runs_on_the_device_that_it_is_asked_for(tmp_path):
    if "CUDAExecutionProvider" not in onnx_providers():
        pytest.skip("this build of onnxruntime does not offer CUDA")
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(0).standard_normal((64, 10), dtype=np.float32)
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size]) for name, size in (("x", 64), ("y", 10)))
    node = onnx.helper.make_node("MatMul", ["x", "weights"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", [x], [y], [onnx.numpy_helper.from_array(weights, "weights")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), tmp_path / "model.onnx")
    artifact = ModelArtifact(tmp_path, "onnx", "model.onnx", (), (), 0, "", ())
    data = drawn(x=(8, 64))
    with plugins.load("runtimes", "onnxruntime")().open(artifact, Device("cuda", 1)) as session:
        assert session.session.get_providers()[0] == session.facts.details[0] == "CUDAExecutionProvider"
        assert session.facts.device == "cuda"
        (got,) = session.outputs(session.run(session.prepare(data.batch(0, 8))))
    np.testing.assert_allclose(got, data.inputs["x"] @ weights, atol=1e-2)
