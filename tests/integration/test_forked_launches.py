"""Forked launches against spawned ones: the same answers, facts, memory and failures, and nothing left running."""

import dataclasses
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
from fakes.processes import TIMEOUT_S, Watch, opened, warmed_up

from harness.core.artifact import Dataset
from harness.core.measurement import FailureReason
from harness.core.scenario import DataSpec, MeasureSpec, PluginRef
from harness.engine import protocol
from harness.engine.datasets import read_dataset, read_predictions, write_dataset
from harness.engine.launcher import PAIRS_OF_A_TEMPLATE, Launcher
from harness.engine.measure import launch
from harness.engine.procedure import Procedure
from harness.engine.workers import Seat, Worker, WorkerFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="templates fork on Linux alone")

SHORT = MeasureSpec.model_validate({"duration": "60 ms", "warm_up": "20 ms", "timeout": "60 s"})
CORES = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
THREADS = min(2, len(CORES))
KINDS = ("forked", "spawned")
ARMS = ("baseline", "candidate")

FORKABLE = '''\
import importlib
import sys

from harness.runtimes.fake import FakeRuntime


class Forkable(FakeRuntime):
    """Opens fake models, and has a module to share."""

    module: str = "colorsys"
    leaves: int | str | None = None

    def imports(self, artifact):
        return (self.module,)

    def preload(self, artifact):
        importlib.import_module(self.module)
        if self.leaves is not None:
            sys.exit(self.leaves)


PLUGIN = Forkable
'''
WITH_A_THREAD = """\
import threading

threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
TELLING = """\
import os
import sys

import numpy as np
import threadpoolctl


def threads():
    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return np.array([[min(pools), max(pools), int(os.environ["OMP_NUM_THREADS"])]], dtype=np.float64), None
"""


def kind_of(worker):
    return "spawned" if worker.template_pid is None else "forked"


@pytest.fixture(params=KINDS)
def launcher(request):
    with Launcher(fork=request.param == "forked") as launcher:
        yield launcher


@pytest.fixture
def forking():
    with Launcher() as launcher:
        yield launcher


@pytest.fixture
def seat(tmp_path):
    return Seat("candidate", CORES[-1:], 1, tmp_path / "logs" / "candidate.log")


def start_of(launcher, subject, seat):
    """How an arm is started that has another one beside it: an arm alone is spawned."""
    return launcher.starts(dict.fromkeys(ARMS, subject), dict.fromkeys(ARMS, seat))["candidate"]


@contextmanager
def worker_of(launcher, subject, seat, expected=None):
    """A worker as the launcher starts it, checked to be of the kind that the launcher is for."""
    with Worker(seat, start_of(launcher, subject, seat)) as worker:
        assert kind_of(worker) == (expected or ("forked" if launcher.fork else "spawned"))
        yield worker


@pytest.fixture
def subject_of(workshop):
    """Makes a fake model that may be forked: its runtime shares a small module of the standard library."""
    labels = np.arange(20, dtype=np.int64) % 10
    data = Dataset({"x": labels.astype(np.float32).reshape(-1, 1)}, labels)
    inputs = workshop.folder / "inputs.npz"
    inputs.parent.mkdir(parents=True)
    write_dataset(inputs, data)
    (workshop.root / "forkable.py").write_text(FORKABLE)

    def make(*, runtime=(), **model):
        artifact = workshop.source("fake", data, **({"latency_us": 50.0} | model))
        plugin = PluginRef(name="./forkable.py", options=dict(runtime))
        return protocol.Subject(artifact, plugin, PluginRef(name="single_stream"), workshop.root, "cpu", 1, CORES[-1:], 1, inputs)

    return make


def warmed_up_after_opening(worker, subject):
    opened(worker, subject)
    return warmed_up(worker).calls


def pairs_of(arms, procedure, count):
    return [launch(arms, pair, procedure, seed=1) for pair in range(count)]


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def network_subject(shop, artifact, data, runtime, threads=1):
    inputs = shop.folder / f"inputs-{artifact.sha256[:8]}.npz"
    write_dataset(inputs, data)
    return protocol.Subject(artifact, PluginRef(name=runtime), PluginRef(name="single_stream"), shop.root, "cpu", threads, CORES, 8, inputs)


@dataclasses.dataclass
class Told:
    """What a worker told of one session, from its opening to its end."""

    opened: protocol.Opened
    finished: protocol.Finished
    outputs: tuple

    @property
    def model_bytes(self):
        return self.finished.peak_rss_bytes - self.opened.idle_rss_bytes


@pytest.fixture(scope="module")
def wide(shop, rows):
    """A network of 34 MB, whose products are worth two threads."""
    pytest.importorskip("torch")
    return network_subject(shop, shop.source("factory", rows, target="nets.py:mlp", args={"width": 200_000}), rows, "torch", THREADS)


def told_by_each_kind(subject, folder):
    found = {}
    for kind in KINDS:
        seat = Seat("candidate", subject.cores, subject.threads, folder / f"{kind}.log")
        with Launcher(fork=kind == "forked") as launcher, worker_of(launcher, subject, seat) as worker:
            begun = opened(worker, subject)
            worker.ask(protocol.Predict(folder / f"{kind}.npz"), protocol.Done, timeout_s=TIMEOUT_S)
            finished = worker.ask(protocol.Finish(), protocol.Finished, timeout_s=TIMEOUT_S)
        found[kind] = Told(begun, finished, read_predictions(folder / f"{kind}.npz", "other").outputs)
    return found


@pytest.fixture(scope="module")
def told(wide, tmp_path_factory):
    """The same network opened in a launch of each kind."""
    return told_by_each_kind(wide, tmp_path_factory.mktemp("told"))


def test_both_kinds_answer_the_same_to_the_last_bit(told):
    forked, spawned = (told[kind].outputs for kind in KINDS)
    assert [output.shape for output in forked] == [(40, 10)]
    for mine, theirs in zip(forked, spawned, strict=True):
        assert mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()


def test_both_kinds_tell_the_same_threads_device_and_precision(told):
    forked, spawned = (told[kind].finished.facts for kind in KINDS)
    assert forked == spawned
    assert (forked.threads, forked.device, forked.precision) == (THREADS, "cpu", "float32")


def test_the_memory_before_a_model_is_opened_and_the_model_s_own_are_alike_in_both_kinds(told):
    forked, spawned = (told[kind] for kind in KINDS)
    assert 0.5 < forked.opened.idle_rss_bytes / spawned.opened.idle_rss_bytes < 2
    assert spawned.model_bytes >= 200_000 * (32 + 10) * 4
    assert 0.5 < forked.model_bytes / spawned.model_bytes < 2


@pytest.mark.slow
def test_what_a_model_of_a_library_imports_is_not_counted_as_the_model_s_in_either_kind(shop, minilm, sentences, tmp_path):
    subject = network_subject(shop, minilm, sentences, "torch", THREADS)
    told = told_by_each_kind(subject, tmp_path)
    forked, spawned = (told[kind] for kind in KINDS)
    assert 0.7 < forked.opened.idle_rss_bytes / spawned.opened.idle_rss_bytes < 1.4
    assert 0.7 < forked.model_bytes / spawned.model_bytes < 1.4
    assert all(mine.tobytes() == theirs.tobytes() for mine, theirs in zip(forked.outputs, spawned.outputs, strict=True))


def test_both_arms_of_a_torch_launch_are_forked_from_one_template(forking, wide, tmp_path):
    runs = launch(dict.fromkeys(ARMS, wide), 0, Procedure(tmp_path, SHORT, {}, forking), seed=1)
    (template,) = {run.template_pid for run in runs.values()}
    assert template not in (None, os.getpid())
    assert len({template, *(run.pid for run in runs.values())}) == 3
    assert {run.facts.threads for run in runs.values()} == {THREADS}


def test_a_launch_of_onnx_runtime_is_forked_before_it_is_imported_and_answers_as_a_spawned_one(shop, onnx_mlp, rows, tmp_path):
    pytest.importorskip("onnxruntime")
    subject = network_subject(shop, onnx_mlp, rows, "onnxruntime")
    told = told_by_each_kind(subject, tmp_path)
    forked, spawned = (told[kind] for kind in KINDS)
    assert forked.finished.facts == spawned.finished.facts
    assert all(mine.tobytes() == theirs.tobytes() for mine, theirs in zip(forked.outputs, spawned.outputs, strict=True))
    assert 0.5 < forked.model_bytes / spawned.model_bytes < 2


def test_a_launch_of_a_runtime_that_does_not_say_it_may_be_forked_is_spawned(forking, subject_of, tmp_path, caplog):
    caplog.set_level("INFO")
    subject = dataclasses.replace(subject_of(), runtime=PluginRef(name="fake"))
    runs = launch(dict.fromkeys(ARMS, subject), 0, Procedure(tmp_path, SHORT, {}, forking), seed=1)
    assert [run.template_pid for run in runs.values()] == [None, None]
    assert caplog.messages == ["launches of baseline, candidate are spawned: their runtime does not say that it may be forked"]


def test_an_arm_alone_is_spawned_for_its_launches_are_to_be_independent(forking, subject_of, tmp_path):
    procedure = Procedure(tmp_path, SHORT, {}, forking)
    assert launch({"candidate": subject_of()}, 0, procedure, seed=1)["candidate"].template_pid is None
    apart = launch(dict.fromkeys(ARMS, subject_of()), 1, procedure, seed=1, apart=True)
    assert [run.template_pid for run in apart.values()] == [None, None]


def test_a_template_serves_five_pairs_and_the_next_pair_has_a_new_one(forking, subject_of, tmp_path):
    arms = {"baseline": subject_of(), "candidate": subject_of(latency_us=60.0)}
    made = pairs_of(arms, Procedure(tmp_path, SHORT, {}, forking), PAIRS_OF_A_TEMPLATE + 1)
    templates = [{run.template_pid for run in pair.values()} for pair in made]
    assert all(len(pair) == 1 for pair in templates)
    assert [pair == templates[0] for pair in templates] == [True] * 5 + [False]
    assert len({run.pid for pair in made for run in pair.values()}) == 12
    assert not any(psutil.pid_exists(pid) for pid in templates[0])


def made_data(worker, workshop, factory, into):
    request = protocol.MakeData(DataSpec(evaluation=factory), "evaluation", 0, workshop.root, workshop.root, into)
    worker.ask(request, protocol.Done, timeout_s=TIMEOUT_S)
    return read_dataset(into).inputs["x"]


def test_the_threads_of_blas_are_the_seat_s_in_both_kinds(launcher, seat, subject_of, workshop, tmp_path):
    (workshop.root / "telling.py").write_text(TELLING)
    seat = dataclasses.replace(seat, cores=CORES, threads=THREADS)
    with worker_of(launcher, subject_of(), seat) as worker:
        assert made_data(worker, workshop, "telling.py:threads", tmp_path / "set.npz").tolist() == [[THREADS] * 3]


def test_what_is_printed_goes_to_the_worker_s_own_log_in_both_kinds(launcher, seat, subject_of, workshop, tmp_path, capfd):
    with worker_of(launcher, subject_of(), seat) as worker:
        made_data(worker, workshop, "data.py:labelled", tmp_path / "set.npz")
    assert seat.log.read_text() == "reading the data set\n"
    assert capfd.readouterr() == ("", "")


def test_every_thread_of_a_worker_is_on_the_seat_s_cores_in_both_kinds(launcher, seat, subject_of):
    with worker_of(launcher, subject_of(), seat) as worker:
        opened(worker, subject_of())
        assert {frozenset(os.sched_getaffinity(thread.id)) for thread in psutil.Process(worker.pid).threads()} == {frozenset(CORES[-1:])}


def test_a_template_whose_imports_start_a_thread_refuses_and_its_launches_are_spawned(
    forking, subject_of, seat, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    (tmp_path / "with_a_thread.py").write_text(WITH_A_THREAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    subject = subject_of(runtime={"module": "with_a_thread"})
    for _ in range(2):
        with worker_of(forking, subject, seat, "spawned") as worker:
            assert warmed_up_after_opening(worker, subject) == 10
    assert caplog.messages == ["launches of baseline, candidate are spawned: 2 threads run after the imports"]


def test_a_module_that_cannot_be_imported_is_told_by_the_spawned_launch(forking, subject_of, seat):
    subject = subject_of(runtime={"module": "no_such_module"})
    with worker_of(forking, subject, seat, "spawned") as worker, pytest.raises(WorkerFailed) as raised:
        opened(worker, subject)
    failure = raised.value.failure
    assert (failure.reason, failure.stage) == (FailureReason.EXCEPTION, "candidate, preload")
    assert failure.message == "ModuleNotFoundError: No module named 'no_such_module'"
    assert 'forkable.py", line' in failure.detail


def test_an_interpreter_that_has_no_template_to_run_spawns(forking, subject_of, seat, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *engine.template*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    seat = dataclasses.replace(seat, python=python)
    with worker_of(forking, subject_of(), seat, "spawned") as worker:
        assert warmed_up_after_opening(worker, subject_of()) == 10


@pytest.mark.parametrize(
    ("failure", "reason", "said"),
    [
        ("kill", FailureReason.SIGNAL, "the worker was killed by SIGKILL (often the out-of-memory killer: see the kernel's log)"),
        ("exit", FailureReason.EXITED, "the worker ended by itself with exit code 7"),
        ("exception", FailureReason.EXCEPTION, "RuntimeError: this fake model fails as it was told to"),
        ("hang", FailureReason.TIMEOUT, "'candidate, warm up' took longer than 0.5 s and was ended"),
    ],
)
def test_a_failure_is_named_alike_in_both_kinds(launcher, seat, subject_of, failure, reason, said):
    subject = subject_of(fail_at=2, failure=failure)
    with worker_of(launcher, subject, seat) as worker:
        opened(worker, subject)
        watch = Watch(worker.pid)
        with pytest.raises(WorkerFailed) as raised:
            worker.ask(protocol.WarmUp(0, 10), protocol.WarmedUp, timeout_s=0.5 if failure == "hang" else TIMEOUT_S)
    assert (raised.value.failure.reason, raised.value.failure.message) == (reason, said)
    assert raised.value.failure.stage == "candidate, warm up"
    assert watch.sees_the_end(within_s=0)


@pytest.mark.parametrize(("leaves", "code", "logged"), [(5, 5, ""), (0, 0, ""), ("no licence", 1, "no licence")])
def test_the_exit_of_the_model_s_code_has_its_own_code_and_words_in_both_kinds(launcher, seat, subject_of, leaves, code, logged):
    subject = subject_of(runtime={"leaves": leaves})
    with worker_of(launcher, subject, seat) as worker, pytest.raises(WorkerFailed) as raised:
        opened(worker, subject)
    failure = raised.value.failure
    assert (failure.reason, failure.stage) == (FailureReason.EXITED, "candidate, preload")
    assert (failure.message, failure.detail) == (f"the worker ended by itself with exit code {code}", logged)


def test_a_worker_ends_by_itself_with_code_zero_when_the_parent_hangs_up_in_both_kinds(launcher, seat, subject_of):
    with worker_of(launcher, subject_of(), seat) as worker:
        opened(worker, subject_of())
    assert worker.process.wait() == 0


def test_what_a_worker_has_started_ends_with_it_in_both_kinds(launcher, seat, subject_of, workshop, tmp_path):
    with worker_of(launcher, subject_of(), seat) as worker:
        watch = Watch(int(made_data(worker, workshop, "data.py:with_a_child", tmp_path / "set.npz")[0, 0]))
    assert watch.sees_the_end()


def test_a_launch_that_failed_leaves_its_template_to_the_next(forking, subject_of, tmp_path):
    dying = subject_of(fail_at=300, failure="kill")
    arms = {"baseline": subject_of(), "candidate": dying}
    procedure = Procedure(tmp_path, SHORT, {}, forking)
    before = children()
    for pair in range(2):
        with pytest.raises(WorkerFailed, match=r"candidate, .* killed by SIGKILL"):
            launch(arms, pair, procedure, seed=1)
        assert len(children() - before) == 1  # the same template, and none of its workers


def killed(pid):
    watch = Watch(pid)
    os.kill(pid, signal.SIGKILL)
    assert watch.sees_the_end()


def test_after_a_template_was_killed_the_next_launch_has_a_new_one(forking, subject_of, tmp_path):
    arms, procedure = dict.fromkeys(ARMS, subject_of()), Procedure(tmp_path, SHORT, {}, forking)
    first = launch(arms, 0, procedure, seed=1)["candidate"].template_pid
    killed(first)
    second = launch(arms, 1, procedure, seed=1)["candidate"].template_pid
    assert second not in (None, first)


def test_a_template_that_is_killed_before_it_forks_leaves_the_launch_to_a_spawn(forking, subject_of, seat, caplog):
    subject = subject_of()
    start = start_of(forking, subject, seat)
    killed(start.process.pid)
    with Worker(seat, start) as worker:
        assert worker.template_pid is None
        assert warmed_up_after_opening(worker, subject) == 10
    assert [message.partition(" (")[0] for message in caplog.messages] == ["a launch is spawned: its template has gone"]


def test_a_template_that_is_killed_takes_its_worker_along_and_that_is_named(forking, subject_of, seat):
    subject = subject_of(fail_at=2, failure="hang")
    with worker_of(forking, subject, seat) as worker:
        opened(worker, subject)
        worker.tell(protocol.WarmUp(0, 10))
        killed(worker.template_pid)
        with pytest.raises(WorkerFailed, match="warm up: the worker was killed by SIGKILL"):
            worker.answer(protocol.WarmedUp, timeout_s=TIMEOUT_S)


def test_no_process_is_left_when_the_launcher_s_block_ends(subject_of, tmp_path):
    before = children()
    with Launcher() as launcher:
        launch(dict.fromkeys(ARMS, subject_of()), 0, Procedure(tmp_path, SHORT, {}, launcher), seed=1)
        launch(dict.fromkeys(ARMS, subject_of(latency_us=60.0)), 0, Procedure(tmp_path, SHORT, {}, launcher), seed=1)
        assert len(children() - before) == 2
    assert children() == before


PARENT = """
import signal
import sys
from pathlib import Path
from harness.engine import protocol
from harness.engine.launcher import Launcher
from harness.engine.workers import Seat, Worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be inherited as ignored
preload = protocol.REQUEST.validate_json(sys.argv[2])
seat = Seat("candidate", (), 1, Path(sys.argv[1]))
arms = ("baseline", "candidate")
with Launcher() as launcher, Worker(
    seat, launcher.starts(dict.fromkeys(arms, preload.subject), dict.fromkeys(arms, seat))["candidate"]
) as worker:
    worker.ask(preload, protocol.Done, timeout_s=60)
    worker.ask(protocol.Open(), protocol.Opened, timeout_s=60)
    worker.tell(protocol.WarmUp(0, 10))
    print(worker.pid, worker.template_pid, flush=True)
    worker.answer(protocol.WarmedUp, timeout_s=60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_hanging_worker_and_its_template_end_with_a_parent_that_is_killed_or_stopped_by_ctrl_c(tmp_path, subject_of, number):
    preload = protocol.REQUEST.dump_json(protocol.Preload(subject_of(fail_at=2, failure="hang"))).decode()
    command = [sys.executable, "-c", PARENT, str(tmp_path / "worker.log"), preload]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        watches = [Watch(int(pid)) for pid in parent.stdout.readline().split()]
        os.killpg(parent.pid, number)
        _, told = parent.communicate(timeout=TIMEOUT_S)
    assert len(watches) == 2 and all(watch.sees_the_end() for watch in watches)
    assert parent.returncode == -number
    assert told.rstrip().rpartition("\n")[2] == ("KeyboardInterrupt" if number == signal.SIGINT else "")


class InterruptedOnce:
    """A socket on which Ctrl-C comes between a request and its reply, once."""

    def __init__(self, socket):
        self.socket = socket
        self.interrupts = 1

    def __getattr__(self, name):
        return getattr(self.socket, name)

    def recv(self, size):
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return self.socket.recv(size)


def test_ctrl_c_in_the_middle_of_a_fork_is_ctrl_c_and_leaves_nothing(subject_of, seat, tmp_path):
    before = children()
    subject = subject_of()
    seats = {arm: dataclasses.replace(seat, role=arm, log=tmp_path / f"{arm}.log") for arm in ARMS}
    with pytest.raises(KeyboardInterrupt):
        with Launcher() as launcher:
            start = launcher.starts(dict.fromkeys(ARMS, subject), seats)["baseline"]
            with Worker(seats["baseline"], start) as worker:
                opened(worker, subject)
                start.socket = InterruptedOnce(start.socket)
                with Worker(seats["candidate"], start):
                    pytest.fail("it was started")
    assert start.socket.interrupts == 0
    assert children() == before


def test_ctrl_c_while_a_worker_s_end_is_waited_for_does_not_lose_its_code(forking, subject_of, seat):
    with worker_of(forking, subject_of(fail_at=2, failure="exit"), seat) as worker:
        opened(worker, subject_of(fail_at=2, failure="exit"))
        worker.tell(protocol.WarmUp(0, 10))
        template = worker.process.template
        template.socket = InterruptedOnce(template.socket)
        with pytest.raises(KeyboardInterrupt):
            worker.process.wait()
        assert worker.process.wait() == 7


ENDLESS = """\
import signal
from pathlib import Path

Path(__file__).with_name("fifo").write_text("here")
signal.pause()
"""


def test_ctrl_c_while_a_template_imports_leaves_nothing(subject_of, tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text(ENDLESS)
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    preload = protocol.REQUEST.dump_json(protocol.Preload(subject_of(runtime={"module": "endless"}))).decode()
    command = [sys.executable, "-c", PARENT, str(tmp_path / "worker.log"), preload]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert (tmp_path / "fifo").read_text() == "here"
        (template,) = psutil.Process(parent.pid).children()
        watch = Watch(template.pid)
        parent.send_signal(signal.SIGINT)
        _, told = parent.communicate(timeout=TIMEOUT_S)
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert watch.sees_the_end()
