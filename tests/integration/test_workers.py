import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from fakes.processes import TIMEOUT_S, Watch, opened, warmed_up

from harness.core.artifact import Dataset
from harness.core.errors import BadInput
from harness.core.measurement import FailureReason
from harness.core.scenario import DataSpec, MeasureSpec, PluginRef
from harness.engine import protocol
from harness.engine.datasets import read_dataset, read_predictions, write_dataset
from harness.engine.launcher import Launcher
from harness.engine.measure import launch
from harness.engine.procedure import Procedure
from harness.engine.workers import THREAD_VARIABLES, Seat, Worker, WorkerFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups, pinning and process files as Linux has them")

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SPAWNING = Launcher(fork=False)
SHORT = MeasureSpec.model_validate({"duration": "60 ms", "warm_up": "20 ms", "timeout": "60 s"})


@pytest.fixture
def subject_of(workshop):
    """Makes what a worker opens: a fake model with these options, on twenty samples that are their own classes."""
    labels = np.arange(20, dtype=np.int64) % 10
    data = Dataset({"x": labels.astype(np.float32).reshape(-1, 1)}, labels)
    inputs = workshop.folder / "inputs.npz"
    inputs.parent.mkdir(parents=True)
    write_dataset(inputs, data)

    def make(*, add_latency_us=0.0, batch_size=1, cores=(), **model):
        artifact = workshop.source("fake", data, **({"latency_us": 50.0} | model))
        runtime = PluginRef(name="fake", options={"add_latency_us": add_latency_us})
        return protocol.Subject(artifact, runtime, PluginRef(name="single_stream"), workshop.root, "cpu", 1, cores, batch_size, inputs)

    return make


@pytest.fixture
def seat(tmp_path):
    return Seat("candidate", (), 1, tmp_path / "logs" / "candidate.log")


def test_a_worker_opens_warms_up_takes_slices_and_tells_its_memory(seat, subject_of):
    with Worker(seat) as worker:
        told = opened(worker, subject_of(memory_mib=64))
        assert told.pid == worker.pid != os.getpid()
        assert told.first_call_ns >= 50_000
        warmed = warmed_up(worker, calls=20)
        assert warmed.calls == 20 and warmed.query_ns >= 50_000
        piece = worker.ask(protocol.TakeSlice(30), protocol.SliceTaken, timeout_s=TIMEOUT_S).slice
        assert piece.queries == len(piece.latencies_ns) == 30
        assert min(piece.latencies_ns) >= 50_000
        assert sum(piece.latencies_ns) <= piece.duration_ns
        finished = worker.ask(protocol.Finish(), protocol.Finished, timeout_s=TIMEOUT_S)
        assert finished.peak_rss_bytes - told.idle_rss_bytes >= 64 * 2**20
        assert finished.device_peak_bytes is None
        assert finished.facts.precision == "fake"


def test_predictions_are_for_every_sample_once_when_the_last_batch_is_not_full(seat, subject_of, tmp_path):
    with Worker(seat) as worker:
        opened(worker, subject_of(batch_size=8))
        worker.ask(protocol.Predict(tmp_path / "predictions.npz"), protocol.Done, timeout_s=TIMEOUT_S)
    predictions = read_predictions(tmp_path / "predictions.npz", "classification")
    assert predictions.outputs[0].shape == (20, 10)
    assert (predictions.outputs[0].argmax(axis=1) == predictions.targets).all()
    assert predictions.repeat is not None and 8 <= predictions.repeat.samples <= 20
    assert (predictions.repeat.differing, predictions.repeat.greatest) == (0, 0.0)


def test_a_model_that_answers_by_chance_is_found_out_when_it_is_asked_twice(seat, subject_of, tmp_path):
    with Worker(seat) as worker:
        opened(worker, subject_of(batch_size=20, unsteady_answers=0.5))
        worker.ask(protocol.Predict(tmp_path / "predictions.npz"), protocol.Done, timeout_s=TIMEOUT_S)
    repeat = read_predictions(tmp_path / "predictions.npz", "classification").repeat
    assert repeat is not None and repeat.samples == 20
    assert 5 <= repeat.differing == repeat.other_answers <= 15 and repeat.greatest == 1.0


@pytest.mark.parametrize(
    ("failure", "reason", "said"),
    [
        ("kill", FailureReason.SIGNAL, "the worker was killed by SIGKILL (often the out-of-memory killer: see the kernel's log)"),
        ("exit", FailureReason.EXITED, "the worker ended by itself with exit code 7"),
        ("exception", FailureReason.EXCEPTION, "RuntimeError: this fake model fails as it was told to"),
    ],
)
def test_a_failure_is_named_with_its_stage(seat, subject_of, failure, reason, said):
    with Worker(seat) as worker, pytest.raises(WorkerFailed) as raised:
        opened(worker, subject_of(fail_at=3, failure=failure))  # the first query is the opening's
        warmed_up(worker)
    assert raised.value.failure.reason is reason
    assert raised.value.failure.message == said
    assert raised.value.failure.stage == "candidate, warm up"


def test_an_exception_carries_the_traceback_of_the_model_s_code(seat, subject_of):
    with Worker(seat) as worker, pytest.raises(WorkerFailed) as raised:
        opened(worker, subject_of(fail_at=1))
    assert raised.value.failure.stage == "candidate, open"
    assert "in _fail" in raised.value.failure.detail and "fake.py" in raised.value.failure.detail


def test_a_worker_lives_on_after_an_exception_and_answers_again(seat, subject_of):
    with Worker(seat) as worker:
        opened(worker, subject_of(fail_at=2))
        with pytest.raises(WorkerFailed):
            warmed_up(worker)
        assert warmed_up(worker, calls=5).calls == 5


def test_a_hang_ends_by_the_timeout_and_the_process_with_it(seat, subject_of):
    with Worker(seat) as worker:
        opened(worker, subject_of(fail_at=2, failure="hang"))
        watch = Watch(worker.pid)
        with pytest.raises(WorkerFailed) as raised:
            worker.ask(protocol.WarmUp(0, 10), protocol.WarmedUp, timeout_s=0.5)
        assert watch.sees_the_end(within_s=0)
    assert raised.value.failure.reason is FailureReason.TIMEOUT
    assert raised.value.failure.message == "'candidate, warm up' took longer than 0.5 s and was ended"


def test_not_a_number_is_no_answer(seat, subject_of):
    with Worker(seat) as worker, pytest.raises(WorkerFailed) as raised:
        opened(worker, subject_of(fail_at=1, failure="nan"))
    assert raised.value.failure.reason is FailureReason.BAD_OUTPUT
    assert "output 0 holds NaN or infinity (1 of 10 values in the first call)" in raised.value.failure.message


def test_not_a_number_among_the_predictions_is_told_with_its_samples(seat, subject_of, tmp_path):
    with Worker(seat) as worker:
        opened(worker, subject_of(fail_at=3, failure="nan", batch_size=8))
        with pytest.raises(WorkerFailed) as raised:
            worker.ask(protocol.Predict(tmp_path / "predictions.npz"), protocol.Done, timeout_s=TIMEOUT_S)
    assert raised.value.failure.reason is FailureReason.BAD_OUTPUT
    assert "samples 8 to 15" in raised.value.failure.message
    assert not (tmp_path / "predictions.npz").exists()


def test_a_worker_that_is_already_dead_is_named_when_it_is_told_more(seat, subject_of):
    with Worker(seat) as worker:
        opened(worker, subject_of())
        watch = Watch(worker.pid)
        os.kill(worker.pid, signal.SIGSEGV)
        assert watch.sees_the_end()
        with pytest.raises(WorkerFailed, match="warm up: the worker was killed by SIGSEGV"):
            warmed_up(worker)


def make_data(workshop, factory, into):
    spec = DataSpec(evaluation=f"data.py:{factory}")
    return protocol.MakeData(spec, "evaluation", 0, workshop.root, workshop.root, into)


def test_the_traceback_of_a_data_factory_is_the_user_s_own(seat, workshop, tmp_path):
    with Worker(seat) as worker, pytest.raises(WorkerFailed) as raised:
        worker.ask(make_data(workshop, "that_raises", tmp_path / "set.npz"), protocol.Done, timeout_s=TIMEOUT_S)
    assert raised.value.failure.message == "OSError: the disk is gone"
    assert f'File "{workshop.root / "data.py"}", line' in raised.value.failure.detail
    assert "in that_raises" in raised.value.failure.detail


def test_what_the_user_can_mend_is_bad_input(seat, workshop, tmp_path):
    with Worker(seat) as worker, pytest.raises(BadInput, match=r"data\.evaluation \(data\.py:without_targets\) returned ndarray"):
        worker.ask(make_data(workshop, "without_targets", tmp_path / "set.npz"), protocol.Done, timeout_s=TIMEOUT_S)


def test_what_the_user_s_code_prints_goes_to_the_log_and_disturbs_nothing(seat, workshop, tmp_path, capfd):
    with Worker(seat) as worker:
        worker.ask(make_data(workshop, "labelled", tmp_path / "set.npz"), protocol.Done, timeout_s=TIMEOUT_S)
    assert read_dataset(tmp_path / "set.npz").count == 20
    assert seat.log.read_text() == "reading the data set\n"
    assert capfd.readouterr() == ("", "")


def test_a_step_is_built_in_a_worker_with_the_data_that_it_needs(seat, workshop, tmp_path, subject_of):
    subject = subject_of()
    into = tmp_path / "built"
    into.mkdir()

    def step(data):
        plugin = PluginRef(name="fake", options={"latency_us": 70.0})
        return protocol.BuildStep(plugin, None, {}, data, 0, "cpu", workshop.root, workshop.root, into)

    with Worker(seat) as worker:
        built = worker.ask(step({"evaluation": subject.data}), protocol.Built, timeout_s=TIMEOUT_S)
        assert built.artifact.path.is_file() and '"latency_us":70.0' in built.artifact.steps[0].options
        with pytest.raises(WorkerFailed, match=r"'fake' needs data\.evaluation"):
            worker.ask(step({}), protocol.Built, timeout_s=TIMEOUT_S)


def test_a_worker_ends_by_itself_when_the_parent_hangs_up(seat, subject_of):
    with Worker(seat) as worker:
        opened(worker, subject_of())
        process = worker.process
        assert process.poll() is None
    assert process.returncode == 0


def test_an_error_in_the_parent_leaves_no_worker_behind(seat, subject_of):
    with pytest.raises(KeyboardInterrupt):
        with Worker(seat) as worker:
            worker.tell(protocol.Preload(subject_of()))
            watch = Watch(worker.pid)
            raise KeyboardInterrupt
    assert watch.sees_the_end(within_s=0)


def test_what_a_worker_has_started_ends_with_it(seat, workshop, tmp_path):
    with Worker(seat) as worker:
        worker.ask(make_data(workshop, "with_a_child", tmp_path / "set.npz"), protocol.Done, timeout_s=TIMEOUT_S)
        child = int(read_dataset(tmp_path / "set.npz").inputs["x"][0, 0])
        watch = Watch(child)
    assert watch.sees_the_end()


PARENT = """
import sys
from pathlib import Path
from harness.engine import protocol
from harness.engine.workers import Seat, Worker
with Worker(Seat("candidate", (), 1, Path(sys.argv[1]))) as worker:
    worker.tell(protocol.REQUEST.validate_json(sys.argv[2]))
    worker.answer(protocol.Done, timeout_s=60)
    worker.ask(protocol.Open(), protocol.Opened, timeout_s=60)
    worker.tell(protocol.WarmUp(0, 10))
    print(worker.pid, flush=True)
    sys.stdin.read()
"""


def test_a_worker_that_hangs_ends_with_a_parent_that_is_killed(tmp_path, subject_of):
    preload = protocol.REQUEST.dump_json(protocol.Preload(subject_of(fail_at=2, failure="hang"))).decode()
    command = [sys.executable, "-c", PARENT, str(tmp_path / "worker.log"), preload]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        watch = Watch(int(parent.stdout.readline()))
        parent.kill()
    assert watch.sees_the_end()


def test_pinned_cores_threads_and_padding_are_in_force(tmp_path, subject_of):
    core = CORES[-1]
    with Worker(Seat("candidate", (core,), 3, tmp_path / "candidate.log", padding_bytes=1234)) as worker:
        opened(worker, subject_of())
        process = psutil.Process(worker.pid)
        variables = process.environ()
        assert process.cpu_affinity() == [core]
        assert all(os.sched_getaffinity(thread.id) == {core} for thread in process.threads())
        assert {variables[name] for name in THREAD_VARIABLES} == {"3"}
        assert (variables["PYTHONHASHSEED"], len(variables["HARNESS_PADDING"])) == ("0", 1234)


def test_both_arms_of_a_launch_are_asked_for_the_same_queries(tmp_path, subject_of):
    cores = (CORES[-1],)
    arms = {"baseline": subject_of(cores=cores), "candidate": subject_of(cores=cores, add_latency_us=400.0)}
    runs = launch(arms, 7, Procedure(tmp_path / "logs", SHORT, {}, SPAWNING), seed=1)
    assert set(runs) == {"baseline", "candidate"}
    baseline, candidate = runs["baseline"], runs["candidate"]
    assert [(run.arm, run.pair, run.cores) for run in runs.values()] == [("baseline", 7, cores), ("candidate", 7, cores)]
    assert baseline.pid != candidate.pid
    assert len(baseline.slices) == len(candidate.slices) >= 6
    assert len({piece.queries for run in runs.values() for piece in run.slices}) == 1
    assert all(len(piece.latencies_ns) == piece.queries for run in runs.values() for piece in run.slices)
    assert min(min(piece.latencies_ns) for piece in candidate.slices) >= 450_000
    assert min(run.warm_up_calls for run in runs.values()) >= 3
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"baseline-007.log", "candidate-007.log"}
    starts = sorted((piece.started_ns, piece.started_ns + piece.duration_ns) for run in runs.values() for piece in run.slices)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(starts))  # only one arm runs at a time


def test_a_single_arm_goes_through_the_same_procedure(tmp_path, subject_of):
    runs = launch({"candidate": subject_of()}, 0, Procedure(tmp_path, SHORT, {}, SPAWNING), seed=1)
    assert set(runs) == {"candidate"}
    assert len(runs["candidate"].slices) >= 6


def test_a_launch_in_which_one_arm_dies_is_no_evidence_and_leaves_nothing_running(tmp_path, subject_of):
    arms = {"baseline": subject_of(), "candidate": subject_of(fail_at=300, failure="kill")}
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(WorkerFailed) as raised:
        launch(arms, 0, Procedure(tmp_path, SHORT, {}, SPAWNING), seed=1)
    assert raised.value.failure.stage.startswith("candidate, ")
    assert raised.value.failure.reason is FailureReason.SIGNAL
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


def is_stopped(worker, within_s=30):
    process, end = psutil.Process(worker.pid), time.monotonic() + within_s
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < end:
        pass
    return process.status() == psutil.STATUS_STOPPED


def test_a_worker_rests_until_it_is_asked_and_again_when_it_has_answered(seat, subject_of):
    with Worker(seat) as worker:
        opened(worker, subject_of())
        worker.rest()
        assert is_stopped(worker)
        with worker.awake():
            assert worker.ask(protocol.TakeSlice(5), protocol.SliceTaken, timeout_s=TIMEOUT_S).slice.queries == 5
        assert is_stopped(worker)


def test_a_resting_worker_ends_with_its_block_all_the_same(seat, subject_of):
    with Worker(seat) as worker:
        opened(worker, subject_of())
        worker.rest()
        watch = Watch(worker.pid)
    assert watch.sees_the_end()
