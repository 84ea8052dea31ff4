import dataclasses
import os
import platform
import subprocess
import sys
import types

import psutil
import pytest
from fakes.projects import fake_project

from harness.core.environment import Gpu
from harness.engine import read_environment as module
from harness.engine.read_environment import git, read_commit, read_environment


@pytest.fixture
def project(tmp_path):
    """A project that is committed as it is."""
    made = fake_project(tmp_path / "project")
    made.write("models/net.py", "x = 1\n")
    made.commit()
    return made


def test_a_committed_project_is_clean_and_has_the_commit_of_its_head(project):
    assert read_commit(project.root) == (project.git("rev-parse", "HEAD"), False)


@pytest.mark.parametrize(
    "change",
    [
        lambda project: project.change("models/net.py", "1", "2"),
        lambda project: (project.root / "models" / "net.py").unlink(),
        lambda project: project.write("models/other.py", "y = 2\n"),
        lambda project: project.write("models/reports/one.txt", "not the folder of that name"),
        lambda project: project.write("baselines.txt", "not the folder of that name"),
    ],
)
def test_a_change_of_the_source_makes_it_dirty(project, change):
    change(project)
    assert read_commit(project.root)[1] is True


def test_a_change_that_is_staged_is_not_committed(project):
    project.write("models/net.py", "x = 3\n")
    project.git("add", "--all")
    assert read_commit(project.root)[1] is True


@pytest.mark.parametrize("path", ["baselines/tiny/plain-cpu-b1.json", "reports/20261124-201503-9f3a/result.json", "reports/latest"])
def test_what_the_program_writes_itself_does_not_make_the_source_dirty(project, path):
    project.write(path, "{}")
    assert read_commit(project.root)[1] is False
    commit = project.commit()
    project.write(path, "[]")
    assert read_commit(project.root) == (commit, False)


def test_what_git_ignores_does_not_make_the_source_dirty(project):
    project.write(".gitignore", "*.bin\n")
    project.commit()
    project.write("weights.bin", "0")
    assert read_commit(project.root)[1] is False


def test_outside_version_control_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_commit(tmp_path) == (None, None)


def test_before_the_first_commit_there_is_none(tmp_path):
    project = fake_project(tmp_path)
    project.git("init", "-q")
    assert read_commit(tmp_path) == (None, None)


def test_without_git_there_is_no_commit(project, monkeypatch):
    monkeypatch.setenv("PATH", str(project.root / "nothing"))
    assert git(project.root, "rev-parse", "HEAD") is None
    assert read_commit(project.root) == (None, None)


def test_a_git_that_never_answers_is_not_waited_for(project, monkeypatch):
    def never(command, *, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(module.subprocess, "run", never)
    assert read_commit(project.root) == (None, None)


def test_inside_the_hook_of_another_repository_the_projects_own_commit_is_read(project, tmp_path, monkeypatch):
    other = fake_project(tmp_path / "other")
    other.commit()
    expected = project.git("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git" / "index"))
    assert read_commit(project.root) == (expected, False)


def test_the_fingerprint_is_of_this_machine_and_this_project(project, monkeypatch):
    for name in module.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_SCHEDULE", "static")
    found = read_environment(project.root, {"numpy": "2.4.1"})
    assert found.cpu_model and found.os and found.kernel == platform.release()
    assert (found.cpu_count, found.memory_bytes) == (os.cpu_count(), psutil.virtual_memory().total)
    assert found.python == platform.python_version()
    assert found.packages == {"numpy": "2.4.1"} and found.variables == {"OMP_NUM_THREADS": "3"}
    assert (found.commit, found.dirty) == read_commit(project.root)
    assert read_environment(project.root).packages == {}


CPUINFO = """processor\t: 0
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse4_2 avx2 f16c hypervisor

processor\t: 1
model name\t: another
flags\t\t: avx512f
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd sve bf16\nHardware\t: Neoverse-N1\n"


@pytest.mark.parametrize(
    ("cpuinfo", "governor", "read"),
    [
        (CPUINFO, "performance", ("AMD EPYC 7B13", ("avx2", "f16c", "sse4_2"), "performance", True)),
        (CPUINFO.replace(" hypervisor", ""), None, ("AMD EPYC 7B13", ("avx2", "f16c", "sse4_2"), None, False)),
        (ARM, None, ("Neoverse-N1", ("asimd", "bf16", "sve"), None, None)),
        ("model name\t: somebody: else\n", None, ("somebody: else", (), None, None)),
        (None, None, (platform.processor() or platform.machine(), (), None, None)),
    ],
)
def test_the_processor_is_read_from_what_the_kernel_says_and_what_it_does_not_say_is_not_guessed(
    tmp_path, monkeypatch, cpuinfo, governor, read
):
    monkeypatch.setattr(module, "_text", lambda path: cpuinfo if path.name == "cpuinfo" else governor)
    found = read_environment(tmp_path)
    assert (found.cpu_model, found.cpu_flags, found.governor, found.virtual_machine) == read


def test_a_system_that_does_not_tell_its_name_has_its_kernels(tmp_path, monkeypatch):
    def unknown():
        raise OSError("no os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", unknown)
    assert read_environment(tmp_path).os == f"{platform.system()} {platform.release()}"
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"PRETTY_NAME": "Debian GNU/Linux 12"})
    assert read_environment(tmp_path).os == "Debian GNU/Linux 12"


class NvmlError(Exception):
    pass


def nvml(fails_at=None):
    """A stand-in for the driver's binding with two GPUs; ``fails_at`` names the call that fails. ``shut`` counts shutdowns."""
    module = types.ModuleType("pynvml")
    module.NVMLError, module.shut = NvmlError, 0

    def answering(name, answer):
        def call(*arguments):
            if name == fails_at:
                raise NvmlError(name)
            return answer(*arguments)

        setattr(module, name, call)

    def shutdown():
        module.shut += 1

    answering("nvmlInit", lambda: None)
    answering("nvmlShutdown", shutdown)
    answering("nvmlSystemGetDriverVersion", lambda: "560.35")
    answering("nvmlDeviceGetCount", lambda: 2)
    answering("nvmlDeviceGetHandleByIndex", lambda index: index)
    answering("nvmlDeviceGetName", lambda handle: f"NVIDIA H{handle}00")
    answering("nvmlDeviceGetMemoryInfo", lambda handle: types.SimpleNamespace(total=80 * 2**30))
    return module


def test_every_gpu_is_told_with_its_memory_and_driver(tmp_path, monkeypatch):
    driver = nvml()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert read_environment(tmp_path).gpus == (Gpu("NVIDIA H000", 80 * 2**30, "560.35"), Gpu("NVIDIA H100", 80 * 2**30, "560.35"))
    assert driver.shut == 1


@pytest.mark.parametrize(("fails_at", "shut"), [("nvmlInit", 0), ("nvmlSystemGetDriverVersion", 1), ("nvmlDeviceGetName", 1)])
def test_a_driver_that_does_not_answer_has_no_gpus_and_is_let_go(tmp_path, monkeypatch, fails_at, shut):
    driver = nvml(fails_at)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert read_environment(tmp_path).gpus == ()
    assert driver.shut == shut


def test_without_the_drivers_binding_there_are_no_gpus(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_environment(tmp_path).gpus == ()


def test_what_is_read_twice_is_the_same_but_for_the_load(tmp_path):
    first, second = (dataclasses.replace(read_environment(tmp_path), load_average=None) for _ in range(2))
    assert first == second
