import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.engine.init_project import init_project
from harness.engine.read_scenario import read_scenarios

FILES = [
    "scenarios/models/my_model.py",
    "scenarios/my-model.yaml",
    "baselines/README.md",
    "reports/.gitignore",
    ".github/workflows/performance-comment.yml",
    ".github/workflows/performance-gate.yml",
]


def everything(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_starter_files_are_written_and_told(tmp_path):
    assert init_project(tmp_path) == tuple(tmp_path / name for name in FILES)
    assert sorted(everything(tmp_path)) == sorted(FILES)


def test_paths_are_told_as_the_folder_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(path) for path in init_project(Path())] == FILES
    assert [str(path) for path in init_project(Path("deep/er"))] == [f"deep/er/{name}" for name in FILES]


def test_the_scenario_can_be_read_at_once(tmp_path):
    init_project(tmp_path)
    (file,) = read_scenarios([tmp_path / "scenarios"], root=tmp_path)
    assert list(file.scenario.recipes) == ["fp32", "onnx", "int8"]
    assert [target.device for target in file.targets] == ["cpu"]
    assert any(clause.metric == "model_size" for clause in file.scenario.clauses())


def test_the_scenario_is_valid_against_the_schema_for_editors(tmp_path):
    import json

    import jsonschema

    from harness.engine.read_yaml import read_yaml
    from harness.engine.scenario_schema import scenario_schema

    init_project(tmp_path)
    jsonschema.Draft202012Validator(json.loads(scenario_schema())).validate(read_yaml(tmp_path / "scenarios" / "my-model.yaml").value)


def test_other_files_of_the_repository_are_left_alone(tmp_path):
    kept = {"README.md": "mine\n", ".gitignore": "*.log\n", "scenarios/other.yaml": "mine\n", ".github/workflows/tests.yml": "mine\n"}
    for name, text in kept.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    init_project(tmp_path)
    assert {name: text for name, text in everything(tmp_path).items() if name in kept} == kept


def test_a_file_that_is_there_is_never_overwritten_and_nothing_else_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = {"scenarios/my-model.yaml": "mine\n", "baselines/README.md": "mine too\n"}
    for name, text in there.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    with pytest.raises(BadInput) as refused:
        init_project(Path())
    assert str(refused.value) == (
        "scenarios/my-model.yaml: is there already\n  move it away, or keep it: 'harness init' overwrites nothing\n"
        "baselines/README.md: is there already\n  move it away, or keep it: 'harness init' overwrites nothing"
    )
    assert everything(tmp_path) == there


def test_a_second_time_changes_nothing(tmp_path):
    init_project(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(BadInput) as refused:
        init_project(tmp_path)
    assert len(refused.value.problems) == len(FILES)
    assert everything(tmp_path) == before


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path):
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "README.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(BadInput, match="is there already"):
        init_project(tmp_path)
    assert not (tmp_path / "elsewhere.md").exists()


def test_a_file_where_a_folder_is_needed_is_told_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scenarios").write_text("not a folder\n")
    with pytest.raises(BadInput) as refused:
        init_project(Path())
    assert str(refused.value) == "scenarios: is a file where a folder is needed"
    assert everything(tmp_path) == {"scenarios": "not a folder\n"}


@pytest.mark.slow
def test_the_example_model_learns_what_the_scenario_promises(tmp_path):
    torch = pytest.importorskip("torch")
    init_project(tmp_path)
    names = {}
    exec((tmp_path / "scenarios" / "models" / "my_model.py").read_text(), names)
    torch.manual_seed(0)
    model, (inputs, labels) = names["build"](), names["evaluation_data"]()
    with torch.inference_mode():
        accuracy = (model(inputs).argmax(1) == labels).float().mean().item()
    assert 0.95 < accuracy < 1


@pytest.mark.slow
def test_the_starter_is_in_the_wheel_hidden_files_too(tmp_path):
    root = Path(__file__).parents[2]
    kept = shutil.ignore_patterns(".*cache", "__pycache__", "*.egg-info")
    shutil.copytree(root / "harness", tmp_path / "source" / "harness", ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (root / name).is_file():
            shutil.copy(root / name, tmp_path / "source" / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(tmp_path / "source"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name.removeprefix("harness/engine/starter/") for name in zipfile.ZipFile(wheel).namelist() if "/starter/" in name}
    assert inside == set(FILES) - {"scenarios/models/my_model.py"} | {"scenarios/models/my_model.py.template"}
    assert {"harness/engine/scenario.schema.json", "harness/engine/hardware.schema.json"} <= set(zipfile.ZipFile(wheel).namelist())
