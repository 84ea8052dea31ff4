import importlib.util

import numpy as np
import pytest

from harness import plugins
from harness.core.errors import BadInput, MissingPackage

torch = pytest.importorskip("torch")


def test_an_entry_point_of_a_local_repository_gives_its_module(workshop, rows):
    artifact = workshop.build("torch_hub", rows, {"name": "tower", "repo": "hub"}, args={"depth": 3})
    assert artifact.format == "torch_module"
    assert [spec.shape for spec in artifact.outputs] == [(None, 32)]
    expected = workshop.answers("torch", artifact, rows, size=40)[0]
    (workshop.root / "hub" / "hubconf.py").unlink()
    np.testing.assert_allclose(workshop.answers_elsewhere("torch", artifact, rows), expected, atol=1e-6)


def test_its_weights_are_drawn_from_the_seed(workshop, rows):
    first, again, other = (workshop.build("torch_hub", rows, {"name": "tower", "repo": "hub"}, seed=seed) for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256


def test_the_repositorys_code_decides_the_digest(workshop):
    found = plugins.load("sources", "torch_hub")(name="tower", repo="hub").depends_on(workshop.root)
    assert found.code == (workshop.root / "hub" / "hubconf.py",)


@pytest.mark.parametrize(
    ("options", "args", "said"),
    [
        ({"name": "castle", "repo": "hub"}, {}, "has no function 'castle'"),
        ({"name": "notes", "repo": "hub"}, {}, "'notes' gave dict, a torch.nn.Module is needed"),
        ({"name": "tower", "repo": "hub"}, {"storeys": 2}, "unexpected keyword argument 'storeys'"),
        ({"name": "tower", "repo": "elsewhere"}, {}, "'elsewhere/hubconf.py' does not exist"),
    ],
)
def test_what_the_repository_does_not_have_is_refused_by_name(workshop, rows, options, args, said):
    with pytest.raises(BadInput, match=said):
        workshop.build("torch_hub", rows, options, args=args)


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision_its_models_are_refused_with_the_package_that_is_missing(workshop, rows):
    with pytest.raises(MissingPackage, match="'torch_hub' needs the package 'torchvision'"):
        workshop.build("torch_hub", rows, {"name": "resnet18"})
