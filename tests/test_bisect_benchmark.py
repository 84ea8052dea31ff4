"""The repository in which the benchmark of bisect plants its slowdown: read here, never built."""

import importlib.util
import sys
from pathlib import Path

import pytest

from harness.engine import toolchain
from harness.engine.bisecting.line import line_between
from harness.engine.bisecting.read_commits import Reader
from harness.engine.read_environment import git, read_environment
from harness.engine.worktree import Worktrees

FOLDER = Path(__file__).parent / "benchmarks" / "bisect"


@pytest.fixture(scope="module")
def benchmark_repository():
    """The module; its folder has the name of one of Python's own."""
    spec = importlib.util.spec_from_file_location("bisect_benchmark_repository", FOLDER / "repository.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_twelve_commits_have_one_planted_slowdown_seven_harmless_changes_and_documents_that_cost_nothing(benchmark_repository, tmp_path):
    made = benchmark_repository.make(tmp_path / "repository", place=5, seed=3)
    line = line_between(made.root, made.good, git(made.root, "rev-parse", "HEAD"))
    assert len(line) == 13
    assert line[5].hash == made.planted and line[5].subject == benchmark_repository.PLANTED
    with Worktrees(made.root) as worktrees:
        reader = Reader(worktrees, Path(benchmark_repository.SCENARIO_PATH), (), toolchain.installed())
        trial = reader.chosen(line[-1].hash, read_environment(made.root), [])
        stretches = reader.stretches(line, trial)
        models = {commit.hash: git(made.root, "show", f"{commit.hash}:{benchmark_repository.MODEL_PATH}") for commit in line}
    assert len(stretches) == len({stretch.content for stretch in stretches}) == 1 + 1 + len(benchmark_repository.HARMLESS) == 9
    slower = [commit.hash for commit in line if f"UNITS = {benchmark_repository.BAD_UNITS}" in models[commit.hash]]
    assert slower == [commit.hash for commit in line[5:]]


def test_places_differ_and_come_from_the_seed(benchmark_repository):
    found = benchmark_repository.places(5, 1)
    assert len(set(found)) == 5 and all(1 <= place <= 12 for place in found)
    assert found == benchmark_repository.places(5, 1)
    assert any(benchmark_repository.places(5, seed) != found for seed in range(2, 5))
