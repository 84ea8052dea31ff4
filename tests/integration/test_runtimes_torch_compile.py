import sys

import numpy as np
import pytest

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plugin import Device

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


@pytest.fixture(scope="module", autouse=True)
def inductor_folder(tmp_path_factory):
    """No test reads or writes the user's own compiled code."""
    folder = tmp_path_factory.mktemp("inductor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def encoder(shop, series):
    return built(shop, series, "encoder")


def call(shop, artifact, data, sizes=(4, 4), **options):
    """Facts and the last answer after calls at batch sizes in turn."""
    with shop.open("torch_compile", artifact, **options) as session:
        for size in sizes:
            got = session.outputs(session.run(session.prepare(data.batch(0, size))))
        return session.facts, got[0]


@pytest.fixture(scope="module")
def launches(shop, encoder, series, inductor_folder):
    """Two launches, one after the other, with a warm cache: the first finds nothing."""
    return [call(shop, encoder, series) for _ in range(2)]


def test_every_launch_compiles_from_a_warm_cache_the_first_one_too(launches):
    if "torchao" in sys.modules:
        pytest.skip("torchao, which a test before has imported, changes Inductor's settings: run this file by itself")
    for facts, _ in launches:
        told = " | ".join(facts.details)
        assert "backend inductor, mode default | 1 graphs, 0 graph breaks" in told
        assert "with 1 of 1 graphs from Inductor's cache" in told
        assert facts.precision == "float32"


def test_the_cold_compile_is_told_apart_and_is_the_same_for_both(launches):
    cold = [next(one for one in facts.details if one.startswith("compiled from nothing in ")) for facts, _ in launches]
    assert cold[0] == cold[1] and cold[0].endswith(" s, once, in another process")
    seconds = float(cold[0].split()[4])
    first = [float(next(one for one in facts.details if one.startswith("the first call")).split()[4]) for facts, _ in launches]
    assert 0 < max(first) < seconds


def test_answers_are_the_eager_module_s(shop, encoder, series, launches):
    (expected,) = shop.answers("torch", encoder, series)
    for _, got in launches:
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_what_it_keeps_lies_in_the_folder_that_the_environment_names_and_the_environment_is_left_alone(launches, inductor_folder):
    import os

    (kept,) = [path for path in (inductor_folder / "harness").iterdir() if path.is_dir()]
    assert (kept / "fxgraph").is_dir()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(inductor_folder)


def test_it_answers_in_a_fresh_process(shop, encoder, series, launches):
    few = Dataset({"x": series.inputs["x"][:4]}, None)
    np.testing.assert_array_equal(shop.answers_elsewhere("torch_compile", encoder, few), launches[0][1])


@pytest.mark.slow
def test_a_cold_launch_compiles_from_nothing_and_leaves_nothing(shop, encoder, series, launches, inductor_folder):
    before = sorted(inductor_folder.rglob("*"))
    facts, got = call(shop, encoder, series, cache="cold", freezing=True)
    assert "with 0 of 1 graphs from Inductor's cache" in " | ".join(facts.details)
    assert not [one for one in facts.details if one.startswith("compiled from nothing")]
    np.testing.assert_allclose(got, launches[0][1], atol=1e-5)
    assert sorted(inductor_folder.rglob("*")) == before


def test_graph_breaks_are_counted_and_their_reason_is_told(workshop, rows):
    facts, got = call(workshop, built(workshop, rows, "breaking"), rows, backend="eager")
    assert "2 graphs, 1 graph breaks" in facts.details
    assert "graph break: Call to `torch._dynamo.graph_break()`" in facts.details
    assert got.shape == (4, 10)


def test_fullgraph_makes_a_graph_break_an_error(workshop, rows):
    with pytest.raises(CannotMeasure, match=r"torch.compile cannot compile this module: Call to `torch\._dynamo\.graph_break\(\)`"):
        call(workshop, built(workshop, rows, "breaking"), rows, backend="eager", fullgraph=True)


def test_a_module_of_which_nothing_is_compiled_is_refused(workshop, rows):
    with pytest.raises(CannotMeasure, match=r"torch\.compile compiled nothing: the whole module would run eagerly") as raised:
        call(workshop, built(workshop, rows, "opaque"), rows, backend="eager")
    assert "torch.compiler.disable" in str(raised.value)


def test_what_is_compiled_again_later_is_told(workshop, rows):
    facts, _ = call(workshop, built(workshop, rows, "normed_rows"), rows, sizes=(4, 8, 8), backend="eager", dynamic=False)
    assert "1 graphs were compiled again after the first call" in facts.details


def test_one_graph_takes_any_size_where_it_is_dynamic(workshop, rows):
    facts, _ = call(workshop, built(workshop, rows, "normed_rows"), rows, sizes=(4, 8, 5), backend="eager", dynamic=True)
    assert "1 graphs, 0 graph breaks" in facts.details
    assert not [one for one in facts.details if "compiled again" in one]


def test_giving_up_on_a_module_that_never_fits_its_graph_is_an_error_and_never_eager(workshop, rows):
    module = built(workshop, rows, "normed_rows")
    with pytest.raises(CannotMeasure, match=r"torch\.compile cannot compile this module: .*recompile"):
        call(workshop, module, rows, sizes=range(2, 14), backend="eager", dynamic=False)


def test_half_precision_and_autocast_of_passes_are_kept(shop, series, encoder):
    for name, precision in (("bfloat16", "bfloat16"), ("autocast", "autocast to bfloat16, weights in float32")):
        artifact = shop.apply(name, encoder, series)
        facts, got = call(shop, artifact, series, backend="aot_eager", fullgraph=True)
        assert facts.precision == precision
        np.testing.assert_allclose(got, shop.answers("torch", encoder, series)[0], atol=0.05)


def test_a_backend_that_is_not_there_is_refused_with_the_nearest_name(shop, encoder):
    with pytest.raises(BadInput, match=r"no torch\.compile backend 'inducter'\n  did you mean 'inductor'"):
        with shop.open("torch_compile", encoder, backend="inducter"):
            pass


def test_inductor_s_options_are_refused_for_another_backend(shop, encoder):
    with pytest.raises(BadInput, match="'mode' and 'freezing' are Inductor's"):
        with shop.open("torch_compile", encoder, backend="eager", mode="max-autotune"):
            pass


def test_without_a_compiler_it_is_refused_with_the_line_to_install_one(shop, encoder):
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        with pytest.raises(CannotMeasure, match=r"finds no compiler on this machine\n  install g\+\+"):
            with shop.open("torch_compile", encoder):
                pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_an_error(encoder):
    with pytest.raises(CannotMeasure, match=r"'cuda' was asked for and this torch .* sees no CUDA device"):
        with plugins.load("runtimes", "torch_compile")().open(encoder, Device("cuda", 1)):
            pass
