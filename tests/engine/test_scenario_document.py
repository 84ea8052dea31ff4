import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from scenario_files import RUINS

from harness import plugins
from harness.core.errors import BadInput
from harness.core.scenario import (
    BUILT_IN_TARGETS,
    DataSpec,
    GateRule,
    HardwareTarget,
    MeasureSpec,
    ModelSpec,
    Recipe,
    Requirements,
    Scenario,
)
from harness.core.units import Unit, spellings_of
from harness.engine.evaluate import metric_of
from harness.engine.read_scenario import read_scenario
from harness.engine.read_yaml import read_text
from harness.engine.scenario_schema import hardware_schema, scenario_schema

DOCUMENT = Path(__file__).parents[2] / "docs" / "scenario.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
MINIMAL = """\
version: 1
name: minimal
model: {factory: models/net.py:build}
data: {evaluation: models/net.py:test_set, calibration: models/net.py:train_set}
recipes:
  fp32: {runtime: torch}
  int8: {passes: [export_onnx, quantize_dynamic], runtime: onnxruntime}
"""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def kind_of(block):
    keys = read_text(block, Path("block.yaml")).value.keys()
    if "targets" in keys:
        return "hardware"
    return "whole" if {"version", "model", "data", "recipes"} <= keys else "fragment"


HARDWARE = [block for block in blocks("yaml") if kind_of(block) == "hardware"]
WHOLE = [block for block in blocks("yaml") if kind_of(block) == "whole"]
FRAGMENTS = [block for block in blocks("yaml") if kind_of(block) == "fragment"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with the files that the document speaks of; none of its Python can be run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "my_passes").mkdir()
    (tmp_path / "models" / "net.py").write_text(RUINS + "def build(): ...\ndef test_set(): ...\ndef train_set(): ...\n")
    (tmp_path / "models" / "net.onnx").write_text("")
    (tmp_path / "models" / "weights.pt").write_text("")
    (tmp_path / "my_passes" / "fuse_attention.py").write_text(RUINS + "class Fuse: ...\nPLUGIN = Fuse\n")
    (tmp_path / "hardware.yaml").write_text(HARDWARE[0])
    (tmp_path / "_base.yaml").write_text(MINIMAL)
    return tmp_path


def test_the_document_has_whole_scenarios_fragments_and_a_hardware_file():
    assert (len(WHOLE), len(HARDWARE)) == (2, 1)
    assert len(FRAGMENTS) >= 14


@pytest.mark.parametrize("block", WHOLE, ids=range(len(WHOLE)))
def test_a_whole_scenario_of_the_document_can_be_read_and_is_valid(folder, block):
    (folder / "s.yaml").write_text(block)
    file = read_scenario(Path("s.yaml"))
    assert file.scenario.recipes
    jsonschema.Draft202012Validator(json.loads(scenario_schema())).validate(read_text(block, Path("s.yaml")).value)


@pytest.mark.parametrize("block", FRAGMENTS, ids=range(len(FRAGMENTS)))
def test_a_fragment_of_the_document_can_be_laid_over_a_minimal_scenario_and_is_valid(folder, block):
    if "random:" in block:
        (folder / "_base.yaml").write_text(re.sub("data: .*\n", "", MINIMAL))  # in place of data
    text = block if "extends:" in block else f"extends: _base.yaml\n{block}"
    (folder / "s.yaml").write_text(text)
    scenario = read_scenario(Path("s.yaml")).scenario
    assert scenario != Scenario.model_validate(read_text(MINIMAL, Path("_base.yaml")).value)
    jsonschema.Draft202012Validator(json.loads(scenario_schema())).validate(read_text(text, Path("s.yaml")).value)


def test_the_hardware_file_of_the_document_is_valid(folder):
    jsonschema.Draft202012Validator(json.loads(hardware_schema())).validate(read_text(HARDWARE[0], Path("hardware.yaml")).value)


@pytest.mark.parametrize(
    "model", [Scenario, ModelSpec, DataSpec, Recipe, MeasureSpec, HardwareTarget, Requirements, GateRule], ids=lambda model: model.__name__
)
def test_every_key_is_in_the_document_and_in_one_of_its_examples(model):
    internal = {("ModelSpec", "source"), ("Recipe", "name")}
    for name in model.model_fields:
        if (model.__name__, name) not in internal:
            assert f"`{name}`" in TEXT, f"{model.__name__}.{name} is not told"
            assert any(re.search(rf"\b{name}\b", block) for block in blocks("yaml")), f"{model.__name__}.{name} has no example"
    assert "`extends`" in TEXT


def test_the_defaults_of_measuring_are_those_of_the_code():
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \| (?:samples|when|launches|measured|warm-up|a s)", TEXT, re.MULTILINE))
    fields = MeasureSpec.model_fields
    assert rows == {
        "batch_sizes": str(list(fields["batch_sizes"].default)),
        "load": fields["load"].default.name,
        **{name: str(fields[name].default) for name in ("launches", "duration", "warm_up", "timeout", "build_timeout")},
    }


def test_every_metric_is_told_with_its_unit_and_its_tolerance():
    table = TEXT[TEXT.index("| metric | unit | tolerance |") :].split("\n\n")[0]
    told = {name: (unit, tolerance) for names, unit, tolerance in re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) ?\|$", table, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", names)}  # fmt: skip
    words = {Unit.NANOSECONDS: "time", Unit.BYTES: "size", Unit.PER_SECOND: "rate", Unit.FRACTION: "share", Unit.NUMBER: "plain number"}
    words |= {Unit.JOULES: "energy", Unit.WATTS: "power"}
    assert told == {name: (words[metric_of(name).unit], tolerance_of(name)) for name in plugins.names("metrics")}


def tolerance_of(name):
    metric = metric_of(name)
    if metric.tolerance is None:
        return ""
    return f"{100 * metric.tolerance:g} {'points' if metric.kind == 'sample' else '%'}"


def test_every_unit_is_told():
    table = TEXT[TEXT.index("## Units") : TEXT.index("## extends")]
    assert [spelling for spelling in spellings_of(*Unit) if f"`{spelling}`" not in table] == []


def test_every_source_and_every_built_in_target_is_told():
    assert [name for name in (*plugins.names("sources"), *BUILT_IN_TARGETS) if f"`{name}`" not in TEXT] == []


def test_every_link_inside_the_document_leads_somewhere():
    headings = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    targets = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert targets and targets <= headings


def test_every_override_of_the_document_can_be_applied(folder):
    (folder / "s.yaml").write_text(WHOLE[0])
    commands = [block for block in blocks("console") if "--set" in block]
    overrides = [text.strip("'") for text in re.findall(r"--set ('[^']*'|[^ \n]*'[^']*'|[^ \n]+)", "\n".join(commands))]
    assert len(overrides) == 4
    plain = read_scenario(Path("s.yaml")).scenario
    for override in overrides:
        assert read_scenario(Path("s.yaml"), overrides=[override.replace("'", "")]).scenario != plain


def test_the_command_prints_where_the_schema_is():
    (command,) = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if "schema.json" in line]
    program = re.fullmatch(r'python -c "(.*)"', command)[1]
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert Path(printed).read_text(encoding="utf-8") == scenario_schema()


def test_the_error_of_the_document_is_what_is_said(folder):
    (folder / "scenarios").mkdir()
    text = WHOLE[0].replace("models/", "../models/").replace("quantize_static", "quantise_static")
    (folder / "scenarios" / "digits.yaml").write_text(text)
    (block,) = [block for block in blocks("console") if "quantise" in block]
    with pytest.raises(BadInput) as refused:
        read_scenario(Path("scenarios/digits.yaml"))
    number = re.compile(r"shows all \d+")
    assert number.sub("", block.partition("\n")[2]).strip() == number.sub("", str(refused.value)).strip()
