import pytest
from forked_builds import Forge


@pytest.fixture(scope="session")
def forge(tmp_path_factory):
    """Builds and asks what a scenario describes, each step in a process of its own, on one core."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # what has threads cannot be forked
            patch.setenv(name, "1")
        yield Forge(tmp_path_factory.mktemp("forge"))
