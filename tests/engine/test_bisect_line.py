import pytest
from fakes.projects import Project

from harness.core.errors import BadInput
from harness.engine.bisecting.line import commit_named, inside_of_merge, line_between


@pytest.fixture
def project(tmp_path):
    """main: first, second, a merge of a branch with two commits, last."""
    made = Project(tmp_path / "project")

    def commit(name):
        made.write(f"{name}.txt", name)
        made.git("add", "--all")
        made.git("commit", "-q", "-m", name)
        made.git("tag", name)

    made.write("readme", "")
    made.git("init", "-q")
    commit("first")
    made.git("checkout", "-q", "-b", "branch")
    commit("inner")
    commit("outer")
    made.git("checkout", "-q", "main")
    commit("second")
    made.git("merge", "-q", "--no-ff", "-m", "merge", "branch")
    made.git("tag", "merged")
    commit("last")
    return made


def hash_of(project, name):
    return project.git("rev-parse", f"{name}^{{commit}}")


def between(project, good, bad):
    return line_between(project.root, hash_of(project, good), hash_of(project, bad))


def refused(project, good, bad):
    with pytest.raises(BadInput) as error:
        between(project, good, bad)
    return str(error.value)


def test_a_merge_is_one_commit_of_the_line_and_what_it_brought_is_not_on_it(project):
    found = between(project, "first", "last")
    assert [commit.subject for commit in found] == ["first", "second", "merge", "last"]
    assert len(found[2].parents) == 2
    assert found[3].parents == (found[2].hash,)
    assert found[1].author == "Nobody"


def test_the_commits_of_a_merge_are_searched_from_where_the_branch_began(project):
    good, bad = inside_of_merge(project.root, between(project, "first", "merged")[-1])
    assert hash_of(project, good) == hash_of(project, "first")
    assert [commit.subject for commit in between(project, good, bad)] == ["first", "inner", "outer"]


def test_the_same_commit_twice_is_refused(project):
    assert "--good and --bad are the same commit" in refused(project, "last", "last")


def test_ends_the_wrong_way_round_are_refused_with_the_commit_to_name(project):
    told = refused(project, "last", "second")
    assert "does not come before --bad" in told
    assert f"--good {hash_of(project, 'second')[:12]}" in told


def test_ends_on_two_branches_are_refused_with_where_both_come_from(project):
    assert f"name the commit that both come from: --good {hash_of(project, 'first')[:12]}" in refused(project, "second", "outer")


def test_a_good_commit_that_a_merge_brought_in_is_refused_with_the_commit_before_the_merge(project):
    told = refused(project, "inner", "last")
    assert "is not on the first-parent line" in told
    assert f"name the commit before that merge: --good {hash_of(project, 'second')[:12]}" in told


def test_a_ref_that_is_not_there_is_named_with_its_option(project):
    with pytest.raises(BadInput, match=r"--good v9: there is no such commit in .*"):
        commit_named(project.root, "v9", "--good")


def test_a_ref_that_looks_like_an_option_is_only_a_name(project):
    with pytest.raises(BadInput, match=r"--good --all: there is no such commit"):
        commit_named(project.root, "--all", "--good")
