import importlib.util
from pathlib import Path

import pytest

FAKES = Path(__file__).parents[1] / "fakes" / "runs.py"


@pytest.fixture(scope="session")
def runs():
    """The maker of launches, and a machine whose truth is known."""
    spec = importlib.util.spec_from_file_location("fake_runs", FAKES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
