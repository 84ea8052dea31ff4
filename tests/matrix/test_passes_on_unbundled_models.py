"""Every pass on models that no bundled scenario has: it runs and answers, or refuses and says why. None falls over.

The models are files of a project like a user's own; nothing of the package knows them. A pass that is added without a row fails here.
"""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from chains import ALONE
from forked_builds import Refused

from harness import plugins

for package in ("torch", "onnxruntime", "openvino", "nncf", "torchao", "torch_pruning", "transformers"):
    pytest.importorskip(package)
pytestmark = pytest.mark.slow

TASKS = {"convnet": "classification", "encoder": "classification", "recommender": "other", "bert": "classification"}
CASES = [(model, name) for model in ("convnet", "encoder", "recommender") for name in plugins.names("passes")]
CASES += [("bert", name) for name in ("distill", "fuse_transformer", "prune_channels", "prune_heads", "quantize_nncf", "torchscript")]
"""The last is of a library's own classes, which take long to import: it is asked where they matter."""
NO_ATTENTION = "no attention of a known layout in this module"
NO_PATTERN = "'fuse_transformer' found no pattern of 'bert' in this graph"
REFUSALS = {
    ("convnet", "fuse_transformer"): NO_PATTERN,
    ("convnet", "prune_heads"): NO_ATTENTION,
    ("convnet", "torchao_int4_weight_only"): "head: 5 output features are no multiple of 16",
    ("encoder", "autocast"): "after 'autocast' the module no longer runs .*pass bfloat16",
    ("encoder", "prune_heads"): "'layers.layers.0.self_attn' is a torch.nn.MultiheadAttention",
    ("recommender", "fuse_transformer"): NO_PATTERN,
    ("recommender", "onnx_float16"): "does not reach into loops and branches, and this graph has Loop '.*torch exports an EmbeddingBag",
    ("recommender", "prune_heads"): NO_ATTENTION,
}
"""What a refusal must say, by model and pass; all else runs."""
LOOSE = {
    "distill": -1.0,  # trained for seconds
    "fold_constants": 0.9,  # of what quantize_dynamic gives
    "finetune": -1.0,
    "qat": -1.0,
    "torchao_qat": -1.0,
    "pt2e_static_int8": 0.99,
    "prune_channels": 0.3,
    "prune_magnitude": 0.8,
    "prune_semi_structured": 0.5,
    "quantize_dynamic": 0.9,
    "quantize_nncf": 0.8,
    "quantize_static": 0.7,
    "torchao_int4_weight_only": 0.95,
}
"""The least correlation of all outputs with the float module's; 0.999 for the rest. Weights are drawn: rounding costs more than usual."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("unbundled")
    shutil.copytree(Path(__file__).parent / "models", root / "models")
    return root


def written(project, model, name):
    """A scenario with the pass alone; its student, where it takes one, is a smaller model of the same file."""
    file = f"models/{model}.py"
    document = {
        "version": 1,
        "name": f"{model}-{name}",
        "model": {"factory": f"{file}:build"},
        "data": {
            "evaluation": f"{file}:evaluation_set",
            "calibration": f"{file}:train_set",
            "training": f"{file}:train_set",
            "task": TASKS[model],
        },
        "recipes": {"fp32": {"runtime": "torch"}, name: ALONE[name].recipe},
    }
    path = project / f"{model}-{name}.yaml"
    path.write_text(json.dumps(document).replace("models/student.py:build", f"{file}:student"))
    return path


@pytest.fixture(scope="module")
def outcomes(forge, project, request):
    """The futures of all recipes that the selected tests ask for, two in work at a time."""
    chosen = {item.callspec.params["case"] for item in request.session.items if item.path == Path(__file__)}
    wanted = [case for case in CASES if case in chosen and case[1] in ALONE and not ALONE[case[1]].elsewhere]
    pool, futures = ThreadPoolExecutor(2), {}
    for model, name in wanted:
        scenario = written(project, model, name)
        for recipe in ("fp32", name):
            if (model, recipe) not in futures:
                futures[model, recipe] = pool.submit(forge.outcome, scenario, recipe)
    yield futures
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_pass_runs_or_says_why_not(request, case):
    model, name = case
    assert name in ALONE, f"say in chains.py how '{name}' is used alone"
    if reason := ALONE[name].elsewhere:
        pytest.skip(reason)
    outcomes = request.getfixturevalue("outcomes")
    if expected := REFUSALS.get(case):
        with pytest.raises(Refused) as told:
            outcomes[case].result()
        assert re.search(expected, str(told.value), re.DOTALL)
        return
    made, float32 = outcomes[case].result(), outcomes[model, "fp32"].result()
    assert name in [step.plugin for step in made.artifact.steps]
    assert made.notes
    ours, theirs = (each.predictions.outputs[0].astype(np.float64) for each in (made, float32))
    assert ours.shape == theirs.shape and np.isfinite(ours).all()
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > LOOSE.get(name, 0.999)
