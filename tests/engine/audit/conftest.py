import pytest
from fakes.audits import audited, copied


@pytest.fixture(scope="package")
def bundle(tmp_path_factory):
    """The folder of a bundle that the real command made; tests leave it as it is."""
    base = tmp_path_factory.mktemp("audited")
    audited(base)
    return base / "out"


@pytest.fixture
def forged(bundle, tmp_path):
    """A copy to change."""
    return copied(bundle, tmp_path / "forged")
