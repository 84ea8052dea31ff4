from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core.measurement import Failure, FailureReason, SessionFacts
from harness.core.scenario import MeasureSpec
from harness.engine import measure, protocol
from harness.engine.launcher import Launcher
from harness.engine.measure import MIN_SLICES, SLICE_NS, WARM_UP_CALLS, is_steady, launch, slices_of
from harness.engine.procedure import Procedure
from harness.engine.workers import WorkerFailed, spawn

MS = 1_000_000
S = 1_000 * MS
TIMES = MeasureSpec.model_validate({"duration": "1 s", "warm_up": "1 s"})


@pytest.mark.parametrize(
    ("query_ns", "duration_ns", "expected"),
    [
        (1 * MS, 1 * S, (30, 33)),
        (7 * MS, 1 * S, (5, 29)),
        (29 * MS, 1 * S, (2, 17)),
        (30 * MS, 1 * S, (1, 33)),
        (45 * MS, 1 * S, (1, 22)),
        (100 * MS, 1 * S, (1, 20)),
        (200 * MS, 1 * S, (1, 20)),
        (500 * MS, 1 * S, (1, 10)),
        (5 * S, 1 * S, (1, MIN_SLICES)),
        (100, 1 * S, (300_000, 33)),
        (1 * MS, 10 * MS, (30, MIN_SLICES)),
    ],
)
def test_a_slice_is_thirty_milliseconds_or_one_query_and_a_launch_has_what_a_median_takes_where_that_is_not_too_long(
    query_ns, duration_ns, expected
):
    assert slices_of(query_ns, duration_ns) == expected


def test_a_query_that_takes_no_time_still_gives_a_finite_number_of_queries():
    assert slices_of(0, S) == (SLICE_NS, 33)


@pytest.mark.parametrize(
    ("times", "steady"),
    [
        ([100] * 6, True),
        ([100, 100, 100, 105, 105, 105], True),
        ([100, 100, 100, 120, 120, 120], False),
        ([120, 120, 120, 100, 100, 100], False),
        ([100, 900, 100, 100, 100, 100], True),
        ([100, 100, 100, 100, 900, 100], True),
        ([100, 110, 120, 130, 140, 150, 160], False),
    ],
)
def test_a_launch_is_steady_when_its_halves_agree_whatever_a_single_burst_did(runs, times, steady):
    assert is_steady(tuple(runs.untimed(10, 10 * time) for time in times)) is steady


def test_steadiness_is_of_a_query_and_not_of_a_slice(runs):
    assert is_steady((runs.untimed(10, 1000), runs.untimed(20, 2000), runs.untimed(40, 4000), runs.untimed(80, 8000)))


class FakeWorker:
    """A worker that answers what the test says; ``asked`` and ``everyone`` are shared by all workers of a launch, in order."""

    def __init__(self, seat, start, asked, everyone, query_ns, fails):
        self.seat, self.start, self.asked, self.everyone, self.query_ns, self.fails = seat, start, asked, everyone, query_ns, fails
        self.gone, self.rests = False, False
        self.template_pid = None if start is spawn else 99

    def rest(self):
        self.rests = True

    @contextmanager
    def awake(self):
        self.rests = False
        yield self
        self.rests = True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.gone = True

    def tell(self, request):
        self.asked.append((self.seat.role, request))
        if not isinstance(request, protocol.Preload):
            assert [other.seat.role for other in self.everyone if not other.rests] == [self.seat.role], "the other arm rests"

    def answer(self, kind, *, timeout_s):
        role, request = next((role, request) for role, request in reversed(self.asked) if role == self.seat.role)
        if self.fails == (role, request.kind):
            raise WorkerFailed(Failure(FailureReason.TIMEOUT, f"{role}, {request.kind}", "no answer"))
        if isinstance(request, protocol.Open):
            return protocol.Opened(4242, 300 * MS, 14 * MS, 2**20)
        if isinstance(request, protocol.WarmUp):
            return protocol.WarmedUp(17, self.query_ns[role])
        if isinstance(request, protocol.TakeSlice):
            number = sum(isinstance(other, protocol.TakeSlice) and whose == role for whose, other in self.asked)
            return protocol.SliceTaken(slice_of(number, request.queries, self.query_ns[role]))
        if isinstance(request, protocol.Finish):
            return protocol.Finished(SessionFacts("cpu", "fp32", 1), 2**21, None)
        return protocol.Done()

    def ask(self, request, kind, *, timeout_s):
        self.tell(request)
        found = self.answer(kind, timeout_s=timeout_s)
        assert isinstance(found, kind)
        return found


def slice_of(number, queries, query_ns):
    return measure.Slice(number, queries * query_ns, queries, (query_ns,) * queries)


class Bench:
    def __init__(self, monkeypatch, runs):
        self.runs = runs
        self.asked, self.workers = [], []
        self.query_ns = {"baseline": 10 * MS, "candidate": 5 * MS}
        self.fails = None
        self.launcher = Launcher(fork=False)
        monkeypatch.setattr(measure, "Worker", self.worker)

    def worker(self, seat, start):
        self.workers.append(FakeWorker(seat, start, self.asked, self.workers, self.query_ns, self.fails))
        return self.workers[-1]

    def launch(self, *arms, pair=0, seed=0):
        procedure = Procedure(Path("logs"), TIMES, {"baseline": Path("/old/python")}, self.launcher)
        return launch({arm: self.runs.subject() for arm in arms or ("baseline", "candidate")}, pair, procedure, seed)

    def order(self, kind):
        return [role for role, request in self.asked if isinstance(request, kind)]


@pytest.fixture
def bench(monkeypatch, runs):
    return Bench(monkeypatch, runs)


def test_both_arms_take_slices_of_as_many_queries_as_the_baseline_needs_for_thirty_milliseconds(bench):
    made = bench.launch()
    assert {len(run.slices) for run in made.values()} == {33}
    assert {piece.queries for run in made.values() for piece in run.slices} == {3}
    assert {request.queries for _, request in bench.asked if isinstance(request, protocol.TakeSlice)} == {3}


def test_a_single_arm_is_calibrated_on_itself(bench):
    made = bench.launch("candidate")
    assert made.keys() == {"candidate"}
    assert {piece.queries for piece in made["candidate"].slices} == {6}


def test_the_arms_take_turns_slice_by_slice_in_random_order(bench):
    bench.launch()
    order = bench.order(protocol.TakeSlice)
    rounds = [tuple(order[start : start + 2]) for start in range(0, len(order), 2)]
    assert set(rounds) == {("baseline", "candidate"), ("candidate", "baseline")}
    assert 8 <= rounds.count(("baseline", "candidate")) <= 25


def test_the_order_repeats_with_seed_and_pair_and_differs_from_pair_to_pair(bench):
    orders = []
    for pair, seed in ((0, 0), (0, 0), (1, 0), (0, 1)):
        bench.asked.clear()
        bench.launch(pair=pair, seed=seed)
        orders.append(bench.order(protocol.TakeSlice))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]


def test_the_arms_are_started_and_opened_in_every_order_equally_often(bench):
    started, opened = [], []
    for pair in range(8):
        bench.asked.clear()
        bench.launch(pair=pair, seed=pair)
        started.append(bench.order(protocol.Preload)[0])
        opened.append(bench.order(protocol.Open)[0])
        assert bench.order(protocol.WarmUp) == bench.order(protocol.Open)
    assert started == ["baseline", "candidate"] * 4
    assert opened == ["baseline", "baseline", "candidate", "candidate"] * 2


class ForkingLauncher:
    """Says of each arm that it is to be forked, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def starts(self, arms, seats):
        self.asked.append((arms, seats))
        return {arm: f"fork {arm}" for arm in arms}


def test_the_launcher_is_asked_once_a_pair_and_each_worker_is_started_as_it_says(bench):
    bench.launcher = ForkingLauncher()
    made = bench.launch()
    ((arms, seats),) = bench.launcher.asked
    assert arms.keys() == seats.keys() == made.keys()
    assert [(worker.seat, worker.start) for worker in bench.workers] == [(seats[arm], f"fork {arm}") for arm in ("baseline", "candidate")]
    assert {run.template_pid for run in made.values()} == {99}


def test_both_workers_share_their_cores_and_the_size_of_their_environment_which_differs_from_pair_to_pair(bench):
    for pair in range(4):
        bench.launch(pair=pair)
    seats = [worker.seat for worker in bench.workers]
    for first, second in zip(seats[::2], seats[1::2], strict=True):
        assert (first.cores, first.threads, first.padding_bytes) == (second.cores, second.threads, second.padding_bytes)
    assert len({seat.padding_bytes for seat in seats}) == 4


def test_only_the_arm_with_another_interpreter_gets_it(bench):
    bench.launch()
    assert {worker.seat.role: str(worker.seat.python) for worker in bench.workers}["baseline"] == "/old/python"
    assert {worker.seat.role: worker.seat.python for worker in bench.workers}["candidate"] == measure.THIS_PYTHON


def test_everything_is_imported_before_anything_is_opened_and_warm_before_anything_is_timed(bench):
    bench.launch()
    kinds = [request.kind for _, request in bench.asked]
    assert kinds[:6] == ["preload"] * 2 + ["open"] * 2 + ["warm up"] * 2
    assert set(kinds[6:-2]) == {"slice"}
    assert kinds[-2:] == ["finish"] * 2


def test_both_arms_are_warmed_up_in_the_same_way(bench):
    bench.launch()
    assert {request for _, request in bench.asked if isinstance(request, protocol.WarmUp)} == {protocol.WarmUp(1 * S, WARM_UP_CALLS)}


def test_a_run_holds_what_its_worker_said(bench):
    run = bench.launch(pair=7)["candidate"]
    assert (run.pair, run.arm, run.pid, run.cores, run.warm_up_calls) == (7, "candidate", 4242, (0,), 17)
    assert (run.load_ns, run.first_call_ns, run.idle_rss_bytes, run.peak_rss_bytes) == (300 * MS, 14 * MS, 2**20, 2**21)
    assert run.steady and run.template_pid is None
    assert [piece.started_ns for piece in run.slices] == list(range(1, 34))


@pytest.mark.parametrize("fails", [("baseline", "preload"), ("candidate", "open"), ("candidate", "warm up"), ("baseline", "slice")])
def test_a_worker_that_does_not_answer_ends_the_pair_and_no_worker_is_left(bench, fails):
    bench.fails = fails
    with pytest.raises(WorkerFailed) as failed:
        bench.launch()
    assert failed.value.failure.stage == ", ".join(fails)
    assert len(bench.workers) == 2
    assert all(worker.gone for worker in bench.workers)
