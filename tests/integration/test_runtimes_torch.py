import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.core.plugin import Device

torch = pytest.importorskip("torch")
from harness.runtimes.torch import DeviceClock  # noqa: E402


def test_threads_are_set_and_the_facts_tell_what_torch_says(shop, mlp):
    for threads in (2, 1):
        with shop.open("torch", mlp, threads=threads) as session:
            assert torch.get_num_threads() == threads == session.facts.threads
            assert session.facts.device == "cpu"
            assert session.facts.precision == "float32"
            assert session.facts.details == ()


def test_a_query_runs_in_inference_mode(shop, mlp, rows):
    with shop.open("torch", mlp) as session:
        raw = session.run(session.prepare(rows.batch(0, 2)))
        assert raw.is_inference() and not raw.requires_grad


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_in_the_weights_in_the_inputs_and_in_what_comes_out(shop, mlp, rows, precision):
    dtype = getattr(torch, precision)
    (expected,) = shop.answers("torch", mlp, rows, size=40)
    with shop.open("torch", mlp, dtype=precision) as session:
        assert {weight.dtype for weight in session.module.parameters()} == {dtype}
        prepared = session.prepare(rows.batch(0, 40))
        raw = session.run(prepared)
        assert prepared["x"].dtype is raw.dtype is dtype
        assert session.facts.precision == precision
        (got,) = session.outputs(raw)
    assert got.dtype == np.float32  # which numpy can hold
    assert 0 < np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


def test_whole_numbers_stay_whole_numbers_in_half_precision(shop, minilm, sentences):
    with shop.open("torch", minilm, dtype="bfloat16") as session:
        prepared = session.prepare(sentences.batch(0, 3))
        assert {values.dtype for values in prepared.values()} == {torch.int64}
        (got, *_) = session.outputs(session.run(prepared))
    assert got.shape == (3, 384)


@pytest.mark.parametrize("given", [np.float32, np.float16, np.float64])
def test_a_module_that_was_saved_in_half_precision_runs_as_it_was_saved_whatever_the_data_is_in(workshop, rows, given):
    data = Dataset({"x": rows.inputs["x"].astype(given)}, None)
    module = workshop.source("factory", data, target="nets.py:half")
    with workshop.open("torch", module) as session:
        assert session.facts.precision == "float16"
        assert session.run(session.prepare(data.batch(0, 2))).dtype is torch.float16
    with workshop.open("torch", module, dtype="float32") as session:
        assert session.facts.precision == "float32"
        assert session.run(session.prepare(data.batch(0, 2))).dtype is torch.float32


def test_a_module_without_weights_takes_float32(workshop, rows):
    data = Dataset({"x": rows.inputs["x"].astype(np.float64)}, None)
    module = workshop.source("factory", data, target="twins/left/net.py:build")
    with workshop.open("torch", module) as session:
        assert session.prepare(data.batch(0, 2))["x"].dtype is torch.float32
        assert session.facts.precision == "no parameters"


def test_channels_last_is_in_the_weights_and_in_the_inputs_and_changes_no_answer(shop, cnn, images):
    layout = torch.channels_last
    with shop.open("torch", cnn) as session:
        assert not session.module.first.weight.is_contiguous(memory_format=layout)
        assert not session.prepare(images.batch(0, 4))["x"].is_contiguous(memory_format=layout)
    with shop.open("torch", cnn, channels_last=True) as session:
        assert session.module.first.weight.is_contiguous(memory_format=layout)
        prepared = session.prepare(images.batch(0, 4))
        assert prepared["x"].is_contiguous(memory_format=layout)
        (got,) = session.outputs(session.run(prepared))
    np.testing.assert_allclose(got, shop.answers("torch", cnn, images)[0], atol=1e-5)


def test_the_principal_output_comes_first_whatever_the_module_s_order(workshop, pairs):
    module = workshop.source("factory", pairs, target="nets.py:pair")
    assert [spec.name for spec in module.outputs] == ["logits", "hidden"]
    logits, hidden = workshop.answers("torch", module, pairs)
    np.testing.assert_allclose(hidden, 2 * logits, rtol=1e-5)


def test_what_a_query_changes_in_its_inputs_does_not_reach_the_data(shop, mlp, rows):
    batch = rows.batch(0, 2)
    with shop.open("torch", mlp) as session:
        session.prepare(batch)["x"].zero_()
    np.testing.assert_array_equal(batch["x"], rows.inputs["x"][:2])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_cuda_without_a_device_is_an_error_and_never_the_cpu(mlp, device):
    runtime = plugins.load("runtimes", "torch")()
    with pytest.raises(CannotMeasure, match=f"'{device}' was asked for and this torch .* sees no CUDA device"):
        with runtime.open(mlp, Device(device, 1)):
            pass


class Event:
    """A device's event: a moment of a clock that a stream moves."""

    now_ms = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        assert stream == "the stream of cuda:0"
        self.at_ms = Event.now_ms

    def elapsed_time(self, end):
        return end.at_ms - self.at_ms


def test_the_device_clock_times_every_block_waits_at_its_end_and_forgets_what_was_taken(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    clock = DeviceClock(torch.device("cuda:0"))
    for spent_ms in (0.25, 1.5):
        with clock:
            Event.now_ms += spent_ms
    assert clock.take() == (250_000, 1_500_000)
    assert waited == [torch.device("cuda:0")] * 2
    assert clock.take() == ()
    with clock:
        Event.now_ms += 3
    assert clock.take() == (3_000_000,)
