import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's own artifact cache or history."""
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "harness-cache"))
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path_factory.getbasetemp() / "harness-history.sqlite"))
