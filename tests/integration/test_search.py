"""Real recipes of the quickstart scenario, searched from the declared space to the recipe in the file."""

import json
import shutil
from pathlib import Path

import pytest
from fakes.workplaces import Workplace

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LONGEST_S = 900
"""A model is trained, and four candidates are made and launched, on whatever machine this is."""
SPACE = """
search:
  space:
    - name: float
      passes: [export_onnx, {one_of: [optimize_onnx, null]}]
      runtime: onnxruntime
    - name: int8
      passes:
        - export_onnx
        - quantize_static: {per_channel: {one_of: [true, false]}, calibration_samples: 128}
      runtime: onnxruntime
"""


@pytest.mark.slow
def test_a_quantized_recipe_is_found_kept_accurate_and_written(tmp_path):
    place = Workplace(tmp_path / "repository", tmp_path / "cache")
    shutil.copytree(SCENARIOS / "models", place.root / "scenarios" / "models", ignore=shutil.ignore_patterns("__pycache__"))
    place.write(".gitignore", "reports/\n__pycache__/\n")
    place.write("scenarios/quickstart.yaml", (SCENARIOS / "quickstart.yaml").read_text() + SPACE)
    place.git("init", "--quiet", ".")
    place.commit("a search space")
    words = (
        "--objective",
        "model_size",
        "--subject-to",
        "accuracy: at most 1 point below fp32",
        "--subject-to",
        "latency_p50: at most 100 % of fp32",
    )
    options = (*words, "--set", "measure.duration=0.2 s", "--write", "best", "--json")
    with place.begun("search", "scenarios/quickstart.yaml", *options) as process:
        out, err = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["winner"].startswith("int8-") and found["effect"]["ratio"] < 0.5
    assert {entrant["name"] for entrant in found["entrants"]} == {
        "float-optimize_onnx",
        "float-no_optimize_onnx",
        "int8-per_channel",
        "int8-no_per_channel",
    }
    (winner,) = [entrant for entrant in found["entrants"] if entrant["name"] == found["winner"]]
    assert {check["metric"]: check["state"] for check in winner["constraints"]} == {"accuracy": "KEPT", "latency_p50": "KEPT"}
    assert place.git("diff", "--numstat").split()[:2] == ["6", "0"]
    (folder,) = (place.root / "reports" / "search").glob("2*")
    assert "float-optimize_onnx" in (folder / "report.html").read_text()
    assert json.loads((folder / "search.json").read_text())["winner"] == found["winner"]
