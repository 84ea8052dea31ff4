import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.core.plugin import Device

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


@pytest.fixture(scope="session")
def residual(shop, images):
    return built(shop, images, "residual")


@pytest.fixture(scope="session")
def scripted(shop, residual, images):
    return shop.apply("torchscript", residual, images)


def facts_after(shop, artifact, data, calls=4, **options):
    with shop.open("torchscript", artifact, **options) as session:
        prepared = session.prepare(data.batch(0, 4))
        for _ in range(calls):
            session.run(prepared)
        return session.facts


def test_it_optimizes_when_it_opens_and_tells_the_graph_that_ran(shop, scripted, images):
    facts = facts_after(shop, scripted, images)
    assert facts.precision == "float32"
    operators, onednn, optimized = facts.details
    assert int(operators.split()[0]) > 0 and operators.endswith("operators in the executed graph")
    assert int(onednn.split()[0]) >= 3 and onednn.endswith("oneDNN nodes")  # the convolutions at least
    assert optimized == "optimized for inference when it was opened"


def test_without_optimization_the_graph_runs_as_it_was_saved(shop, scripted, images):
    (told,) = facts_after(shop, scripted, images, optimize_for_inference=False).details
    assert told.endswith("operators in the executed graph")


def test_onednn_graph_fuses_what_it_is_let_and_the_setting_does_not_outlive_the_session(shop, scripted, images):
    facts = facts_after(shop, scripted, images, optimize_for_inference=False, onednn_fusion=True)
    assert any(int(detail.split()[0]) >= 1 for detail in facts.details if detail.endswith("oneDNN Graph fusions"))
    assert not torch.jit.onednn_fusion_enabled()


@pytest.mark.parametrize("options", [{}, {"optimize_for_inference": False}, {"optimize_for_inference": False, "onednn_fusion": True}])
def test_answers_are_the_eager_module_s(shop, residual, scripted, images, options):
    (expected,) = shop.answers("torch", residual, images, size=12)
    with shop.open("torchscript", scripted, **options) as session:
        for size in (12, 12, 12, 5, 1):  # profiled, compiled, and other sizes than were compiled for
            got = session.outputs(session.run(session.prepare(images.batch(0, size))))[0]
            np.testing.assert_allclose(got, expected[:size], atol=1e-5)


def test_a_query_runs_in_inference_mode_on_the_threads_asked_for(shop, scripted, images):
    with shop.open("torchscript", scripted, threads=2) as session:
        assert session.run(session.prepare(images.batch(0, 2))).is_inference()
        assert session.facts.threads == torch.get_num_threads() == 2


def test_half_precision_is_told_from_the_frozen_weights(shop, residual, images):
    artifact = shop.apply("torchscript", shop.apply("bfloat16", residual, images), images)
    assert facts_after(shop, artifact, images).precision == "bfloat16"


def test_a_file_of_the_user_s_own_is_opened_too(workshop, rows):
    with torch.no_grad():
        module = torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
        with pytest.warns(DeprecationWarning):
            torch.jit.save(torch.jit.script(module), str(workshop.root / "own.pt"))
    artifact = workshop.source("torchscript", rows, path="own.pt")
    (got,) = workshop.answers("torchscript", artifact, rows)
    np.testing.assert_allclose(got, module(torch.from_numpy(rows.inputs["x"][:4])).detach().numpy(), atol=1e-6)
    assert facts_after(workshop, artifact, rows).precision == "float32"


def test_it_opens_in_a_fresh_process(shop, scripted, images):
    few = Dataset({"x": images.inputs["x"][:8]}, None)
    elsewhere = shop.answers_elsewhere("torchscript", scripted, few)
    np.testing.assert_allclose(elsewhere, shop.answers("torch", scripted, few, size=8)[0], atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_an_error(scripted):
    with pytest.raises(CannotMeasure, match=r"'cuda' was asked for and this torch .* sees no CUDA device"):
        with plugins.load("runtimes", "torchscript")().open(scripted, Device("cuda", 1)):
            pass
