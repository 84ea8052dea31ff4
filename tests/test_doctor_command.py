"""``harness doctor`` from outside: what it prints and how it ends, on machines that are made up."""

import json
import math
from dataclasses import replace
from functools import partial

import click
import pytest
from click.testing import CliRunner
from fakes import runs
from fakes.projects import Project

from harness.commands.doctor import doctor
from harness.core.checkup_wording import percent
from harness.core.errors import BadInput
from harness.engine import contest as contests
from harness.engine import examine, see
from harness.engine.machine.readings import CpuReading, KernelReading, LoadReading, MemoryReading, QuotaReading, Readings

GIB = 2**30
TINY = """\
version: 1
name: tiny
model: {fake: {latency_us: 300}}
data: {random: {x: "float32[4]"}, samples: 8}
recipes: {plain: {runtime: fake}}
"""
MACHINE = Readings(
    cpu=CpuReading(cores=(0, 1), cpu_count=2, governors=("powersave", "powersave"), busy_mhz=2900, max_mhz=3000, siblings=((0,), (1,))),
    load=LoadReading(1.0, 0.0, 0.3),
    quota=QuotaReading(math.inf),
    memory=MemoryReading(8 * GIB, 6 * GIB, 0, 0),
    kernel=KernelReading("tsc", 2, False, "", True, None),
    variables={"OMP_NUM_THREADS": "8"},
)
TABLE = """\

cores               fine         2 of 2 used (0-1)
governor            notice       powersave
                                 Run 'sudo cpupower frequency-set -g performance'.
frequency           fine         2,900 of 3,000 MHz when busy
turbo               not visible
hardware threads    fine         one on each core used
steal time          fine         0.0 % over 1.0 s
load                fine         0.3 on 2 CPUs
CPU quota           fine         none
thermal throttling  not visible
temperature         not visible
power limit         not visible
memory              fine         6.00 GiB of 8.00 GiB available
thread variables    fine         OMP_NUM_THREADS=8; workers set their own
priority            not visible
address layout      fine         random in every launch
clock source        fine         tsc
runs inside         fine         a virtual machine, no container
"""
LAUNCHED = """\

Identical code in both arms, tiny/plain-cpu-b1:
  latency_p50: -0.5 % (99.67 % interval -1.9 % to +0.9 %, 8 launch pairs)
  peak_memory: +0.0 % (99.67 % interval -0.0 % to +0.0 %, 8 launch pairs)
  throughput: +0.5 % (99.67 % interval -0.9 % to +1.9 %, 8 launch pairs)
  energy_per_inference: not seen, telemetry was switched off (measure.telemetry)
  latency_p90: not seen, needs 50 queries a launch, this one has 24: raise measure.duration
  latency_p99: not seen, needs 500 queries a launch, this one has 24: raise measure.duration

On this machine, with a budget of 60 s a trial, the smallest change of latency_p50 that the gate will see is 2.9 % \
(spread 0.9 % from launch pair to launch pair, 2.0 s a pair, tolerance 2 %).
On this machine, with a budget of 60 s a trial, the smallest change of peak_memory that the gate will see is 10 % \
(spread 0.01 % from launch pair to launch pair, 2.0 s a pair, tolerance 10 %).
On this machine, with a budget of 60 s a trial, the smallest change of throughput that the gate will see is 6 % \
(spread 0.9 % from launch pair to launch pair, 2.0 s a pair, tolerance 5 %).

note: launched is the project's own scenario, scenarios/tiny.yaml
note: 8 launch pairs tell the spread but roughly: it may be up to 1.6 times as large, \
and what the gate sees beyond the tolerance with it

What would make it better:
  - Follow the advice above (governor), then run 'harness doctor' again.
  - Give '--budget 120s': the gate will then see latency_p50 2.6 %, throughput 5.6 %.
  - Lower the tolerance under 'gate:' to see less: it is most of what is told of latency_p50 2 %, peak_memory 10 %, throughput 5 %.
"""


class Command:
    """The command in a project of its own, on a machine that says what it is told to."""

    def __init__(self, project, monkeypatch):
        self.project = project
        self.monkeypatch = monkeypatch
        self.clock = runs.FakeClock()
        self.on(MACHINE)
        self.launches()
        monkeypatch.setattr(see, "take_pairs", partial(see.take_pairs, clock=self.clock))
        monkeypatch.setattr(contests, "launch", lambda *facts, **how: self.machine.launch(*facts, **how))

    def on(self, readings):
        self.monkeypatch.setattr(examine, "read_machine", lambda cores, gpus: replace(readings, gpus=gpus()))
        self.monkeypatch.setattr(examine, "read_gpus", lambda device: ())

    def launches(self, change=0.0, **machine):
        self.machine = runs.Machine(math.log1p(change), self.clock, **({"pair_s": 2.0, "seed": 5} | machine))

    def __call__(self, *words):
        return CliRunner().invoke(doctor, words)


@pytest.fixture
def command(tmp_path, monkeypatch):
    project = Project(tmp_path)
    project.write("scenarios/tiny.yaml", TINY)
    monkeypatch.chdir(tmp_path)
    return Command(project, monkeypatch)


def test_a_machine_is_told_line_by_line_with_what_to_do(command):
    ended = command("--no-launches")
    assert ended.exit_code == 0
    steps = "\nWhat would make it better:\n  - Follow the advice above (governor), then run 'harness doctor' again.\n"
    assert ended.stdout == "This machine is fit to measure on; 1 thing would make it steadier.\n" + TABLE + steps
    assert "machine: looking at it" in ended.stderr


def test_what_the_gate_will_see_is_told_in_one_sentence_for_each_gated_metric(command):
    ended = command("--budget", "60s")
    assert ended.exit_code == 0
    assert ended.stdout == "This machine is fit to measure on; 1 thing would make it steadier.\n" + TABLE + LAUNCHED


def test_a_machine_that_calls_identical_code_different_is_not_fit(command):
    command.launches(0.2)
    ended = command()
    assert ended.exit_code == 3
    assert ended.stdout.startswith("This machine is not fit to measure on now: identical code differs in latency_p50, throughput.\n")
    assert "called different\n" in ended.stdout
    assert "  - Measure on another machine, or run this again when it is quieter: it called identical code different.\n" in ended.stdout


def test_an_unfit_machine_ends_with_three_and_is_named(command):
    command.on(replace(MACHINE, quota=QuotaReading(0.5)))
    ended = command("--no-launches")
    assert ended.exit_code == 3
    assert ended.stdout.startswith("This machine is not fit to measure on now: CPU quota.\n")
    assert "Raise the container's CPU limit to 2, or give the target 'cores: 1'." in ended.stdout


def test_a_budget_that_is_too_short_for_any_answer_says_so_and_which_would_do(command):
    command.launches(pair_s=5.0)
    ended = command("--budget", "30s")
    assert ended.exit_code == 0
    assert (
        "On this machine, a budget of 30 s a trial is too short for the gate to call any change of latency_p50 a regression "
        "(spread" in ended.stdout
    )
    assert "  - Give '--budget 60s': the gate will then see latency_p50 " in ended.stdout


def test_a_launch_that_fails_is_a_finding(command):
    command.launches(fails_at=0)
    ended = command()
    assert ended.exit_code == 3
    assert "launches            unfit        candidate, slice: the worker was killed by SIGSEGV\n" in ended.stdout
    assert "On this machine, with" not in ended.stdout


def test_machines_are_given_the_same_facts_as_json(command):
    ended = command("--json")
    found = json.loads(ended.stdout)
    assert list(found) == ["schema", "fit", "exit_code", "findings", "sights", "budget_s", "headline", "subject", "unseen", "notes"]
    assert (found["fit"], found["exit_code"], found["budget_s"]) == (True, 0, 60.0)
    assert found["findings"][1] == {
        "name": "governor",
        "state": "notice",
        "value": "powersave",
        "advice": "Run 'sudo cpupower frequency-set -g performance'.",
    }
    sight = found["sights"][0]
    assert (sight["metric"], sight["pairs"], sight["pair_s"], sight["red"]) == ("latency_p50", 8, 2.0, False)
    assert sight["interval"]["low"] < sight["effect"] < sight["interval"]["high"]
    assert [one["metric"] for one in found["unseen"]][:2] == ["energy_per_inference", "latency_p90"]


@pytest.mark.parametrize("budget", ["soon", "0 s", "5 MB"])
def test_a_budget_that_is_no_time_is_bad_input(command, budget):
    ended = command("--budget", budget)
    assert isinstance(ended.exception, BadInput)
    assert ended.exception.exit_code == 2
    assert str(ended.exception).startswith("--budget: ")


@pytest.mark.parametrize("words", [("scenarios/none.yaml",), ("scenarios", "--only", "fast")])
def test_a_scenario_or_a_pattern_that_is_wrong_is_bad_input(command, words):
    ended = command(*words)
    assert isinstance(ended.exception, BadInput)


def test_the_project_s_own_scenario_that_is_wrong_is_bad_input_and_not_passed_over(command):
    command.project.change("scenarios/tiny.yaml", "runtime: fake", "runtime: fakes")
    assert isinstance(command().exception, BadInput)


def test_the_help_names_the_exit_codes(command):
    assert "Exit codes: 0 fit, 2 bad input, 3 not fit." in command("--help").stdout
    assert isinstance(doctor, click.Command)


@pytest.mark.parametrize(("fraction", "told"), [(0.0181, "1.8 %"), (0.02, "2 %"), (0.12, "12 %"), (0.000123, "0.012 %"), (3.4, "340 %")])
def test_percents_have_the_two_digits_that_a_few_pairs_can_tell(fraction, told):
    assert percent(fraction) == told
