"""What goes wrong around a run: each way ends with one clear message and the right exit code, and nothing that was measured is lost."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from fakes.workplaces import LONGEST_S, SCENARIO, TRIAL, Ended, accepted, is_gone, same_for_all, until, workers_of, workplace

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="signals and process groups as Linux has them")

BREAKING = '''\
import os
import signal
from contextlib import contextmanager
from typing import ClassVar

import numpy as np

from harness.core.measurement import SessionFacts
from harness.core.plugin import Options

PREDICTIONS = 410


class Breaking(Options):
    """Answers until it is measured, then fails in its own way."""

    accepts: ClassVar = ("fake",)
    devices: ClassVar = ("cpu",)
    how: str

    def preload(self, artifact):
        pass

    @contextmanager
    def open(self, artifact, device):
        yield Session(self.how)


class Session:
    def __init__(self, how):
        self.how = how
        self.calls = 0
        self.facts = SessionFacts("cpu", "none", 1, ())

    def prepare(self, batch):
        return next(iter(batch.values()))

    def run(self, prepared):
        self.calls += 1
        return layer(self.how, prepared) if self.calls > PREDICTIONS else prepared

    def outputs(self, raw):
        return (np.asarray(raw, dtype=np.float32),)


def layer(how, values):
    if how == "raises":
        raise ValueError("the weights do not fit")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exits":
        print("last words")
        os._exit(7)
    if how == "hangs":
        signal.pause()
    return values * np.nan


PLUGIN = Breaking
'''


@pytest.fixture
def place(tmp_path, tmp_path_factory):
    """A repository with a scenario and no baseline."""
    return workplace(tmp_path / "repository", tmp_path_factory.getbasetemp() / "failures-cache")


@pytest.fixture
def small_disk(tmp_path):
    """Makes file systems of a few kB, where this user may mount one."""
    folder = tmp_path / "disk"

    def mount(options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False).returncode == 0

    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    folder.mkdir()
    if not mount("size=40k"):
        pytest.skip("no file system can be mounted here")
    try:
        yield folder, lambda: mount("remount,size=16m")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
def test_a_trial_that_fails_is_named_and_every_other_one_is_measured(place):
    ways = ("raises", "killed", "exits", "hangs", "nan")
    place.write("scenarios/breaking.py", BREAKING)
    recipes = "".join(f"  {way}: {{runtime: {{./breaking.py: {{how: {way}}}}}}}\n" for way in ways)
    place.replace("scenarios/tiny.yaml", "recipes:\n", f"recipes:\n{recipes}")
    place.replace("scenarios/tiny.yaml", "launches: 2", "launches: 2, timeout: 2 s")
    ended = place.harness("run", "scenarios")
    assert ended.code == 3
    first, findings, table, *_ = ended.told.split("\n\n")
    assert first == "INVALID: 5 trials could not be decided"
    line = next(number for number, text in enumerate(BREAKING.splitlines(), 1) if "raise ValueError" in text)
    told = (
        rf"candidate, STAGE: ValueError: the weights do not fit \(scenarios/breaking\.py:{line}\)",
        r"candidate, STAGE: the worker was killed by SIGKILL \(often the out-of-memory killer: see the kernel's log\)",
        r"candidate, STAGE: the worker ended by itself with exit code 7",
        r"'candidate, STAGE' took longer than 2\.?\d* s and was ended; 'measure\.timeout' allows more",
        r"candidate, finish: output 0 holds NaN or infinity \(1 of 1 values in the call after the last slice\): .*",
    )
    for way, finding, reason in zip(ways, findings.splitlines(), told, strict=True):
        assert re.fullmatch(rf"tiny/{way}-cpu-b1 FAILED: {reason.replace('STAGE', '(warm up|slice)')}", finding), finding
    assert re.search(rf"^{TRIAL} +MEASURED +3\d\d µs", table, flags=re.MULTILINE)
    assert [event["trial"] for event in place.launches()] == [TRIAL] * 2

    report = (place.latest / "report.html").read_text()
    assert "in layer" in report and "raise ValueError(&#34;the weights do not fit&#34;)" in report
    assert "last words" in report


def test_a_data_factory_that_raises_is_told_with_its_place_and_reported_with_its_traceback(place):
    place.write("scenarios/data.py", "def test_set():\n    return read()\n\n\ndef read():\n    raise OSError('the share is not mounted')\n")
    ended = place.harness("run", "scenarios")
    assert ended.code == 3
    assert f"{TRIAL} FAILED: build, data.evaluation: OSError: the share is not mounted (scenarios/data.py:6)\n" in ended.told
    for report in ("report.html", "report.md"):
        text = (place.latest / report).read_text()
        assert "in test_set" in text and "in read" in text


@on_linux
@pytest.mark.slow
def test_a_candidate_that_dies_in_the_middle_of_a_gate_is_not_decided_and_not_called_slower(tmp_path, tmp_path_factory):
    place = accepted(tmp_path_factory.getbasetemp(), tmp_path / "repository")
    ended = place.harness("gate", "scenarios", "--set", "model.fake.fail_at=410", "--set", "model.fake.failure=kill", "--json")
    assert ended.code == 3
    (trial,) = ended.summary["trials"]
    assert (trial["state"], trial["verdict"]) == ("FAILED", "INVALID")
    assert re.match(r"candidate, (warm up|slice): the worker was killed by SIGKILL", trial["reason"])
    assert ended.summary["comparisons"] == []


MORE = ("--set", "measure.launches=4")


def interrupted(place, number, *arguments, reports="reports"):
    """A command that got a signal in the middle of its third launch or a later one: what it left, and the launches in its journal."""
    workers = []
    with place.begun(*arguments) as process:
        until(lambda: len(place.launches(reports)) >= 2)
        until(lambda: workers.extend(workers_of(process)) or workers)
        process.send_signal(number)
        out, err = process.communicate(timeout=LONGEST_S)
    until(lambda: all(map(is_gone, workers)), within_s=20)
    launches = place.launches(reports)
    assert 2 <= len(launches) < 4
    return Ended(process.returncode, out, err), launches


def go_on(place, told):
    """Run the very command that a message told."""
    command = re.search(r"go on with it: (harness .+)$", told, flags=re.MULTILINE)[1]
    return place.harness(*shlex.split(command)[1:])


@on_linux
@pytest.mark.slow
def test_ctrl_c_leaves_no_worker_and_the_run_goes_on_with_what_is_missing(place):
    ended, before = interrupted(place, signal.SIGINT, "run", "scenarios", *MORE)
    assert (ended.code, ended.out) == (130, "")
    assert same_for_all(ended.err).endswith(
        "\nerror: stopped; what was measured is kept in reports/RUN\n  go on with it: harness run --resume RUN\n"
    )
    assert "Traceback" not in ended.err
    resumed = go_on(place, ended.err)
    assert resumed.code == 0
    assert "note: measured with --set measure.launches=4\n" in resumed.told
    after = place.launches()
    assert after[: len(before)] == before and len(after) == 4
    assert [event["run"]["pair"] for event in after] == [0, 1, 2, 3]
    assert len(place.runs) == 1


@on_linux
@pytest.mark.slow
def test_a_gate_that_is_terminated_goes_on_with_its_options_wherever_its_reports_are(place):
    options = ("--reports", "out", "--new-baselines", "accept", *MORE)
    ended, before = interrupted(place, signal.SIGTERM, "-v", "gate", "scenarios", *options, reports="out")
    assert (ended.code, ended.out) == (130, "")
    hint = "  go on with it: harness gate --resume out/RUN\n"
    assert same_for_all(ended.err).endswith(f"\nerror: stopped; what was measured is kept in out/RUN\n{hint}")
    assert not (place.root / "baselines").exists()

    unfinished = place.harness("report", "--reports", "out")
    assert (unfinished.code, unfinished.out) == (3, "")
    assert same_for_all(unfinished.err) == f"error: run RUN has no result: it did not finish\n{hint}"
    other = place.harness("run", "--resume", "latest", "--reports", "out")
    assert (other.code, other.out) == (2, "")
    assert same_for_all(other.err) == f"error: run RUN was begun by 'harness gate'\n{hint}"

    resumed = go_on(place, ended.err)
    assert resumed.code == 0
    assert "\nwrote the first baselines of 1 trial under baselines/: commit them\n\nreport: out/RUN/report.html\n" in resumed.told
    assert place.launches("out")[: len(before)] == before and len(place.launches("out")) == 4
    assert len(place.baseline()["measured"]) == 1


@on_linux
@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_and_can_be_gone_on_with(place):
    ended, before = interrupted(place, signal.SIGKILL, "run", "scenarios", *MORE)
    assert ended.code == -signal.SIGKILL
    with (place.latest / "launches.jsonl").open("a") as journal:
        journal.write('{"trial":"tiny/base-cpu-b1","content":"')  # as if it had been killed in the middle of a line
    told = place.harness("report")
    assert told.code == 3
    resumed = go_on(place, told.err)
    assert resumed.code == 0
    events = [json.loads(line) for line in (place.latest / "launches.jsonl").read_text().splitlines() if line.endswith("}")]
    after = [event for event in events if event["kind"] == "launch"]
    assert after[: len(before)] == before and len(after) == 4


def test_a_full_disk_under_the_artifact_cache_is_named_with_the_way_out(place, small_disk):
    place.cache, _ = small_disk
    ended = place.harness("run", "scenarios", "--set", "model.fake.size_bytes=500000")
    assert ended.code == 3
    assert (
        f"{TRIAL} FAILED: build, fake: the disk of the artifact cache {place.cache} is full "
        "(OSError: [Errno 28] No space left on device): free some space, or point HARNESS_CACHE_DIR elsewhere\n"
    ) in ended.told
    assert "Traceback" not in ended.err


def test_a_full_disk_under_the_reports_loses_no_launch(place, small_disk):
    folder, enlarge = small_disk
    ended = place.harness("run", "scenarios", "--reports", str(folder))
    assert (ended.code, ended.out) == (3, "")
    assert re.search(
        rf"^error: {folder}/RUN/\S+ cannot be written: No space left on device\n  the disk is full: free some space, or point "
        rf"HARNESS_CACHE_DIR and --reports elsewhere, then go on with it: harness run --resume {folder}/RUN$",
        same_for_all(ended.err),
        flags=re.MULTILINE,
    )
    assert "Traceback" not in ended.err
    before = place.launches(folder)
    assert len(before) == 2
    enlarge()
    resumed = go_on(place, ended.err)
    assert resumed.code == 0
    assert place.launches(folder) == before
    assert (folder / "latest" / "report.html").is_file()


def test_two_gates_at_once_share_one_cache_and_both_end_well(place, tmp_path):
    place.cache = tmp_path / "cache"
    command = ("gate", "scenarios", "--new-baselines", "accept")
    with place.begun(*command) as one, place.begun(*command) as other:
        for process in (one, other):
            _, err = process.communicate(timeout=LONGEST_S)
            assert process.returncode == 0, err
    assert len(place.runs) == 2
    assert place.harness("baseline", "list").out.startswith(f"{TRIAL}  ")
    assert list((place.cache / "scratch").glob("*")) == []


HIDE = """\
import importlib.util

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find_spec(name, package)
"""


def test_a_package_that_is_not_installed_is_told_with_the_line_that_installs_it(place):
    place.write("scenarios/net.py", "def build():\n    return None\n")
    place.write("scenarios/tiny.yaml", SCENARIO.replace("fake: {latency_us: 300}", "factory: net.py:build").replace("fake}", "torch}"))
    hiding = place.write("hiding/sitecustomize.py", HIDE)
    ended = place.harness("run", "scenarios", env={"PYTHONPATH": str(hiding.parent)})
    assert ended.code == 3
    assert (
        f"{TRIAL} FAILED: build, factory: 'factory' needs the package 'torch', which is not installed; "
        "install it with: pip install 'harness[torch]'\n"
    ) in ended.told


def test_bad_yaml_is_told_with_file_and_line_before_anything_is_done(place):
    place.write("scenarios/tiny.yaml", SCENARIO.replace("recipes:", "recipes: ["))
    ended = place.harness("gate", "scenarios")
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"error: scenarios/tiny\.yaml:\d+: is not valid YAML: .+\n", ended.err)
    assert not (place.root / "reports").exists()


BUG = "import harness.pipeline as p; p.make_plan = lambda *a, **k: {}['a bug']; from harness.cli import main; main()"


def test_a_bug_in_harness_is_told_apart_from_everything_else(place):
    ended = place.harness("run", "scenarios", program=("-c", BUG))
    assert (ended.code, ended.out) == (70, "")
    assert "Traceback (most recent call last):\n" in ended.err and "KeyError: 'a bug'\n" in ended.err
    assert ended.err.endswith("this is a bug in harness: please report it with the traceback above\n")


@pytest.mark.parametrize("stdout", ["closed", "full"])
def test_a_red_gate_stays_red_when_nobody_can_read_it(tmp_path, tmp_path_factory, stdout):
    place = accepted(tmp_path_factory.getbasetemp(), tmp_path / "repository")
    reader, writer = os.pipe()
    os.close(reader)
    if stdout == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    try:
        process = place.begin("gate", "scenarios", "--set", "sla.latency_p50=at most 1 us", stdout=writer)
    finally:
        os.close(writer)
    _, err = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert ("stdout cannot be written: No space left on device\n" in err) == (stdout == "full")
    assert (place.latest / "report.html").is_file()
