from types import SimpleNamespace

from fakes import cases

from harness.core.estimate import ConfidenceInterval
from harness.core.result import QualityChange
from harness.engine.explain_recipes import explain_recipes

JOB = SimpleNamespace(environment=SimpleNamespace(cpu_flags=("avx2",)))
"""Whoever wants to start something, or to have a look at a file, finds nothing here."""
RECIPES = {
    "plain": {"runtime": "fake"},
    "slower": {"passes": ["quantize_static", "prune_magnitude"], "runtime": {"fake": {"add_latency_us": 10}}},
}


def pair(latency_ns=500_000, size_bytes=256, change=None):
    keys = {"recipes": RECIPES, "reference": "plain"}
    reference = cases.case(trial=cases.trial("plain", **keys))
    recipe = cases.case(
        trial=cases.trial("slower", **keys),
        subject=cases.subject(size_bytes),
        measurement=cases.launches(*[latency_ns] * 5),
        quality_change=change,
    )
    return [reference, recipe]


def test_where_every_recipe_pays_nothing_is_started_and_nothing_is_noted():
    both = pair(change=QualityChange("accuracy", 0.0, ConfidenceInterval(-0.01, 0.01, 0.95), 500))
    explain_recipes(JOB, both)
    assert [case.notes for case in both] == [[], []]


def test_without_a_reference_there_is_nothing_to_be_slower_than():
    alone = [cases.case()]
    explain_recipes(JOB, alone)
    assert alone[0].notes == []


def test_what_saturates_on_this_cpu_is_noted_from_its_flags_alone():
    both = pair(change=QualityChange("accuracy", -0.002, ConfidenceInterval(-0.01, 0.006, 0.95), 500))
    explain_recipes(JOB, both)
    (note,) = both[1].notes
    assert "reduce_range: true" in note
