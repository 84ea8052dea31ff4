"""The JSON Schemas of what users write, for editors: a scenario, and hardware.yaml.

Keys, descriptions and defaults come from ``core/scenario``, the names and options of plugins from their files. A schema sees the form of
one file; what lies in other files (factories, baselines, what ``extends`` brings) is for ``harness validate``.
"""

from __future__ import annotations

import inspect
import json
import re

from pydantic import BaseModel

from harness import plugins
from harness.core.scenario import (
    BUILT_IN_TARGETS,
    CHOICE,
    FASTER,
    SMALLER,
    CapacitySpec,
    DataSpec,
    GateRule,
    HardwareTarget,
    MeasureSpec,
    ModelSpec,
    Recipe,
    Requirements,
    Scenario,
    SearchSpec,
    SpaceSpec,
    TelemetrySpec,
    quantity_pattern,
)
from harness.core.units import EXAMPLES, NUMBER, Unit, spellings_of
from harness.engine.datasets import RANDOM_PATTERN
from harness.engine.evaluate import metric_of
from harness.engine.read_scenario import HardwareFile

Schema = dict[str, object]
DRAFT: Schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
OWN = r"\.py$"
"""The name of a plugin of the user's own: a path."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"


def scenario_schema() -> str:
    """The JSON Schema (draft 2020-12) of a scenario as it is written, as the file that is checked in.

    A file that extends another may leave out whatever the other gives.
    """
    recipes: Schema = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{_NAME}$", "maxLength": 64},
        "additionalProperties": _object(
            Recipe, passes={"type": "array", "items": _ref("pass")}, runtime=_ref("runtime"), server=_ref("server")
        ),
    }
    keys = _keys(
        Scenario,
        model=_model(),
        data=_object(DataSpec, random={"type": "object", "additionalProperties": {"type": "string", "pattern": f"^{RANDOM_PATTERN}$"}}),
        recipes=recipes,
        hardware=_hardware(),
        measure=_object(
            MeasureSpec,
            load=_ref("load"),
            capacity=_object(CapacitySpec),
            batch_sizes=_distinct(_keys(MeasureSpec)["batch_sizes"]),
            telemetry={"anyOf": [{"enum": ["off", False]}, _object(TelemetrySpec)]},
        ),
        sla=_sla(),
        gate=_gate(),
        search=_search(),
    )
    base = {"type": "string", "description": "Another file, relative to this one, that this file is laid over.", "examples": ["_base.yaml"]}
    schema = {
        **DRAFT,
        "title": "harness scenario",
        "description": _told(Scenario.__doc__),
        "type": "object",
        "additionalProperties": False,
        "properties": {"version": keys.pop("version"), "extends": base, **keys},
        "if": {"required": ["extends"]},
        "else": _complete(),
        "$defs": {
            "pass": _plugin("passes"),
            "runtime": _plugin("runtimes"),
            "load": _plugin("loads"),
            "server": _plugin("serving"),
            "target": _object(HardwareTarget, requires=_object(Requirements)),
            "choice": _choice({"description": "A value in a choice: what the plugin says of it, 'harness search' checks."}),
            "pass_choice": _plugin("passes", choices=True),
            "runtime_choice": _plugin("runtimes", choices=True),
            "server_choice": _plugin("serving", choices=True),
            **{_clause_of(name): _clause(metric_of(name).unit) for name in plugins.names("metrics")},
            **{_rule_of(name): _rule(name) for name in plugins.names("metrics")},
        },
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def hardware_schema() -> str:
    """The JSON Schema of hardware.yaml, as the file that is checked in."""
    target = _object(HardwareTarget, requires=_object(Requirements))
    properties = target["properties"]
    assert isinstance(properties, dict)
    del properties["name"]  # the key is the name
    targets: Schema = {"type": "object", "propertyNames": {"pattern": f"^{_NAME}$", "maxLength": 64}, "additionalProperties": target}
    schema = {**DRAFT, "title": "harness hardware", **_object(HardwareFile, targets=targets), "required": ["version", "targets"]}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _complete() -> Schema:
    """What a file that extends nothing must have."""
    sources: list[Schema] = [{"required": [name]} for name in plugins.names("sources")]
    sources.append({"not": {"propertyNames": {"not": {"pattern": OWN}}}})  # one of the keys is a path
    return {
        "required": Scenario.model_json_schema()["required"],
        "properties": {
            "model": {"oneOf": sources},
            "data": {"oneOf": [{"required": ["evaluation"]}, {"required": ["random"]}]},
            "recipes": {"additionalProperties": {"required": Recipe.model_json_schema()["required"]}},
        },
    }


def _model() -> Schema:
    keys = _keys(ModelSpec)
    sources = {name: _source(name) for name in plugins.names("sources")}
    return {
        "description": _told(ModelSpec.__doc__).split("\n\n")[0],
        "type": "object",
        "properties": {**sources, "args": keys["args"], "files": keys["files"]},
        "patternProperties": {OWN: _own("a source")},
        "additionalProperties": False,
    }


def _source(name: str) -> Schema:
    """A source's value: the plain string that stands for its one option, or its options."""
    kind = plugins.load("sources", name)
    forms: list[Schema] = []
    if kind.short is not None:
        plain: Schema = {"type": "string"}
        if name == "factory":
            plain["pattern"] = _factory_pattern()
        if written := re.findall(rf"``{name}: ([^`{{]+)``", kind.__doc__ or ""):
            plain["examples"] = written
        forms.append(plain)
    forms.append(_options(kind))
    if not any(field.is_required() for field in kind.model_fields.values()):
        forms.append({"type": "null"})
    return {"description": _told(kind.__doc__), "anyOf": forms}


def _factory_pattern() -> object:
    evaluation = DataSpec.model_json_schema()["properties"]["evaluation"]
    return evaluation["anyOf"][0]["pattern"]


def _search() -> Schema:
    """Recipes in which an option, or a whole plugin, may be a choice."""
    entry = _object(
        SpaceSpec,
        passes={"type": "array", "items": _or_another("pass_choice", optional=True)},
        runtime=_or_another("runtime_choice"),
        server=_or_another("server_choice"),
    )
    space: Schema = {"type": "array", "minItems": 1, "items": {**entry, "required": ["runtime"]}}
    return _object(SearchSpec, space=space) | {"required": ["space"]}


def _choice(schema: Schema) -> Schema:
    """What ``{one_of: [...]}`` may be made of."""
    listed: Schema = {"type": "array", "minItems": 1, "items": schema}
    return {"type": "object", "properties": {CHOICE: listed}, "required": [CHOICE], "additionalProperties": False}


def _or_choice(schema: Schema) -> Schema:
    told: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    plain = {key: value for key, value in schema.items() if key not in told}
    return {**told, "anyOf": [plain, _ref("choice")]}


def _plugin(family: plugins.Family, *, choices: bool = False) -> Schema:
    """A plugin by name, or with its options under its name; a path is one of the user's own. With ``choices`` as in a search space."""
    kinds = {name: plugins.load(family, name) for name in plugins.names(family)}
    names: list[Schema] = [{"const": name, "description": _told(kind.__doc__)} for name, kind in kinds.items()]
    options: Schema = {
        name: {"description": _told(kind.__doc__), "anyOf": [*_option_forms(kind, choices=choices), {"type": "null"}]}
        for name, kind in kinds.items()
    }
    written: Schema = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": options,
        "patternProperties": {OWN: _own("a plugin")},
        "additionalProperties": False,
    }
    return {"anyOf": [*names, written, {"type": "string", "pattern": OWN}]}


def _or_another(plain: str, *, optional: bool = False) -> Schema:
    """A plugin whose options may be choices, or a choice among such plugins and, where it is optional, none."""
    absent: list[Schema] = [{"type": "null"}] if optional else []
    return {"anyOf": [_ref(plain), _choice({"anyOf": [_ref(plain), *absent]})]}


def _option_forms(kind: type[BaseModel], *, choices: bool) -> list[Schema]:
    """A plugin's options; with ``choices`` each may be one, and so may all of them together."""
    if not choices:
        return [_options(kind)]
    keys = {name: _or_choice(schema) for name, schema in _keys(kind).items()}
    options: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    return [options, _ref("choice")]


def _own(what: str) -> Schema:
    return {"description": f"The options of {what} of your own, in a file relative to this one."}


def _options(kind: type[BaseModel]) -> Schema:
    """Options may be left to the file that is extended, so none is required here."""
    return {"type": "object", "properties": _keys(kind), "additionalProperties": False}


def _hardware() -> Schema:
    built_in: list[Schema] = [
        {"const": name, "description": f"Any machine, on {target.device}."} for name, target in BUILT_IN_TARGETS.items()
    ]
    named: Schema = {"type": "string", "pattern": f"^{_NAME}$", "maxLength": 64, "description": "A target of hardware.yaml."}
    return {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"anyOf": [*built_in, named, {**_ref("target"), "required": ["name"]}]},
    }


def _sla() -> Schema:
    """A clause for every recipe under the metric's name, for one recipe under ``recipe.metric``."""
    clauses = {name: _ref(_clause_of(name)) for name in plugins.names("metrics")}
    return {
        "type": "object",
        "properties": {name: {**clause, "description": _help(name)} for name, clause in clauses.items()},
        "patternProperties": {rf"^{_NAME}\.{name}$": clause for name, clause in clauses.items()},
        "additionalProperties": False,
    }


def _clause_of(metric: str) -> str:
    return f"clause_{metric_of(metric).unit}"


def _clause(unit: Unit) -> Schema:
    """The forms of a clause on a metric in this unit."""
    bound, of = r"^\s*at (?:most|least)\s+", rf"{_NAME}\s*$"
    quantity = rf"\+?{NUMBER}\s*(?:{'|'.join(map(re.escape, spellings_of(unit)))})"
    distance, small = quantity, "|".join(SMALLER)
    if unit is Unit.FRACTION:
        plain = r"(?:0(?:\.\d+)?|\.\d+|1(?:\.0+)?|\d(?:\.\d+)?[eE]-0*[1-9]\d*)"
        quantity, distance = rf"(?:\+?{NUMBER}\s*%|{plain})", rf"(?:\+?{NUMBER}\s*points?|{plain})"
    elif unit is Unit.NUMBER:
        quantity = distance = rf"[+-]?{NUMBER}"
    how = f"{'|'.join(FASTER)}|{small}" if unit in (Unit.NANOSECONDS, Unit.PER_SECOND) else small
    forms = (
        rf"{bound}{quantity}\s*$",
        rf"{bound}\+?{NUMBER}\s*%\s+of\s+{of}",
        rf"{bound}{distance}\s+(?:below|above)\s+{of}",
        rf"^\s*at least\s+\d+(?:\.\d+)?\s+times\s+(?:{how})\s+{of}",
    )
    least = "at least" if unit in (Unit.FRACTION, Unit.PER_SECOND, Unit.NUMBER) else "at most"
    return {"type": "string", "pattern": "|".join(forms), "examples": [f"{least} {EXAMPLES[unit]}", "at most 50 % of fp32"]}


def _gate() -> Schema:
    rules = {name: {**_ref(_rule_of(name)), "description": f"{_help(name)} {_default(name)}"} for name in plugins.names("metrics")}
    return {"type": "object", "properties": rules, "additionalProperties": False}


def _default(name: str) -> str:
    metric = metric_of(name)
    if metric.tolerance is None:
        return "Not gated without a tolerance."
    return f"Tolerance where none is written: {100 * metric.tolerance:g} {'points' if metric.kind == 'sample' else '%'}."


def _rule_of(name: str) -> str:
    metric = metric_of(name)
    return f"rule_{'difference' if metric.kind == 'sample' else 'ratio'}_{metric.unit}"


def _rule(name: str) -> Schema:
    """A tolerance on the scale that the metric is compared on, alone or with a floor in the metric's unit; or 'off'."""
    metric = metric_of(name)
    tolerance: Schema = {"type": "string", "pattern": quantity_pattern("%"), "examples": ["3 %"]}
    if metric.kind == "sample" and metric.unit is Unit.FRACTION:
        tolerance = {"type": "string", "pattern": quantity_pattern("point", "points"), "examples": ["0.5 points"]}
    elif metric.kind == "sample":
        tolerance = {"type": "number", "minimum": 0, "examples": [0.01]}
    floor: Schema = {"type": "string", "pattern": quantity_pattern(*spellings_of(metric.unit))}
    if metric.unit is Unit.NUMBER:
        floor = {"type": "number", "minimum": 0}
    keys = _keys(GateRule, tolerance=tolerance, floor=floor)
    written: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    written |= {"if": {"required": ["off"], "properties": {"off": {"const": True}}}, "then": {"maxProperties": 1}}
    return {"anyOf": [tolerance, {"enum": ["off", False]}, written]}


def _help(metric: str) -> str:
    return plugins.describe(plugins.find("metrics", metric)).help


def _object(kind: type[BaseModel], /, **replaced: Schema) -> Schema:
    """A model as an object of its keys; which of them a file must have is said in one place for all."""
    return {"description": _told(kind.__doc__), "type": "object", "properties": _keys(kind, **replaced), "additionalProperties": False}


def _keys(kind: type[BaseModel], /, **replaced: Schema) -> dict[str, Schema]:
    """The keys of a model with their types, defaults and descriptions; ``replaced`` are those that are written in another form."""
    made = kind.model_json_schema()
    found: dict[str, Schema] = {}
    for name, schema in made.get("properties", {}).items():
        schema = {key: value for key, value in schema.items() if key != "title" and not (key == "default" and value in (None, [], {}))}
        if name in replaced:
            if "$ref" in schema or isinstance(schema.get("default"), dict):
                schema.pop("default", None)  # as it is held, not as it is written
            kept = {key: value for key, value in schema.items() if key in ("default", "description")}
            schema = {**replaced[name], **kept}
        if "description" in schema:
            schema["description"] = _told(str(schema["description"]))
        found[name] = schema
        if isinstance(schema.get("additionalProperties"), dict) and "$ref" in schema["additionalProperties"]:
            schema["additionalProperties"] = True  # any value that YAML can hold
    return found


def _distinct(schema: Schema) -> Schema:
    return {**schema, "uniqueItems": True}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _told(text: str | None) -> str:
    """A docstring as an editor shows it: a paragraph on one line, names in single quotes of code."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("``", "`")
