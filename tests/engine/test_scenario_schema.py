import json
import os
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError
from scenario_files import GOOD, RIGHT, WRONG, Project, changed, name_of

import harness.engine
from harness import plugins
from harness.core.scenario import Scenario
from harness.core.units import EXAMPLES
from harness.engine.check_promises import check_clauses, check_gate
from harness.engine.evaluate import metric_of
from harness.engine.read_yaml import read_text
from harness.engine.scenario_schema import hardware_schema, scenario_schema

FOLDER = Path(harness.engine.__file__).parent
SCHEMA = json.loads(scenario_schema())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
HARDWARE = jsonschema.Draft202012Validator(json.loads(hardware_schema()))


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


def value(text):
    return read_text(text, Path("s.yaml")).value


def complaints(text, validator=VALIDATOR):
    return [error.message for error in validator.iter_errors(value(text))]


@pytest.mark.parametrize(("name", "made"), [("scenario.schema.json", scenario_schema), ("hardware.schema.json", hardware_schema)])
def test_the_schema_in_the_package_is_made_from_the_code(name, made):
    path = FOLDER / name
    if os.environ.get("HARNESS_REGENERATE_GOLDEN") == "1":
        path.write_text(made(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == made(), f"differs from {name}: run with HARNESS_REGENERATE_GOLDEN=1 if that is meant"


def test_the_schemas_are_valid_schemas():
    for validator in (VALIDATOR, HARDWARE):
        validator.check_schema(validator.schema)
        assert validator.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("case", [("", ""), *RIGHT], ids=name_of)
def test_what_the_reader_reads_the_schema_takes(case):
    assert complaints(changed(*case)) == []


@pytest.mark.parametrize("case", WRONG, ids=name_of)
def test_what_the_reader_refuses_the_schema_refuses_unless_it_cannot_know(case):
    assert (complaints(changed(case.old, case.new)) == []) == case.unseen


BOUNDS = ["at most {}", "at least {}", "under {}", "{}", "At most {}", " at most  {} "]
RELATIONS = ["", " of fp32", " below fp32", " above fp32", " of", " under fp32"]
LIMITS = [*EXAMPLES.values(), "50%", "1 point", "0.5 points", "0", "1", "1.0", ".5", "2", "1e-3", "1_000 B", "-1", "-1 ms", "3 apples", ""]
TIMES = [
    f"at least {n} times {how} fp32" for n in ("3", "1.5", "-1", "") for how in ("faster than", "as fast as", "smaller than", "as big as")
]
CLAUSES = [bound.format(limit + relation) for bound in BOUNDS for limit in LIMITS for relation in RELATIONS] + TIMES


@pytest.mark.parametrize("metric", sorted({metric_of(name).unit: name for name in plugins.names("metrics")}.values()))
def test_reader_and_schema_agree_on_every_clause(project, metric):
    scenario = project.read(GOOD).scenario
    for text in CLAUSES:
        read = not check_clauses(scenario.model_copy(update={"sla": {f"int8.{metric}": text}}))
        for key in (metric, f"int8.{metric}"):
            assert VALIDATOR.evolve(schema={**SCHEMA, "if": True}).is_valid({"sla": {key: text}}) == read, (key, text)


@pytest.mark.parametrize("metric", plugins.names("metrics"))
def test_reader_and_schema_agree_on_every_gate_rule(metric):
    rules = ["3 %", "3%", "0.5 points", "1 point", "0.01", "3", "-1 %", "3 ms", "off", "'on'", "false", "true", "[]", "fast"]
    forms = ["{tolerance: %s}", "{tolerance: %s, floor: 1 ms}", "{tolerance: %s, floor: 1 KiB}", "{tolerance: %s, floor: 0.5}"]
    written = [form % rule for rule in rules for form in forms]
    for text in [*rules, *written, "{off: true}", "{off: true, floor: 1 ms}", "{tolerence: 3 %}"]:
        scenario = value(GOOD) | {"gate": {metric: value(f"rule: {text}")["rule"]}}
        assert VALIDATOR.is_valid(scenario) == is_read(scenario), text


def is_read(scenario):
    try:
        return not check_gate(Scenario.model_validate(scenario))
    except ValidationError:
        return False


def test_a_file_that_extends_another_may_leave_out_what_the_other_gives():
    assert complaints("extends: _base.yaml\n") == []
    assert (
        complaints("extends: _base.yaml\nmodel: {args: {width: 3}}\ndata: {task: other}\nrecipes: {int8: {passes: [export_onnx]}}\n") == []
    )


def test_a_file_that_extends_another_is_checked_in_what_it_says():
    assert complaints("extends: _base.yaml\nmeasure: {duration: 5}\n")
    assert complaints("extends: _base.yaml\nmesure: {}\n")
    assert complaints("extends: [_base.yaml]\n")


def test_a_file_of_its_own_must_have_what_the_reader_needs():
    required = {name for name, field in Scenario.model_fields.items() if field.is_required()}
    assert {message.split("'")[1] for message in complaints("seed: 1\n")} == required


def keys_of(schema):
    return set(schema["properties"])


def test_every_key_of_a_scenario_is_described():
    def undescribed(schema, where):
        for name, inner in schema.get("properties", {}).items():
            if "description" not in inner and "$ref" not in inner:
                yield f"{where}.{name}"
            yield from undescribed(inner, f"{where}.{name}")

    plain = {key: inner for key, inner in SCHEMA["properties"].items() if key not in ("sla", "gate", "model")}
    recipe = SCHEMA["properties"]["recipes"]["additionalProperties"]
    for schema in ({"properties": plain}, recipe, SCHEMA["$defs"]["target"], HARDWARE.schema):
        assert list(undescribed(schema, "")) == []


def test_every_plugin_can_be_completed_with_its_help_and_its_options():
    for family, part in {"passes": "pass", "runtimes": "runtime", "loads": "load"}.items():
        forms = SCHEMA["$defs"][part]["anyOf"]
        named = {form["const"]: form["description"] for form in forms if "const" in form}
        (written,) = [form["properties"] for form in forms if "properties" in form]
        assert tuple(named) == tuple(written) == plugins.names(family)
        for name in plugins.names(family):
            assert named[name].startswith(plugins.describe(plugins.find(family, name)).help.replace("``", "`"))
            assert keys_of(written[name]["anyOf"][0]) == set(plugins.load(family, name).model_fields)


def test_defaults_are_written_as_users_write_them():
    measure = SCHEMA["properties"]["measure"]["properties"]
    assert {name: inner.get("default") for name, inner in measure.items()} == {
        "batch_sizes": [1],
        "load": None,
        "capacity": None,
        "launches": 5,
        "duration": "0.5 s",
        "warm_up": "0.25 s",
        "timeout": "120 s",
        "build_timeout": "1800 s",
        "telemetry": None,
    }


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("version: 1\ntargets: {}\n", True),
        ("version: 1\ntargets: {box: {}}\n", True),
        ("version: 1\ntargets: {box: {device: 'cuda:0', cores: 2, threads: 2, price_per_hour: 1, currency: EUR}}\n", True),
        ("version: 1\ntargets: {box: {requires: {cpu_model: EPYC, cores: 2, memory: 4 GiB, gpu: T4}}}\n", True),
        ("version: 2\ntargets: {}\n", False),
        ("version: 1\n", False),
        ("targets: {}\n", False),
        ("version: 1\ntargets: {a box: {}}\n", False),
        ("version: 1\ntargets: {box: {devices: cpu}}\n", False),
        ("version: 1\ntargets: {box: {device: tpu}}\n", False),
        ("version: 1\ntargets: {box: {cores: 0}}\n", False),
        ("version: 1\ntargets: {box: {requires: {memory: 4}}}\n", False),
        ("version: 1\ntargets: {box: {requires: {memory: 4 s}}}\n", False),
        ("version: 1\ntargets: {box: {price_per_hour: -1}}\n", False),
        ("version: 1\ntargets: [box]\n", False),
    ],
)
def test_reader_and_schema_agree_on_hardware(project, text, right):
    project.write("scenarios/hardware.yaml", text)
    assert (complaints(text, HARDWARE) == []) == right
    assert (project.refusal(GOOD) == "nothing: the file was read") == right


def test_the_scenarios_of_this_project_are_valid():
    files = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
    for path in files:
        validator = HARDWARE if path.name == "hardware.yaml" else VALIDATOR
        assert complaints(path.read_text(encoding="utf-8"), validator) == [], path.name
    assert files
