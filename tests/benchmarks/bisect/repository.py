"""A throw-away repository with twelve commits after a good one: documentation, code that changes nothing measurable, one planted slowdown.

Only the planted commit makes the model do more work; the others of the code change what the model is made of all the same, so a search has
to measure them. Which of the twelve is the planted one, and the order of the others, come from the seed.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

COMMITS = 12
GOOD_UNITS, BAD_UNITS = 100, 105
SCENARIO_PATH = "scenarios/chain.yaml"
MODEL_PATH = "scenarios/models/chain.py"
PLANTED = "Adjust the model to the new data"
AUTHOR = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")

SCENARIO = """\
version: 1
name: chain
model:
  factory: models/chain.py:build
data:
  evaluation: models/chain.py:images
  task: other
recipes:
  onnx: {passes: [export_onnx], runtime: onnxruntime}
hardware:
  - {name: one-core, cores: 1, threads: 1}
"""

MODEL = f"""\
import numpy as np
import torch
from torch import nn

UNITS = {GOOD_UNITS}
CHANNELS, SIDE, SAMPLES = 8, 18, 64
SPREAD = 0.01


class Chain(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.units = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(units))

    def forward(self, images):
        for unit in self.units:
            images = torch.relu(unit(images))
        return images.mean(dim=(2, 3))


def build(seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = Chain(UNITS)
    with torch.no_grad():
        for unit in model.units:
            unit.weight.normal_(0.0, SPREAD, generator=generator)
            unit.weight[:, :, 1, 1] += torch.eye(CHANNELS)
            unit.bias.zero_()
    return model.eval()


def images():
    generator = np.random.default_rng(0)
    return generator.random((SAMPLES, CHANNELS, SIDE, SIDE), dtype=np.float32), None
"""

HARMLESS = (
    ("Name the axes of the mean", "dim=(2, 3)", "dim=(-2, -1)"),
    ("Draw other weights", "def build(seed=0):", "def build(seed=7):"),
    ("Smaller weights off the diagonal", "SPREAD = 0.01", "SPREAD = 0.008"),
    ("Say what a chain is", "class Chain(nn.Module):\n", 'class Chain(nn.Module):\n    """Equal convolutions."""\n\n'),
    ("Say what it is built from", "model = Chain(UNITS)", "model = Chain(units=UNITS)"),
    ("Draw other samples", "np.random.default_rng(0)", "np.random.default_rng(1)"),
    ("Put the model where it is", "return model.eval()", 'return model.to("cpu").eval()'),
)
DOCUMENTS = COMMITS - 1 - len(HARMLESS)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on disk; ``place`` is that of the planted commit, 1 to 12, and ``planted`` its hash."""

    root: Path
    place: int
    good: str
    planted: str


def make(root: Path, place: int, seed: int) -> Repository:
    """Write it and commit everything."""
    draw = random.Random(seed)
    others = [*HARMLESS, *[None] * DOCUMENTS]
    draw.shuffle(others)
    root.mkdir(parents=True)
    _git(root, "init", "--quiet", "--initial-branch=main")
    _write(root, SCENARIO_PATH, SCENARIO)
    _write(root, MODEL_PATH, MODEL)
    _write(root, ".gitignore", "reports/\n__pycache__/\n")
    good = _commit(root, "A chain of convolutions")
    planted = ""
    for number in range(1, COMMITS + 1):
        if number == place:
            _replace(root, f"UNITS = {GOOD_UNITS}", f"UNITS = {BAD_UNITS}")
            planted = _commit(root, PLANTED)
            continue
        change = others.pop()
        if change is None:
            _write(root, "README.md", f"Edition {number}.\n")
            _commit(root, f"Edition {number} of the read-me")
        else:
            subject, old, new = change
            _replace(root, old, new)
            _commit(root, subject)
    return Repository(root, place, good, planted)


def places(count: int, seed: int) -> list[int]:
    """Different places for the planted commit."""
    return random.Random(seed).sample(range(1, COMMITS + 1), count)


def _replace(root: Path, old: str, new: str) -> None:
    text = (root / MODEL_PATH).read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{old!r} is not there once")
    _write(root, MODEL_PATH, text.replace(old, new))


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _commit(root: Path, subject: str) -> str:
    _git(root, "add", "--all")
    _git(root, *AUTHOR, "commit", "--quiet", "--no-gpg-sign", "--message", subject)
    return _git(root, "rev-parse", "HEAD")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()
