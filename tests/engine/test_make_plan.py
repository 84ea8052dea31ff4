import dataclasses
import os

import pytest
from scenario_files import GOOD, Project, changed

from harness.core.environment import Environment, Gpu
from harness.core.errors import BadInput
from harness.core.scenario import HardwareTarget, Requirements
from harness.engine.make_plan import cores_of, make_plan, mismatch, threads_of

MACHINE = Environment(
    cpu_model="AMD EPYC 7763 64-Core Processor",
    cpu_count=4,
    cpu_flags=("avx2",),
    memory_bytes=8 * 2**30,
    gpus=(),
    os="Linux",
    kernel="6.1",
    python="3.11.9",
    governor=None,
    load_average=None,
    virtual_machine=True,
    packages={},
    variables={},
    commit=None,
    dirty=None,
)
WITH_GPU = dataclasses.replace(MACHINE, gpus=(Gpu("NVIDIA H100 PCIe", 80 * 2**30, "550.54"),))


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return Project(tmp_path / "project")


@pytest.fixture(autouse=True)
def usable(monkeypatch):
    """This process may use all four cores of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


def ids(trials):
    return [trial.id for trial in trials]


def test_a_plan_has_every_cell_in_the_order_written_and_the_seed(project):
    plan = make_plan([project.read(changed("gate:\n", "seed: 7\ngate:\n"))], MACHINE)
    assert ids(plan.trials) == ["digits/fp32-cpu-b1", "digits/fp32-cpu-b8", "digits/int8-cpu-b1", "digits/int8-cpu-b8"]
    assert (plan.skipped, plan.seed) == ((), 7)


def test_scenarios_follow_each_other(project):
    first = project.read(changed("[1, 8]", "[1]"))
    second = project.read(changed("name: digits", "name: other", changed("[1, 8]", "[1]")))
    assert ids(make_plan([first, second], MACHINE).trials) == [
        "digits/fp32-cpu-b1",
        "digits/int8-cpu-b1",
        "other/fp32-cpu-b1",
        "other/int8-cpu-b1",
    ]


def test_a_cell_of_another_machine_is_skipped_by_name_with_the_reason(project):
    text = changed("[cpu]", "[cpu, {name: big, requires: {cores: 64}}]", changed("[1, 8]", "[1]"))
    plan = make_plan([project.read(text)], MACHINE)
    assert ids(plan.trials) == ["digits/fp32-cpu-b1", "digits/int8-cpu-b1"]
    assert [(item.trial.id, item.reason) for item in plan.skipped] == [
        ("digits/fp32-big-b1", "needs 64 cores: this machine has 4"),
        ("digits/int8-big-b1", "needs 64 cores: this machine has 4"),
    ]


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        (["int8"], ["digits/int8-cpu-b1", "digits/int8-cpu-b8"]),
        (["*-b8"], ["digits/fp32-cpu-b8", "digits/int8-cpu-b8"]),
        (["digits/int8-cpu-b1"], ["digits/int8-cpu-b1"]),
        (["int8-cpu-b8", "fp32-cpu-b1"], ["digits/fp32-cpu-b1", "digits/int8-cpu-b8"]),
        (["digits"], ["digits/fp32-cpu-b1", "digits/fp32-cpu-b8", "digits/int8-cpu-b1", "digits/int8-cpu-b8"]),
    ],
)
def test_patterns_choose_trials_and_keep_their_order(project, only, chosen):
    assert ids(make_plan([project.read(GOOD)], MACHINE, only=only).trials) == chosen


def test_a_trial_that_is_named_whole_is_itself_alone(project):
    plan = make_plan([project.read(changed("[1, 8]", "[1, 16]"))], MACHINE, only=["digits/int8-cpu-b1"])
    assert ids(plan.trials) == ["digits/int8-cpu-b1"]


def test_a_pattern_also_chooses_among_what_is_skipped(project):
    plan = make_plan([project.read(changed("[cpu]", "[cpu, cuda]"))], MACHINE, only=["int8-cuda-b1"])
    assert (plan.trials, ids(item.trial for item in plan.skipped)) == ((), ["digits/int8-cuda-b1"])


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("digits/int8-cpu-b2", "no trial matches 'digits/int8-cpu-b2'\n  did you mean 'digits/int8-cpu-b8'?"),
        (
            "nonsense",
            "no trial matches 'nonsense'\n  trials are digits/fp32-cpu-b1, digits/fp32-cpu-b8, digits/int8-cpu-b1, digits/int8-cpu-b8",
        ),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(project, only, said):
    with pytest.raises(BadInput) as refused:
        make_plan([project.read(GOOD)], MACHINE, only=["int8", only])
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("target", "machine", "reason"),
    [
        (HardwareTarget(name="t"), MACHINE, None),
        (HardwareTarget(name="t", device="cuda"), MACHINE, "needs a CUDA device ('cuda'): this machine has none"),
        (HardwareTarget(name="t", device="cuda"), WITH_GPU, None),
        (HardwareTarget(name="t", device="cuda:0"), WITH_GPU, None),
        (HardwareTarget(name="t", device="cuda:1"), WITH_GPU, "needs 'cuda:1': this machine has 1 GPU"),
        (HardwareTarget(name="t", cores=5), MACHINE, "needs 5 cores: this machine has 4"),
        (HardwareTarget(name="t", cores=4), MACHINE, None),
    ],
)
def test_a_device_or_cores_that_the_machine_lacks_make_it_another_machine(target, machine, reason):
    assert mismatch(target, machine) == reason


def test_cores_that_this_process_may_not_use_are_not_there(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert mismatch(HardwareTarget(name="t", cores=4), MACHINE) == "needs 4 cores: this process may use 2 of the machine's 4"
    assert mismatch(HardwareTarget(name="t", cores=2), MACHINE) is None


@pytest.mark.parametrize(
    ("needs", "machine", "reason"),
    [
        ({"cpu_model": "epyc"}, MACHINE, None),
        ({"cpu_model": "Xeon"}, MACHINE, "needs a CPU 'Xeon': this machine has AMD EPYC 7763 64-Core Processor"),
        ({"gpu": "h100"}, WITH_GPU, None),
        ({"gpu": "A100"}, WITH_GPU, "needs a GPU 'A100': this machine has NVIDIA H100 PCIe"),
        ({"gpu": "A100"}, MACHINE, "needs a GPU 'A100': this machine has none"),
        ({"cores": 8}, MACHINE, "needs 8 cores: this machine has 4"),
        ({"memory": "8 GiB"}, MACHINE, None),
        ({"memory": "16 GiB"}, MACHINE, "needs 16.0 GiB of memory: this machine has 8.00 GiB"),
    ],
)
def test_requirements_are_compared_with_what_the_machine_reports(needs, machine, reason):
    assert mismatch(HardwareTarget(name="t", requires=Requirements.model_validate(needs)), machine) == reason


def test_a_trial_is_pinned_to_the_first_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 5}, raising=False)
    assert cores_of(HardwareTarget()) == (2, 5, 7)
    assert cores_of(HardwareTarget(cores=2)) == (2, 5)


def test_runtimes_are_told_as_many_threads_as_cores_unless_the_target_says_otherwise(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert threads_of(HardwareTarget()) == 3
    assert threads_of(HardwareTarget(cores=2)) == 2
    assert threads_of(HardwareTarget(cores=2, threads=8)) == 8


def test_without_pinning_threads_still_have_a_number(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores_of(HardwareTarget(cores=2)) == ()
    assert threads_of(HardwareTarget(cores=2)) == 2
    assert threads_of(HardwareTarget()) == 1
