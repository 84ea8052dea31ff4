"""A run whose recipes do not pay, each for a reason that was planted: what the report says of it."""

import json

import pytest
from fakes.workplaces import workplace

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LONGEST_S = 300
"""Four recipes import their frameworks, each in three processes."""
SCENARIO = """\
version: 1
name: planted
model: {factory: nets.py:build}
data: {evaluation: nets.py:samples, calibration: nets.py:samples, task: classification}
recipes:
  fp32: {runtime: torch}
  zeros: {passes: [{prune_magnitude: {amount: 0.95, exclude: [first]}}], runtime: torch}
  table: {passes: [torch_dynamic_int8], runtime: torch}
  int8:
    passes: [export_onnx, {quantize_static: {per_channel: false, reduce_range: true, operators: [Gemm, MatMul]}}]
    runtime: onnxruntime
reference: fp32
measure: {duration: 0.1 s, warm_up: 0.05 s, launches: 2}
"""
NETS = """\
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5000, 32)
        self.first = nn.Linear(32, 48)
        self.third = nn.Linear(48, 48)
        self.last = nn.Linear(48, 10)

    def forward(self, ids):
        x = torch.relu(self.first(self.table(ids).mean(1)))
        return self.last(torch.relu(self.third(x)))


def build():
    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        net.third.weight[0] *= 1000
        net.third.bias[0] *= 1000
        net.last.weight[:, 0] /= 1000
    return net


def samples():
    ids = np.random.default_rng(0).integers(0, 5000, (300, 8))
    with torch.no_grad():
        return ids, build()(torch.from_numpy(ids)).argmax(1).numpy()
"""


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reasons")
    place = workplace(folder / "repository", folder / "cache", SCENARIO)
    place.write("scenarios/nets.py", NETS)
    with place.begun("run", "scenarios/tiny.yaml") as process:
        _, err = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, err
    result = json.loads((place.latest / "result.json").read_text())
    found = {trial["recipe"]: [note for note in trial["notes"] if "UNSTEADY" not in note] for trial in result["trials"]}
    page = (place.latest / "report.html").read_text()
    return found, page


def note_with(notes, text):
    (found,) = [note for note in notes if text in note]
    return found


@pytest.mark.slow
def test_zeros_save_no_bytes_and_the_layers_that_lost_most_are_named_but_not_the_excluded_one(notes):
    zeros = notes[0]["zeros"]
    assert "zero and stored like any other value: 'prune_magnitude' takes none out" in note_with(zeros, "not smaller than 'fp32'")
    worse = note_with(zeros, "answers worse than 'fp32' (accuracy -")
    assert "given the same inputs as before 'prune_magnitude'" in worse and "third (Linear, by " in worse and "first (" not in worse
    assert note_with(zeros, "what usually helps").count("exclude: [first, ") == 1


@pytest.mark.slow
def test_a_table_that_dynamic_quantization_does_not_reach_is_named_with_its_share(notes):
    why = note_with(notes[0]["table"], "not smaller than 'fp32'")
    assert "float32 weights that 'torch_dynamic_int8' left as they were: Embedding (table, 625 KiB)" in why


@pytest.mark.slow
def test_static_int8_is_told_the_layer_with_the_outlier_channel_and_the_option_that_rounds_channels_apart(notes):
    worst = note_with(notes[0]["int8"], "answers worse than 'fp32'").partition("differ most are ")[2]
    helps = note_with(notes[0]["int8"], "what usually helps")
    assert worst.startswith("node_linear_1 (Gemm, by ")
    assert "'quantize_static: {exclude: [node_linear_1" in helps and "'per_channel: true'" in helps


@pytest.mark.slow
def test_every_reason_is_on_the_page_and_none_is_longer_than_a_sentence(notes):
    import html

    found, page = notes
    told = [note for recipe in found.values() for note in recipe]
    assert told
    assert found["fp32"] == []
    for note in told:
        assert len(note.split()) <= 50, note
        assert html.escape(note, quote=False).replace("'", "&#39;") in page or note in html.unescape(page), note
