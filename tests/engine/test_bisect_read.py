import tempfile
from pathlib import Path

import pytest
from fakes.projects import TOOLCHAIN, Project, code_project

from harness.core.errors import BadInput
from harness.engine.bisecting.explain_commit import changed_files
from harness.engine.bisecting.line import line_between
from harness.engine.bisecting.read_commits import Reader
from harness.engine.read_environment import read_environment
from harness.engine.worktree import Worktrees

SCENARIO = Path("scenario.yaml")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where worktrees are made in a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def project(tmp_path):
    made = code_project(tmp_path / "project")
    made.commit()
    made.git("tag", "good")
    return made


@pytest.fixture
def worktrees(project):
    with Worktrees(project.root) as found:
        yield found


def reader(worktrees, *, text=None, overrides=()):
    return Reader(worktrees, SCENARIO, overrides, TOOLCHAIN, text)


def line(project: Project):
    return line_between(project.root, project.git("rev-parse", "good"), project.git("rev-parse", "HEAD"))


def read(project, worktrees, **options):
    by = reader(worktrees, **options)
    trial = by.chosen(line(project)[-1].hash, read_environment(project.root), ["plain"])
    return by.stretches(line(project), trial)


def numbers(stretches):
    return [len(stretch.commits) for stretch in stretches]


def test_commits_that_do_not_change_the_content_are_one_stretch(project, worktrees):
    project.write("README.md", "another\n")
    project.commit()
    project.change("models/net.py", "build(width)", "build( width )")
    project.commit()
    project.write("notes.txt", "x")
    project.commit()
    assert numbers(read(project, worktrees)) == [2, 2]


def test_a_comment_is_no_change_and_a_weight_is_one(project, worktrees):
    project.write("models/net.py", "# said\n" + (project.root / "models/net.py").read_text())
    project.commit()
    project.write("models/weights.bin", "9876543210")
    project.commit()
    assert numbers(read(project, worktrees)) == [2, 1]


def test_what_was_taken_back_has_the_content_that_it_had(project, worktrees):
    project.write("models/weights.bin", "9876543210")
    project.commit()
    project.write("models/weights.bin", "0123456789")
    project.commit()
    first, _, last = read(project, worktrees)
    assert first.content == last.content


def test_commits_at_which_the_scenario_is_wrong_or_gone_are_told_without_the_folder_of_the_worktree(project, worktrees, temporary):
    text = (project.root / SCENARIO).read_text()
    project.write("scenario.yaml", text.replace("version: 1", "version: 7"))
    project.commit()
    (project.root / "scenario.yaml").unlink()
    project.commit()
    project.write("scenario.yaml", text.replace("  plain: {runtime: torch}\n", ""))
    project.commit()
    project.write("scenario.yaml", text)
    project.commit()
    found = read(project, worktrees)
    assert [stretch.content is None for stretch in found] == [False, True, True, True, False]
    reasons = [stretch.reason for stretch in found[1:4]]
    assert reasons[0].startswith("scenario.yaml:1 version: ")
    assert reasons[1] == "it has no scenario.yaml; --same-scenario reads that of the bad commit everywhere"
    assert reasons[2] == "its scenario has no recipe 'plain'"
    assert not any(str(temporary) in reason for reason in reasons)


def test_the_same_scenario_is_read_where_there_is_none_or_another(project, worktrees):
    text = (project.root / SCENARIO).read_text()
    (project.root / "scenario.yaml").unlink()
    project.commit()
    project.write("scenario.yaml", text.replace("width: 4", "width: 8"))
    project.commit()
    found = read(project, worktrees, text=text.replace("width: 4", "width: 8"))
    assert numbers(found) == [3]


def test_an_override_holds_at_every_commit(project, worktrees):
    project.change("scenario.yaml", "width: 4", "width: 8")
    project.commit()
    assert numbers(read(project, worktrees)) == [1, 1]
    assert numbers(read(project, worktrees, overrides=("model.args.width=2",))) == [2]


def test_several_trials_are_refused_with_their_names(project, worktrees):
    with pytest.raises(BadInput, match=r"there are 3 trials \(plain-cpu-b1, int8-cpu-b1, fused-cpu-b1\)\n.*--only"):
        reader(worktrees).chosen(project.git("rev-parse", "HEAD"), read_environment(project.root), [])


def test_a_scenario_that_is_not_committed_is_refused_with_the_next_step(project, worktrees):
    by = Reader(worktrees, Path("new.yaml"), (), TOOLCHAIN)
    project.write("new.yaml", "version: 1\n")
    with pytest.raises(BadInput, match=r"commit [0-9a-f]{12} has no new.yaml\n.*commit it"):
        by.chosen(project.git("rev-parse", "HEAD"), read_environment(project.root), [])


def test_files_that_the_content_depends_on_are_told_from_the_others(project, worktrees):
    project.change("models/layers/names.py", "dense", "wide")
    project.write("models/more.py", "x = 1\n")
    project.change("models/rows.py", "import numpy as np\n", "import numpy as np\nfrom more import x\n")
    project.write("README.md", "another\n")
    project.write("docs/plan.md", "a plan\n")
    project.commit()
    by = reader(worktrees)
    good, bad = line(project)
    trial = by.chosen(bad.hash, read_environment(project.root), ["plain"])
    stretches = by.stretches([good, bad], trial)
    found = changed_files(by, good, bad, stretches[-1].content, trial)
    assert set(found.content) == {"models/layers/names.py", "models/more.py", "models/rows.py"}
    assert found.others == 2


def test_reading_takes_one_worktree_whatever_the_number_of_commits(project, worktrees):
    for number in range(4):
        project.write("README.md", f"{number}\n")
        project.commit()
    read(project, worktrees)
    assert len(project.worktrees()) - 1 == 2  # the bad commit's own, and the one that is turned


def test_the_users_tree_stays_as_it_is_and_no_worktree_is_left(project):
    project.write("models/weights.bin", "9876543210")
    project.commit()
    project.write("README.md", "not committed\n")
    before = project.git("status", "--porcelain")
    with Worktrees(project.root) as worktrees:
        read(project, worktrees)
    assert project.git("status", "--porcelain") == before != ""
    assert project.git("branch", "--show-current") == "main"
    assert len(project.worktrees()) == 1


def test_a_worktree_that_is_turned_has_nothing_of_the_commit_before(project, worktrees):
    first = project.git("rev-parse", "HEAD")
    project.write("models/added.py", "x = 1\n")
    (project.root / "README.md").unlink()
    second = project.commit()
    root = worktrees.turned_to(second)
    assert (root / "models/added.py").is_file() and not (root / "README.md").exists()
    (root / "scenario.yaml").write_text("changed by a reader")
    assert worktrees.turned_to(first) == root
    assert (root / "README.md").is_file() and not (root / "models/added.py").exists()
    assert (root / "scenario.yaml").read_text() == (project.root / "scenario.yaml").read_text()
