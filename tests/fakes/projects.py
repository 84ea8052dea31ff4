"""Small projects on disk, under version control where a test asks for it; their models take a known time and need no framework."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness.core.plan import Trial
from harness.core.progress import Silent
from harness.engine.build import Builder
from harness.engine.content import Derivation, derive
from harness.engine.read_scenario import read_scenario
from harness.engine.toolchain import Toolchain

FAKE = """\
version: 1
name: tiny
model:
  fake: {latency_us: 50}
data:
  random: {x: "float32[4]"}
  samples: 8
recipes:
  plain: {runtime: fake}
  slower: {runtime: {fake: {add_latency_us: 10}}}
"""
"""A scenario that can be built and measured in a moment."""

CODE = """\
version: 1
name: coded
model:
  factory: models/net.py:build
  args: {width: 4}
  files: [models/weights.bin]
data:
  evaluation: models/rows.py:test_set
  calibration: models/rows.py:train_set
  task: classification
recipes:
  plain: {runtime: torch}
  int8:
    passes: [export_onnx, quantize_static: {per_channel: true}]
    runtime: onnxruntime
  fused:
    passes: [./my_passes/fuse.py: {level: 2}]
    runtime: torch
"""
"""A scenario with code, weights, data and a pass of the user's own; it is only ever derived, never built."""

CODE_FILES = {
    "models/net.py": "import torch\nfrom layers import dense\n\n\ndef build(width):\n    return dense.make(width)\n",
    "models/layers/__init__.py": "",
    "models/layers/dense.py": "from . import names\n\n\ndef make(width):\n    return names.NAME * width\n",
    "models/layers/names.py": 'NAME = "dense"\n',
    "models/rows.py": "import numpy as np\n\n\ndef test_set():\n    return np.eye(8), None\n\n\ntrain_set = test_set\n",
    "models/weights.bin": "0123456789",
    "my_passes/fuse.py": '"""See Fuse."""\n\nfrom depth import DEPTH\n\n\nclass Fuse:\n    """Fuse."""\n\n\nPLUGIN = Fuse\n',
    "my_passes/depth.py": "DEPTH = 3\n",
    "README.md": "What this is.\n",
}

TOOLCHAIN = Toolchain(
    "3.11",
    {"numpy": "2.4.1", "onnx": "1.19.0", "onnxruntime": "1.25.0", "onnxscript": "0.5.0", "torch": "2.13.0", "requests": "2.32.0"},
    {"numpy": ("numpy",), "torch": ("torch",), "requests": ("requests",)},
)


class Project:
    """A folder that holds a scenario and what it names."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def change(self, path: str, before: str, after: str) -> None:
        """Replace a text that the file must have."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert before in text
        self.write(path, text.replace(before, after))

    def git(self, *arguments: str) -> str:
        """Ask git, whatever this machine's user has told it."""
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        person = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(
            ["git", "-C", str(self.root), *person, *arguments], check=True, capture_output=True, text=True, env=environment
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Put everything under version control as it is; the new commit."""
        if not (self.root / ".git").exists():
            self.git("init", "-q")
        self.git("add", "--all")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")

    def worktrees(self) -> list[str]:
        """The folders that git has checked this project out into."""
        told = self.git("worktree", "list", "--porcelain").splitlines()
        return [line.removeprefix("worktree ") for line in told if line.startswith("worktree ")]

    def trial(self, recipe: str = "plain", *, batch_size: int = 1, path: str = "scenario.yaml") -> Trial:
        """One trial of the scenario as it stands in the file now."""
        file = read_scenario(self.root / path, root=self.root)
        return Trial(file, file.scenario.recipes[recipe], file.targets[0], batch_size)

    def derive(self, recipe: str = "plain", *, toolchain: Toolchain = TOOLCHAIN, batch_size: int = 1) -> Derivation:
        return derive(self.trial(recipe, batch_size=batch_size), toolchain)


def fake_project(root: Path) -> Project:
    """A project that can be built in a moment."""
    project = Project(root)
    project.write("scenario.yaml", FAKE)
    return project


def code_project(root: Path) -> Project:
    """A project with code, weights, data and a pass of its own."""
    project = Project(root)
    for path, text in CODE_FILES.items():
        project.write(path, text)
    project.write("scenario.yaml", CODE)
    return project


def builder(cache, logs: Path) -> Builder:
    return Builder(cache, logs, Silent())
