"""A trial of another machine keeps that machine: in the report, in what is accepted, and where machines are compared."""

from dataclasses import replace

from fakes import cases, results

from harness import pipeline
from harness.engine.accept import baseline_of

ELSEWHERE = replace(results.ENVIRONMENT, cpu_model="Edge N100", cpu_count=4)


def away():
    made = cases.case(measurement=cases.launches(300_000, 301_000))
    return replace(cases.record(made, gated=False), environment=ELSEWHERE)


def test_the_machine_of_a_trial_is_its_own_and_otherwise_the_runs():
    trial = away()
    run = cases.result(trial)
    assert run.environment_of(trial) is ELSEWHERE
    assert run.environment_of(replace(trial, environment=None)) is run.environment


def test_the_report_shows_the_machine_of_a_trial_that_was_measured_elsewhere():
    (page,) = pipeline.render(cases.result(away()), ["html"]).values()
    (without,) = pipeline.render(cases.result(replace(away(), environment=None)), ["html"]).values()
    assert b"Edge N100, 4 CPUs" in page and b"Edge N100" not in without


def test_a_baseline_that_is_accepted_is_of_the_machine_that_measured():
    trial = away()
    made = baseline_of(trial, cases.result(trial), None, now=cases.NOW, renew=False)
    assert made.measured[trial.environment_key].machine.startswith("Edge N100, 4 CPUs")
