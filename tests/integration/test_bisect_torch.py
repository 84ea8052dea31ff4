"""A search through commits of a real model: the slowdown is in its code, and the operators that it added are told."""

import pytest
from fakes.workplaces import workplace

pytest.importorskip("torch")
LONGEST_S = 400
"""Sixteen processes import torch, one pair after the other."""

SCENARIO = """\
version: 1
name: tiny
model: {factory: models/net.py:build}
data: {random: {x: "float32[64]"}, samples: 8}
recipes:
  fp32: {runtime: torch}
hardware:
  - {name: one-core, cores: 1, threads: 1}
measure: {duration: 0.1 s, warm_up: 0.05 s}
"""
MODEL = """\
import torch
from layers import block

UNITS = 20


def build():
    return torch.nn.Sequential(*(block.make() for _ in range(UNITS))).eval()
"""
BLOCK = """\
import torch


def make():
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh())
"""


@pytest.mark.slow
def test_the_commit_that_added_layers_is_found_with_its_file_and_its_operators(tmp_path):
    place = workplace(tmp_path / "repository", tmp_path / "cache", SCENARIO)
    place.write("scenarios/models/net.py", MODEL)
    place.write("scenarios/models/layers/__init__.py", "")
    place.write("scenarios/models/layers/block.py", BLOCK)
    place.commit("a model")
    place.git("tag", "good")
    place.write("README.md", "A model.\n")
    place.commit("Say what it is")
    place.replace("scenarios/models/net.py", "UNITS = 20", "UNITS = 30")
    place.write("README.md", "Deeper.\n")
    bad = place.commit("Go deeper")
    with place.begun("bisect", "scenarios/tiny.yaml", "--good", "good") as process:
        out, err = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, err
    told = out.splitlines()
    assert told[0].startswith(f"{bad[:12]} made latency_p50 of tiny/fp32-one-core-b1 worse: ")
    assert "file      scenarios/models/net.py" in told
    assert "          1 other file, not part of what the trial is made of" in told
    assert "differs   other content: model" in told
    operators = [line for line in told if line.startswith("operator  ")]
    assert any("aten::addmm takes " in line and "30 calls where there were 20" in line for line in operators)
    assert not [line for line in told if line.startswith("note: no operator table")]
