import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import harness.reports
from harness.core.estimate import ConfidenceInterval
from harness.core.summary import summary_schema
from harness.reports.json import Json

SCHEMA = Path(harness.reports.__file__).parent / "result.schema.json"
DOCUMENT = Path(__file__).parents[2] / "docs" / "json-output.md"


def refuse(constant):
    raise AssertionError(f"{constant} is not strict JSON")


def parsed(result):
    return json.loads(Json().render(result), parse_constant=refuse)


def test_the_schema_in_the_package_is_made_from_the_types(golden):
    golden(SCHEMA, summary_schema().encode())


@pytest.mark.parametrize("name", ["result", "passing", "only_measured", "hostile"])
def test_every_result_is_valid_against_the_schema(results, name):
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(parsed(getattr(results, name)()))


def test_a_ratio_has_the_fields_that_machines_read(results):
    told = parsed(results.result())["comparisons"][0]
    assert told["trial"] == "digits-resnet50/int8-cpu-b1"
    assert told["metric"] == "latency_p50"
    assert (told["unit"], told["ratio"], told["difference"]) == ("ns", 1.051, None)
    assert (told["baseline"], told["candidate"]) == (2_510_000.0, 2_510_000.0 * 1.051)
    assert (told["low"], told["high"]) == (pytest.approx(1.038), pytest.approx(1.064))
    assert (told["tolerance"], told["verdict"]) == (0.02, "REGRESSED")


def test_a_difference_is_not_told_as_a_ratio(results):
    told = next(one for one in parsed(results.result())["comparisons"] if one["metric"] == "accuracy" and one["verdict"] == "REGRESSED")
    assert (told["scale"], told["ratio"], told["difference"]) == ("difference", None, -0.0185)


def test_what_is_not_finite_is_null(results):
    odd = replace(
        results.comparison(), baseline=math.nan, candidate=math.inf, effect=math.inf, interval=ConfidenceInterval(1.0, math.inf, 0.95)
    )
    told = parsed(results.result(comparisons=(odd,)))["comparisons"][0]
    assert [told[key] for key in ("baseline", "candidate", "ratio", "high")] == [None] * 4
    assert told["low"] == 1.0


def test_numbers_are_not_rounded(results):
    precise = replace(results.comparison(), baseline=2_510_123.456789)
    assert parsed(results.result(comparisons=(precise,)))["comparisons"][0]["baseline"] == 2_510_123.456789


def test_the_document_names_every_field():
    text = DOCUMENT.read_text(encoding="utf-8")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    missing = {name for part in parts for name in part["properties"] if f"`{name}`" not in text}
    assert not missing
