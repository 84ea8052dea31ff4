"""What travels to a node, and that a core has one measurement at a time."""

import stat
import threading

import pytest
from fakes.projects import TOOLCHAIN, Project, code_project

from harness.core.environment import Environment
from harness.core.errors import BadInput
from harness.core.program import program
from harness.core.scenario import HardwareTarget
from harness.engine.content import files_read
from harness.engine.fleet import pack_project as packing
from harness.engine.fleet.hold_cores import hold_cores
from harness.engine.fleet.pack_project import pack_project, unpack_project
from harness.engine.fleet.read_fleet import read_fleet
from harness.engine.make_plan import mismatch

MACHINE = Environment("x86", 4, (), 8 * 2**30, (), "Linux", "6.1", "3.11.2", None, 0.1, True, {}, {}, None, None)


def arrived(project, folder, needed=()):
    unpack_project(pack_project(project.root, needed), folder)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_tracked_and_new_files_travel_as_they_lie_on_disk_and_ignored_ones_do_not(tmp_path):
    project = Project(tmp_path / "here")
    project.write(".gitignore", "*.bin\n")
    project.write("models/net.py", "old")
    project.commit()
    project.write("models/net.py", "changed")
    project.write("models/new.py", "new")
    project.write("models/weights.bin", b"1")
    project.write("reports/latest/report.html", "page")
    project.write("baselines/tiny/a.json", "{}")
    assert arrived(project, tmp_path / "there") == {".gitignore", "models/net.py", "models/new.py"}
    assert (tmp_path / "there/models/net.py").read_text() == "changed"


def test_weights_that_git_ignores_travel_where_the_scenario_names_them(tmp_path):
    project = code_project(tmp_path / "here")
    project.write(".gitignore", "*.bin\n")
    project.write("models/other.bin", b"2")
    project.commit()
    there = arrived(project, tmp_path / "there", files_read(project.trial(), TOOLCHAIN))
    assert "models/weights.bin" in there and "models/other.bin" not in there


def test_without_version_control_every_file_that_is_not_hidden_travels(tmp_path):
    project = Project(tmp_path / "here")
    for path in ("a.yaml", "models/b.py", ".secret/key", "models/__pycache__/b.pyc", "reports/x"):
        project.write(path, "text")
    assert arrived(project, tmp_path / "there") == {"a.yaml", "models/b.py"}


def test_the_same_files_are_the_same_archive_and_a_change_is_another(tmp_path):
    project = Project(tmp_path)
    file = project.write("a.yaml", "text")
    first = pack_project(project.root)
    file.touch()
    assert pack_project(project.root) == first
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    assert pack_project(project.root) != first


def test_a_project_that_is_too_large_is_refused_with_its_largest_file(tmp_path, monkeypatch):
    project = Project(tmp_path)
    project.write("small.py", "x")
    project.write("big.bin", b"x" * 100)
    monkeypatch.setattr(packing, "MOST_BYTES", 50)
    with pytest.raises(BadInput, match=r"the largest is big\.bin"):
        pack_project(project.root)


def test_a_core_has_one_measurement_at_a_time(tmp_path):
    said, order = [], []
    waits = threading.Event()

    def say(text):
        said.append(text)
        waits.set()

    def second():
        with hold_cores(tmp_path, say):
            order.append("second")

    with hold_cores(tmp_path, order.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        order.append("first is done")
    thread.join(30)
    assert order == ["first is done", "second"] and len(said) == 1 and "another measurement has it" in said[0]


def test_a_target_with_labels_is_never_this_machine_unless_it_has_them():
    target = HardwareTarget(name="edge", labels={"hw": "edge"})
    assert mismatch(target, MACHINE) == "is for a machine labelled hw=edge: 'harness run --on FLEET' measures it there"
    assert mismatch(target, MACHINE, {"hw": "big"}) is not None
    assert mismatch(target, MACHINE, {"hw": "edge", "zone": "b"}) is None


def test_the_program_is_told_by_its_version_and_its_code():
    assert program().startswith("harness ") and program() == program()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 1\nfleet:\n  rey: {address: 'a:1'}\n", "fleet.yaml:2 fleet: unknown fleet 'rey'"),
        ("version: 1\nfleet:\n  ray: {adress: 'a:1'}\n", "fleet.yaml:"),
        ("version: 1\nflet: ray\n", "did you mean 'fleet'?"),
        ("version: 1\nfleet:\n  ray: {address: 'a:1', hosts: [{name: a, command: ray}]}\n", "keep one"),
    ],
)
def test_what_is_wrong_with_a_fleet_file_is_told_with_its_place(tmp_path, text, told):
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_fleet(str(file))
    assert told in str(caught.value)


def test_a_fleet_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_fleet(str(tmp_path / "fleet.yaml"))


def test_an_address_is_a_ray_cluster():
    assert read_fleet("10.0.0.5:6379").model_dump()["address"] == "10.0.0.5:6379"
