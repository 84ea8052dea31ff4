import dataclasses
import json
import shutil
import subprocess
import tempfile

import pytest
from fakes import cases
from fakes.projects import Project, builder, fake_project

from harness.core.errors import CannotMeasure
from harness.core.scenario import PluginRef
from harness.engine.base_arm import BaseFinder, _refuse_same_endpoint, _served_by
from harness.engine.protocol import Served
from harness.engine.toolchain import installed
from harness.engine.worktree import Worktrees
from harness.store.cache import Cache

ENOUGH = 10**9
FILE = "baselines/tiny/plain-cpu-b1.json"
EVALUATION = "e" * 64
RUNTIME = '"""See Mine."""\n\n\nclass Mine:\n    """Mine."""\n\n    answers = 1\n\n\nPLUGIN = Mine\n'


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where worktrees are made in a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that holds the artifact of the project as the tests find it."""
    folder = tmp_path_factory.mktemp("filled")
    project = fake_project(folder / "project")
    with Cache(folder / "cache", ENOUGH) as cache:
        builder(cache, folder / "logs").artifact(project.trial(), project.derive(toolchain=installed()))
    return folder / "cache"


@pytest.fixture
def project(tmp_path):
    return fake_project(tmp_path / "project")


def accepted(project, commit, *, recipe="plain", older=False, **changes):
    """The baseline of a trial as the project is now; ``older``: it was accepted with another numpy."""
    toolchain = installed()
    if older:
        toolchain = dataclasses.replace(toolchain, versions=toolchain.versions | {"numpy": "1.0"})
    derivation = project.derive(recipe, toolchain=toolchain)
    portable = {
        "content": derivation.content,
        "scenario_path": "scenario.yaml",
        "commit": commit,
        "artifact_key": derivation.steps[-1].key,
        "evaluation_key": derivation.data["evaluation"],
        "runtime": project.trial(recipe).recipe.runtime,
    }
    return cases.baseline(**(portable | changes))


def change(project):
    """Make the candidate another model than the baseline."""
    project.change("scenario.yaml", "latency_us: 50", "latency_us: 80")


def find(project, baseline, cache_folder, *, recipe="plain", candidate=None, evaluation=EVALUATION, toolchain=None):
    """The other arm, the model that it is of, and how many worktrees it took."""
    with Cache(cache_folder, ENOUGH) as cache, Worktrees(project.root) as worktrees:
        finder = BaseFinder(project.root, builder(cache, cache_folder.parent / "logs"), toolchain or installed(), worktrees)
        arm = finder.find(project.trial(recipe), baseline, candidate or cases.subject(), evaluation, project.root / FILE)
        model = json.loads(arm.subject.artifact.path.read_text())
        made = len(project.worktrees()) - 1 if (project.root / ".git").exists() else 0
        return arm, model, made


def why_not(project, baseline, cache_folder):
    with pytest.raises(CannotMeasure) as caught:
        find(project, baseline, cache_folder)
    assert caught.value.hint == "accept a new baseline from a clean commit: 'harness baseline accept'"
    message = caught.value.message
    beginning = "the baseline of tiny/plain-cpu-b1 cannot be built here: "
    assert message.startswith(beginning)
    return message.removeprefix(beginning)


def test_an_artifact_that_is_in_the_cache_is_taken_from_there_and_nothing_is_checked_out(project, filled):
    baseline = accepted(project, project.commit())
    change(project)
    arm, model, worktrees = find(project, baseline, filled)
    assert (model["latency_us"], worktrees, arm.note) == (50, 0, None)
    assert arm.subject.artifact.folder == Cache(filled, ENOUGH).path(baseline.portable.artifact_key)


def test_the_cache_is_enough_where_there_is_no_version_control(project, filled):
    baseline = accepted(project, None)
    change(project)
    assert find(project, baseline, filled)[1]["latency_us"] == 50


def test_it_is_opened_as_it_was_with_the_candidates_inputs_load_and_cores(project, filled):
    baseline = accepted(project, None, recipe="slower")
    project.change("scenario.yaml", "add_latency_us: 10", "add_latency_us: 90")
    candidate = dataclasses.replace(cases.subject(), batch_size=8, threads=3, cores=(1,), load=PluginRef(name="offline"))
    arm, _, _ = find(project, baseline, filled, recipe="slower", candidate=candidate)
    assert arm.subject.runtime == PluginRef(name="fake", options={"add_latency_us": 10})
    kept = dataclasses.replace(arm.subject, artifact=candidate.artifact, runtime=candidate.runtime)
    assert kept == candidate


def test_an_artifact_that_is_not_in_the_cache_is_built_from_the_commit(project, tmp_path, temporary):
    baseline = accepted(project, project.commit())
    change(project)
    project.commit()
    arm, model, worktrees = find(project, baseline, tmp_path / "empty")
    assert (model["latency_us"], worktrees, arm.note) == (50, 1, None)
    assert arm.subject.scenario_folder.is_relative_to(temporary), "code of the baseline's own is run as it was"
    assert project.worktrees() == [str(project.root)] and list(temporary.iterdir()) == []


def test_a_damaged_artifact_is_built_again(project, filled, tmp_path):
    shutil.copytree(filled, tmp_path / "damaged")
    baseline = accepted(project, project.commit())
    entry = Cache(tmp_path / "damaged", ENOUGH).path(baseline.portable.artifact_key)
    (entry / "model.json").write_text("{}")
    _, model, worktrees = find(project, baseline, tmp_path / "damaged")
    assert (model["latency_us"], worktrees) == (50, 1)


def test_a_baseline_of_other_versions_is_built_with_the_present_ones_and_that_is_told(project, filled):
    baseline = accepted(project, project.commit(), older=True)
    change(project)
    arm, model, worktrees = find(project, baseline, filled)
    assert (model["latency_us"], worktrees) == (50, 1)
    now = installed().versions["numpy"]
    assert arm.note == f"the baseline was accepted with other versions (numpy 1.0 -> {now}); both arms run with the present ones"


def test_a_plugin_of_this_program_that_is_another_one_now_is_another_version(project, filled):
    baseline = accepted(project, project.commit())
    content = baseline.portable.content
    for name in ("harness.runtimes.fake", "harness.passes.no_longer_there"):
        toolchain = {**content.toolchain, name: "0123456789ab"}
        changed = dataclasses.replace(
            baseline, portable=dataclasses.replace(baseline.portable, content=dataclasses.replace(content, toolchain=toolchain))
        )
        note = find(project, changed, filled)[0].note
        assert note is not None and f"({name} 0123456789ab -> " in note


def test_without_its_own_commit_the_one_that_brought_its_file_is_tried(project, filled):
    baseline = accepted(project, None, older=True)
    project.write(FILE, "{}")
    project.commit()
    change(project)
    project.commit()
    assert find(project, baseline, filled)[1]["latency_us"] == 50


def test_without_either_the_present_commit_is_tried(project, filled):
    project.commit()
    baseline = accepted(project, None, older=True)
    change(project)
    assert find(project, baseline, filled)[1]["latency_us"] == 50


def test_the_runtime_of_a_baseline_is_run_by_its_own_code_where_it_is_the_users_own(project, filled, temporary):
    project.write("mine.py", RUNTIME)
    project.change("scenario.yaml", "plain: {runtime: fake}", "plain: {runtime: ./mine.py}")
    baseline = accepted(project, project.commit())
    project.change("mine.py", "answers = 1", "answers = 2")
    arm, _, worktrees = find(project, baseline, filled)
    assert worktrees == 1
    assert arm.subject.runtime == PluginRef(name="./mine.py") and arm.subject.scenario_folder.is_relative_to(temporary)


def test_its_answers_are_kept_under_a_key_of_all_that_decides_them(project, filled):
    baseline = accepted(project, project.commit())
    batch = dataclasses.replace(cases.subject(), batch_size=8)
    keys = [
        find(project, baseline, filled)[0].predictions,
        find(project, baseline, filled, evaluation="f" * 64)[0].predictions,
        find(project, baseline, filled, candidate=batch)[0].predictions,
        find(project, accepted(project, None, recipe="slower"), filled, recipe="slower")[0].predictions,
    ]
    assert len(set(keys)) == len(keys)
    assert find(project, baseline, filled)[0].predictions == keys[0]


def test_its_answers_are_never_those_of_another_version_or_of_other_code(project, filled):
    project.write("mine.py", RUNTIME)
    project.change("scenario.yaml", "plain: {runtime: fake}", "plain: {runtime: ./mine.py}")
    first = find(project, accepted(project, project.commit()), filled)[0]
    project.change("mine.py", "answers = 1", "answers = 2")
    second = find(project, accepted(project, project.commit()), filled)[0]
    project.change("mine.py", "answers = 2", "answers = 2\n    import hypothesis")
    third = accepted(project, project.commit())
    other = dataclasses.replace(installed(), versions=installed().versions | {"hypothesis": "1.0"})
    arms = [first, second, find(project, third, filled)[0], find(project, third, filled, toolchain=other)[0]]
    assert len({arm.predictions for arm in arms}) == 4


def test_from_the_cache_or_from_the_commit_it_has_the_same_answers(project, filled, tmp_path):
    baseline = accepted(project, project.commit())
    assert find(project, baseline, filled)[0].predictions == find(project, baseline, tmp_path / "empty")[0].predictions


def test_a_commit_with_other_content_is_no_place_to_build_it_from(project, tmp_path):
    baseline = accepted(project, None)
    change(project)
    commit = project.commit()
    assert why_not(project, baseline, tmp_path / "empty") == f"commit {commit[:12]} holds other content"


def test_a_shallow_clone_is_told_as_the_reason(project, tmp_path):
    baseline = accepted(project, project.commit())
    change(project)
    present = project.commit()
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{project.root}", str(tmp_path / "clone")], check=True, capture_output=True)
    first = f"at commit {baseline.portable.commit[:12]}: commit {baseline.portable.commit[:12]} is not in this clone"
    told = why_not(Project(tmp_path / "clone"), baseline, tmp_path / "empty")
    way_out = "a shallow clone has no history: fetch it ('fetch-depth: 0' in a GitHub workflow)"
    assert told == f"{first}; {way_out}; commit {present[:12]} holds other content"


def test_an_unknown_commit_is_told_as_the_reason(project, tmp_path):
    baseline = accepted(project, "0123456789ab" + "0" * 28)
    change(project)
    project.commit()
    assert why_not(project, baseline, tmp_path / "empty").startswith("at commit 0123456789ab: commit 0123456789ab is not in this clone")


def test_without_version_control_there_is_no_commit_to_build_it_from(project, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    told = why_not(project, accepted(project, None), tmp_path / "empty")
    assert told == "it is not in the cache, and there is no commit to build it from"


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (lambda project: (project.root / "scenario.yaml").rename(project.root / "other.yaml"), "scenario.yaml: "),
        (
            lambda project: project.change("scenario.yaml", "plain: {runtime: fake}", "other: {runtime: fake}"),
            "the scenario had no recipe 'plain'",
        ),
        (lambda project: project.change("scenario.yaml", "version: 1", "version: 2"), "scenario.yaml:1 version: "),
    ],
)
def test_a_commit_whose_scenario_cannot_be_read_is_told_with_the_reason(project, tmp_path, before, told):
    text = (project.root / "scenario.yaml").read_text()
    baseline = accepted(project, None)
    before(project)
    commit = project.commit()
    project.write("scenario.yaml", text)
    reason = why_not(project, baseline, tmp_path / "empty")
    assert reason.startswith(f"at commit {commit[:12]}: ") and told in reason


def test_a_build_that_fails_is_told_with_the_reason(project, tmp_path, temporary):
    project.write("rows.py", "def test_set():\n    raise ValueError('the labels are lost')\n")
    project.change("scenario.yaml", 'random: {x: "float32[4]"}\n  samples: 8', "evaluation: rows.py:test_set")
    commit = project.commit()
    told = why_not(project, accepted(project, commit), tmp_path / "empty")
    assert told.startswith(f"at commit {commit[:12]}: build, data.evaluation: ") and "the labels are lost" in told
    assert project.worktrees() == [str(project.root)] and list(temporary.iterdir()) == []


def test_the_baseline_is_served_by_its_own_server_and_promises_what_the_candidate_does(runs):
    candidate = dataclasses.replace(runs.subject(), served=Served(PluginRef(name="embedded"), "m", 5, ()))
    own = _served_by(candidate, PluginRef(name="embedded", options={"max_batch_size": 1}))
    assert own == Served(PluginRef(name="embedded", options={"max_batch_size": 1}), "m", 5, ())
    assert _served_by(runs.subject(), PluginRef(name="embedded")) is None


def test_an_endpoint_is_never_compared_with_itself(runs):
    here = dataclasses.replace(runs.artifact(), format="endpoint")
    candidate = dataclasses.replace(runs.subject(), artifact=here)
    with pytest.raises(CannotMeasure, match="cannot be asked again"):
        _refuse_same_endpoint(here, candidate)
    _refuse_same_endpoint(dataclasses.replace(here, sha256="1" * 64), candidate)  # another address
