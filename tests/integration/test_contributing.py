import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"
SCENARIO = """
version: 1
name: pruned
model: {factory: net.py:build}
data: {random: {x: "float32[8]"}}
recipes:
  pruned: {passes: [./prune_magnitude.py: {amount: 0.5}], runtime: torch}
measure: {launches: 2, duration: 0.1 s, warm_up: 0.1 s}
"""
NET = """
import torch

def build():
    return torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
"""


@pytest.mark.slow
def test_the_pass_of_the_guide_works_as_printed_from_a_file_of_the_users_own(tmp_path):
    plugin = next(block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "PLUGIN = " in block)
    (tmp_path / "prune_magnitude.py").write_text(plugin)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "pruned.yaml").write_text(SCENARIO)
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", "pruned.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50.0% of 768 weights are zero" in (tmp_path / "reports" / "latest" / "report.html").read_text()
