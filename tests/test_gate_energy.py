"""A gate on energy as a user meets it: the same speed for more joules is red, and the same model beside itself is green."""

import fcntl
import json
import re
import threading
from contextlib import contextmanager

import pytest
from fakes.workplaces import SCENARIO, TRIAL, workplace

ENERGY = """\
gate: {latency_p50: 30 %, energy_per_inference: 5 %, latency_p90: off, latency_p99: off, throughput: off, peak_memory: off}
"""
METERED = '''\
"""Runs fake models, and adds what a query takes to the energy counter of the machine."""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from harness.core.plugin import Options
from harness.runtimes.fake import FakeRuntime


class Session:
    def __init__(self, inner, microjoules):
        self.facts, self.prepare, self.outputs = inner.facts, inner.prepare, inner.outputs
        self._run, self._microjoules = inner.run, microjoules
        self._counter = os.open(Path(os.environ["HARNESS_POWERCAP"]) / "intel-rapl:0/energy_uj", os.O_RDWR)

    def run(self, prepared):
        answer = self._run(prepared)
        fcntl.flock(self._counter, fcntl.LOCK_EX)
        os.pwrite(self._counter, b"%020d" % (int(os.pread(self._counter, 20, 0)) + self._microjoules), 0)
        fcntl.flock(self._counter, fcntl.LOCK_UN)
        return answer


class Metered(Options):
    """A CPU whose energy is known: so many microjoules a query."""

    accepts: ClassVar[tuple[str, ...]] = ("fake",)
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    microjoules: int

    def preload(self, artifact):
        pass

    @contextmanager
    def open(self, artifact, device):
        with FakeRuntime().open(artifact, device) as inner:
            yield Session(inner, self.microjoules)


PLUGIN = Metered
'''


@contextmanager
def ticking(counter):
    """The power that a machine takes when it is idle, 0.2 W: so its counter moves before anything runs."""
    done = threading.Event()

    def tick():
        with counter.open("r+b", buffering=0) as file:
            while not done.wait(0.002):
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                moved = int(file.read(20)) + 400
                file.seek(0)
                file.write(b"%020d" % moved)
                fcntl.flock(file, fcntl.LOCK_UN)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A folder as the kernel's powercap: one package, whose counter moves."""
    zone = tmp_path_factory.mktemp("powercap") / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text("0" * 20 + "\n")
    with ticking(zone / "energy_uj"):
        yield {"HARNESS_POWERCAP": str(zone.parent)}


@pytest.fixture(scope="module")
def place(tmp_path_factory, machine):
    """A repository whose baseline, of 30 mJ a query, is committed."""
    folder = tmp_path_factory.mktemp("energy")
    recipes = "recipes:\n  base: {runtime: {./metered.py: {microjoules: 30000}}}\n"
    scenario = SCENARIO.replace("recipes:\n  base: {runtime: fake}\n", recipes)
    scenario = re.sub(r"gate: .*\n", ENERGY, scenario)
    made = workplace(folder / "repository", folder / "cache", scenario)
    made.write("scenarios/metered.py", METERED)
    made.commit("a metered runtime")
    ended = made.harness("gate", "scenarios", "--new-baselines", "accept", env=machine)
    assert ended.code == 0, ended.out
    made.commit("a first baseline")
    return made


def energy_in(place):
    comparisons = json.loads((place.latest / "summary.json").read_text())["comparisons"]
    return {item["metric"]: item for item in comparisons if item["trial"] == TRIAL}


@pytest.mark.slow
def test_a_fifth_more_energy_at_the_same_latency_is_red_and_names_the_energy(place, machine):
    place.replace("scenarios/tiny.yaml", "microjoules: 30000", "microjoules: 36000")
    ended = place.harness("gate", "scenarios", "--budget", "20 s", env=machine)
    place.git("checkout", "--quiet", "scenarios/tiny.yaml")
    assert ended.code == 1, ended
    assert re.search(rf"energy_per_inference of {TRIAL} went from 3\d\.\d mJ to 3\d\.\d mJ: ×1\.(19|20)\d", ended.out), ended.out
    found = energy_in(place)
    assert found["energy_per_inference"]["verdict"] == "REGRESSED"
    assert found["latency_p50"]["verdict"] not in ("REGRESSED", "INVALID")
    assert ended.told.startswith("REGRESSED: 1 metric regressed")


@pytest.mark.slow
def test_the_same_model_beside_itself_takes_the_same_energy_and_is_green(place, machine):
    ended = place.harness("gate", "scenarios", "--all", "--budget", "5 s", env=machine)
    assert ended.code == 0, ended
    assert energy_in(place)["energy_per_inference"]["verdict"] == "PASS"
