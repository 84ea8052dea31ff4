import zipfile

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure

torch = pytest.importorskip("torch")


def built(shop, data, name):
    return shop.source("factory", data, target=f"precision_nets.py:{name}")


@pytest.fixture(scope="session")
def encoder(shop, series):
    return built(shop, series, "encoder")


@pytest.fixture(scope="session")
def package(shop, encoder, series):
    return shop.apply("torch_compile", encoder, series)


def test_it_makes_one_package_of_machine_code_for_any_batch_size(shop, encoder, package):
    assert (package.format, package.main) == ("aot_inductor", "model.pt2")
    assert package.inputs == encoder.inputs and package.outputs == encoder.outputs
    assert [path.name for path in package.folder.iterdir()] == ["model.pt2"]
    with zipfile.ZipFile(package.path) as archive:
        assert [name for name in archive.namelist() if name.endswith(".so")]
    compiled, cpu, difference = package.steps[-1].notes
    assert int(compiled.split()[0]) > 10 and " operators compiled for any batch size in " in compiled
    assert cpu.startswith("for a CPU with ") and difference.startswith("largest difference ")


def test_the_runtime_opens_it_without_compiling_and_answers_are_the_module_s(shop, encoder, package, series):
    from torch._dynamo.utils import counters

    counters.clear()
    (expected,) = shop.answers("torch", encoder, series, size=12)
    with shop.open("torch_compile", package, threads=2) as session:
        for size in (12, 1, 5):
            got = session.outputs(session.run(session.prepare(series.batch(0, size))))[0]
            np.testing.assert_allclose(got, expected[:size], atol=1e-5)
        assert session.facts.precision == "float32" and session.facts.threads == torch.get_num_threads() == 2
        assert session.facts.details[0] == "compiled ahead of time by AOTInductor"
    assert not counters["stats"] and not counters["inductor"]


def test_it_opens_in_a_fresh_process(shop, package, series):
    few = Dataset({"x": series.inputs["x"][:8]}, None)
    np.testing.assert_allclose(
        shop.answers_elsewhere("torch_compile", package, few), shop.answers("torch_compile", package, few, size=8)[0], atol=1e-6
    )


def test_options_that_a_package_cannot_take_are_refused(shop, package):
    with pytest.raises(CannotMeasure, match="'mode', 'freezing' cannot change a package that was compiled ahead of time"):
        with shop.open("torch_compile", package, mode="max-autotune", freezing=True):
            pass


def test_a_package_for_another_processor_or_device_is_refused(shop, package):
    from harness.formats.aot_inductor import Package

    opened = Package(package.path)
    opened.metadata = {"AOTI_DEVICE_KEY": "cpu", "AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}
    opened.check_fits("cpu", frozenset({"avx512f", "avx512_vnni"}))
    opened.check_fits("cpu", None)
    with pytest.raises(CannotMeasure, match="compiled for a CPU with avx512_vnni, which this one has not"):
        opened.check_fits("cpu", frozenset({"avx2", "avx512f"}))
    with pytest.raises(CannotMeasure, match="compiled for 'cpu' and 'cuda:1' was asked for"):
        opened.check_fits("cuda:1", None)


@pytest.mark.slow
def test_several_inputs_one_batch_size_and_half_precision(shop):
    generator = np.random.default_rng(0)
    data = Dataset({"dense": generator.standard_normal((12, 8), dtype=np.float32), "items": generator.integers(0, 50, (12, 4))}, None)
    module = built(shop, data, "recommender")
    artifact = shop.apply("torch_compile", shop.apply("bfloat16", module, data), data, batch_size=4)
    assert [spec.name for spec in artifact.outputs] == ["logits", "interaction"]
    assert {spec.shape[0] for spec in artifact.inputs} == {4}
    for got, expected in zip(shop.answers("torch_compile", artifact, data), shop.answers("torch", module, data), strict=True):
        np.testing.assert_allclose(got, expected, atol=0.03 * max(1, np.abs(expected).max()))
    with shop.open("torch_compile", artifact) as session:
        assert session.facts.precision == "bfloat16"


def test_what_cannot_be_exported_is_refused_with_the_reason(workshop, rows):
    with pytest.raises(CannotMeasure, match="AOTInductor cannot compile this module: ") as raised:
        workshop.apply("torch_compile", built(workshop, rows, "branching"), rows)
    assert "the runtime 'torch_compile' compiles it when it is first called" in str(raised.value)


def test_without_a_compiler_it_is_refused_with_the_line_to_install_one(shop, encoder, series):
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        with pytest.raises(CannotMeasure, match="finds no compiler on this machine\n  install g\\+\\+") as raised:
            shop.apply("torch_compile", encoder, series)
    assert "apt-get install g++" in str(raised.value)
