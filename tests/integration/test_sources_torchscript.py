import warnings

import numpy as np
import pytest

from harness.core.errors import BadInput

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def network():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10)).eval()


@pytest.fixture(params=["trace", "script"])
def scripted(request, workshop, network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what the product opens without a word, somebody once wrote
        module = torch.jit.trace(network, torch.zeros(2, 32)) if request.param == "trace" else torch.jit.script(network)
        torch.jit.save(module, workshop.root / "model.pt")
    return "model.pt"


def test_a_file_is_copied_described_and_answers_like_its_module(workshop, rows, network, scripted):
    artifact = workshop.source("torchscript", rows, path=scripted)
    assert artifact.format == "torchscript"
    assert [(spec.name, spec.shape) for spec in artifact.inputs] == [("x", (None, 32))]
    assert [(spec.dtype, spec.shape) for spec in artifact.outputs] == [("float32", (None, 10))]
    assert artifact.size_bytes == (workshop.root / scripted).stat().st_size
    (workshop.root / scripted).unlink()
    with torch.inference_mode():
        expected = network(torch.from_numpy(rows.inputs["x"])).numpy()
    np.testing.assert_allclose(workshop.answers_elsewhere("torch", artifact, rows), expected, atol=1e-6)


def test_the_facts_of_a_scripted_module_are_those_of_its_weights(workshop, rows, scripted):
    artifact = workshop.source("torchscript", rows, path=scripted)
    with workshop.open("torch", artifact, dtype="bfloat16") as session:
        assert session.facts.precision == "bfloat16"
        assert session.run(session.prepare(rows.batch(0, 2))).dtype is torch.bfloat16


def a_state_dict(path, network):
    torch.save(network.state_dict(), path)


def text(path, network):
    path.write_text("this is a letter, not a model")


def half_a_file(path, network):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [a_state_dict, text, half_a_file])
def test_what_is_no_torchscript_is_refused_by_name(workshop, rows, network, spoil):
    spoil(workshop.root / "spoilt.pt", network)
    with pytest.raises(BadInput, match=r"model\.torchscript: spoilt\.pt cannot be opened and called as TorchScript"):
        workshop.source("torchscript", rows, path="spoilt.pt")


def test_inputs_that_do_not_fit_are_refused_with_the_reason(workshop, pairs, images, scripted):
    with pytest.raises(BadInput, match="shapes cannot be multiplied"):
        workshop.source("torchscript", images, path=scripted)
    with pytest.raises(BadInput, match=r"forward\(\)"):
        workshop.source("torchscript", pairs, path=scripted)
