import shutil
import subprocess
import tempfile

import pytest
from fakes.projects import Project, fake_project

from harness.core.errors import CannotMeasure
from harness.engine import worktree
from harness.engine.worktree import Worktrees


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where worktrees are made in a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def project(tmp_path):
    return fake_project(tmp_path / "project")


def gone(project, temporary):
    return project.worktrees() == [str(project.root)] and list(temporary.iterdir()) == []


def test_a_commit_is_checked_out_as_it_was_and_the_project_stays_as_it_is(project, temporary):
    project.write("models/net.py", "x = 1\n")
    first = project.commit()
    project.write("models/net.py", "x = 2\n")
    second = project.commit()
    project.write("models/net.py", "x = 3\n")
    with Worktrees(project.root) as worktrees:
        assert (worktrees.at(first) / "models" / "net.py").read_text() == "x = 1\n"
        assert (worktrees.at(second) / "models" / "net.py").read_text() == "x = 2\n"
        assert len(project.worktrees()) == 3
        assert (project.root / "models" / "net.py").read_text() == "x = 3\n"
    assert gone(project, temporary)
    assert project.git("rev-parse", "HEAD") == second
    assert project.git("status", "--porcelain") == "M models/net.py"


def test_a_commit_is_checked_out_once(project):
    commit = project.commit()
    with Worktrees(project.root) as worktrees:
        assert worktrees.at(commit) == worktrees.at(commit)
        assert len(project.worktrees()) == 2


def test_a_branch_that_is_checked_out_already_is_no_hindrance(project, temporary):
    project.commit()
    with Worktrees(project.root) as worktrees:
        assert (worktrees.at("main") / "scenario.yaml").is_file()
    assert gone(project, temporary)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, CannotMeasure])
def test_worktrees_are_gone_after_an_error_too_also_what_was_written_in_them(project, temporary, error):
    commit = project.commit()
    with pytest.raises(error), Worktrees(project.root) as worktrees:
        (worktrees.at(commit) / "made.bin").write_bytes(b"0")
        (worktrees.at(commit) / "scenario.yaml").write_text("changed")
        raise error("in the middle")
    assert gone(project, temporary)


def test_a_worktree_that_somebody_else_removed_is_forgotten(project, temporary):
    commit = project.commit()
    with Worktrees(project.root) as worktrees:
        shutil.rmtree(worktrees.at(commit).parent)
    assert gone(project, temporary)


def test_without_a_question_git_is_not_asked(tmp_path):
    with Worktrees(tmp_path / "nowhere") as worktrees:
        assert worktrees.root == tmp_path / "nowhere"


def test_a_commit_that_is_not_here_is_told_with_what_a_shallow_clone_needs(project, temporary):
    project.commit()
    with Worktrees(project.root) as worktrees:
        with pytest.raises(CannotMeasure, match="commit 0123456789ab is not in this clone") as caught:
            worktrees.at("0123456789abcdef" * 2 + "01234567")
    assert caught.value.hint is not None and "'fetch-depth: 0'" in caught.value.hint
    assert gone(project, temporary)


def test_a_shallow_clone_has_its_last_commit_and_no_other(project, tmp_path):
    first, second = project.commit(), project.commit()
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{project.root}", str(tmp_path / "clone")], check=True, capture_output=True)
    with Worktrees(tmp_path / "clone") as worktrees:
        assert (worktrees.at(second) / "scenario.yaml").is_file()
        with pytest.raises(CannotMeasure, match=f"commit {first[:12]} is not in this clone"):
            worktrees.at(first)
    assert Project(tmp_path / "clone").worktrees() == [str(tmp_path / "clone")]


def test_outside_version_control_there_is_no_commit(tmp_path):
    with Worktrees(tmp_path) as worktrees, pytest.raises(CannotMeasure, match="is not in this clone"):
        worktrees.at("HEAD")


def test_the_users_hooks_are_not_run(project):
    commit = project.commit()
    hook = project.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch ran\nexit 1\n")
    hook.chmod(0o755)
    with Worktrees(project.root) as worktrees:
        assert (worktrees.at(commit) / "scenario.yaml").is_file()
        assert not (worktrees.at(commit) / "ran").exists()


def test_a_checkout_that_fails_leaves_nothing_behind(project, temporary):
    project.write(".gitattributes", "*.bin filter=broken\n")
    project.write("weights.bin", "0")
    commit = project.commit()
    project.git("config", "filter.broken.smudge", "false")
    project.git("config", "filter.broken.required", "true")
    with Worktrees(project.root) as worktrees:
        with pytest.raises(CannotMeasure, match=f"git cannot check out commit {commit[:12]} into a worktree"):
            worktrees.at(commit)
        assert gone(project, temporary)


def test_a_checkout_that_took_too_long_leaves_nothing_behind(project, temporary, monkeypatch):
    commit = project.commit()
    real = worktree.git

    def ended(root, *arguments):
        answer = real(root, *arguments)
        return None if "add" in arguments else answer

    monkeypatch.setattr(worktree, "git", ended)
    with Worktrees(project.root) as worktrees:
        with pytest.raises(CannotMeasure, match="git cannot check out"):
            worktrees.at(commit)
        assert gone(project, temporary)
