from types import ModuleType

import pytest
from fakes import results as fake_results
from fakes import runs as fake_runs


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's own artifact cache or history."""
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "harness-cache"))
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path_factory.getbasetemp() / "harness-history.sqlite"))


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """The maker of launches, predictions, artifacts and clocks, and a machine whose truth is known."""
    return fake_runs


@pytest.fixture(scope="session")
def results() -> ModuleType:
    """The builder of realistic results."""
    return fake_results
