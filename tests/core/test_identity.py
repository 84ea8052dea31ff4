from dataclasses import replace

import numpy as np
import pytest

from harness.core.artifact import Dataset
from harness.core.environment import Environment, Gpu, environment_key

MACHINE = Environment(
    cpu_model="AMD EPYC 7B13",
    cpu_count=2,
    cpu_flags=("avx2",),
    memory_bytes=8_344_715_264,
    gpus=(Gpu("NVIDIA L4", 24 * 2**30, "550.54"),),
    os="Debian GNU/Linux 12",
    kernel="6.1.0-28-amd64",
    python="3.11.7",
    governor="performance",
    load_average=0.42,
    virtual_machine=True,
    packages={"numpy": "2.4.1"},
    variables={},
    commit="3f2c9b7a",
    dirty=False,
)
USED = {"cores": 1, "threads": 1, "device": "cpu", "packages": {"torch": "2.13.0", "onnx": "1.18"}}


def test_a_key_is_twelve_hex_digits_that_repeat():
    key = environment_key(MACHINE, **USED)
    assert len(key) == 12
    assert int(key, 16) >= 0
    assert environment_key(MACHINE, **USED) == key


@pytest.mark.parametrize(
    "other",
    [
        {"memory_bytes": MACHINE.memory_bytes + 2**20},
        {"load_average": 7.0},
        {"commit": "other", "dirty": True},
        {"kernel": "6.1.0-29-amd64"},
        {"gpus": ()},
    ],
)
def test_what_differs_between_two_hosts_of_one_kind_does_not_change_the_key_of_a_cpu(other):
    assert environment_key(replace(MACHINE, **other), **USED) == environment_key(MACHINE, **USED)


@pytest.mark.parametrize("other", [{"cpu_model": "Intel"}, {"cpu_count": 4}, {"memory_bytes": 2 * MACHINE.memory_bytes}, {"os": "Ubuntu"}])
def test_another_machine_has_another_key(other):
    assert environment_key(replace(MACHINE, **other), **USED) != environment_key(MACHINE, **USED)


@pytest.mark.parametrize("other", [{"cores": 2}, {"threads": 2}, {"device": "cuda"}, {"packages": {"torch": "2.14.0", "onnx": "1.18"}}])
def test_another_use_of_the_machine_has_another_key(other):
    assert environment_key(MACHINE, **(USED | other)) != environment_key(MACHINE, **USED)


def test_the_order_of_packages_does_not_matter():
    turned = dict(reversed(USED["packages"].items()))
    assert environment_key(MACHINE, **(USED | {"packages": turned})) == environment_key(MACHINE, **USED)


def test_on_a_gpu_its_driver_belongs_to_the_key():
    other = replace(MACHINE, gpus=(Gpu("NVIDIA L4", 24 * 2**30, "560.35"),))
    used = USED | {"device": "cuda"}
    assert environment_key(other, **used) != environment_key(MACHINE, **used)


def test_every_batch_is_full_and_goes_round_at_the_end():
    data = Dataset({"x": np.arange(5), "mask": np.arange(5) * 10}, None)
    assert data.count == 5
    assert data.batch(3, 4)["x"].tolist() == [3, 4, 0, 1]
    assert data.batch(3, 4)["mask"].tolist() == [30, 40, 0, 10]
    assert data.batch(0, 12)["x"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
