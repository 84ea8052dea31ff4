"""Telemetry through a launch pair: workers that take a known time on a machine of known power."""

from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.core.measurement import FailureReason, SessionFacts
from harness.core.scenario import MeasureSpec
from harness.engine import measure, protocol
from harness.engine.launcher import Launcher
from harness.engine.measure import SLICE_NS, launch
from harness.engine.procedure import Procedure
from harness.engine.telemetry.rapl import find_rapl
from harness.engine.workers import WorkerFailed
from harness.testing import FakeGpu, FakeProcess

MS = 1_000_000
PIDS = {"baseline": 1_000_001, "candidate": 1_000_002}
QUERY_NS = {"baseline": 10 * MS, "candidate": 5 * MS}
WATTS = {"baseline": 100.0, "candidate": 400.0}


class FakeWorker:
    """Passes the time of its queries on the test's clock, and takes its arm's power from the machine meanwhile."""

    template_pid = None

    def __init__(self, seat, clock, takes):
        self.role, self.clock, self.takes = seat.role, clock, takes

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def rest(self):
        pass

    @contextmanager
    def awake(self):
        yield self

    def tell(self, request):
        self.request = request

    def answer(self, kind, *, timeout_s):
        return self.ask(self.request, kind, timeout_s=timeout_s)

    def ask(self, request, kind, *, timeout_s):
        if isinstance(request, protocol.Open):
            return protocol.Opened(PIDS[self.role], 300 * MS, 14 * MS, 2**20)
        if isinstance(request, protocol.WarmUp):
            return protocol.WarmedUp(17, QUERY_NS[self.role])
        if isinstance(request, protocol.TakeSlice):
            taken_ns = request.queries * QUERY_NS[self.role]
            self.clock.advance(taken_ns / 2e9)
            self.takes(self.role, taken_ns / 1e9)
            self.clock.advance(taken_ns / 2e9)
            return protocol.SliceTaken(measure.Slice(0, taken_ns, request.queries, (QUERY_NS[self.role],) * request.queries))
        if isinstance(request, protocol.Finish):
            return protocol.Finished(SessionFacts("cpu", "fp32", 1), 2**21, None)
        return protocol.Done()


@pytest.fixture
def bench(monkeypatch, clock, runs):
    """Launches both arms (or one) under a given watch; the slice's middle is where ``watch`` looks."""

    def measured(watch, *arms, takes=lambda arm, seconds: None, times=None, **how):
        @contextmanager
        def watching(spec, device, cores):
            yield None if spec.off else watch

        def middle(arm, seconds):
            watch.look()
            takes(arm, seconds)

        monkeypatch.setattr(measure, "watching", watching)
        monkeypatch.setattr(measure, "Worker", lambda seat, start: FakeWorker(seat, clock, middle))
        spec = MeasureSpec.model_validate(times or {"duration": "1 s"})
        procedure = Procedure(Path("logs"), spec, {}, Launcher(fork=False), **how)
        return launch({arm: runs.subject() for arm in arms or ("baseline", "candidate")}, 0, procedure, 0)

    return measured


@pytest.fixture
def on_a_cpu(bench, package, tmp_path, watched):
    """On a machine whose package takes ``WATTS`` while an arm's queries run, and 7 W whenever a counter is being learnt."""
    cpu = package()
    watch = watched(rapl=find_rapl(tmp_path), passes=lambda: cpu.take(0.007))

    def measured(*arms, **how):
        return bench(watch, *arms, takes=lambda arm, seconds: cpu.take(WATTS[arm] * seconds), **how)

    return measured


def on_a_gpu(**script):
    return FakeGpu(processes=script.pop("processes", [FakeProcess(PIDS["baseline"]), FakeProcess(PIDS["candidate"])]), **script)


def test_energy_follows_the_arm_whose_slice_ran(on_a_cpu):
    made = on_a_cpu()
    for arm, run in made.items():
        assert run.telemetry.joules == pytest.approx(WATTS[arm] * sum(piece.duration_ns for piece in run.slices) / 1e9, rel=1e-6)
        assert run.telemetry.samples == len(run.slices)


def test_one_launch_alone_has_its_energy_too(on_a_cpu):
    (run,) = on_a_cpu("candidate").values()
    assert run.telemetry.joules == pytest.approx(400 * run.telemetry.timed_ns / 1e9, rel=1e-6)


def test_switched_off_a_run_has_no_telemetry(on_a_cpu):
    assert all(run.telemetry is None for run in on_a_cpu(times={"telemetry": "off"}).values())


def test_an_arm_that_is_not_watched_has_none_and_is_measured_all_the_same(on_a_cpu):
    made = on_a_cpu(unwatched=frozenset({"baseline"}))
    assert made["baseline"].telemetry is None
    assert made["candidate"].telemetry is not None
    assert len(made["baseline"].slices) == len(made["candidate"].slices)


def test_telemetry_changes_nothing_of_what_is_measured(on_a_cpu):
    watched, off = on_a_cpu(), on_a_cpu(times={"duration": "1 s", "telemetry": "off"})
    assert [run.slices for run in watched.values()] == [run.slices for run in off.values()]


def test_slices_are_made_long_enough_for_a_coarse_counter_where_the_scenario_asks_for_energy(bench, watched):
    gpu = on_a_gpu(power_w=300.0, step_s=0.05)
    short, long = bench(watched(gpu)), bench(watched(gpu), wants_energy=True)
    assert short["candidate"].telemetry.joules is None
    assert {piece.queries for piece in short["baseline"].slices} == {SLICE_NS // QUERY_NS["baseline"]}
    assert all(piece.duration_ns >= 240 * MS for piece in long["candidate"].slices)
    assert all(piece.duration_ns >= 490 * MS for piece in long["baseline"].slices)
    for run in long.values():
        assert run.telemetry.joules == pytest.approx(300 * run.telemetry.timed_ns / 1e9, rel=0.05)


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (on_a_gpu(reasons=0x040), "GPU 0 was held back: hardware heat (in "),
        (on_a_gpu(vanishes_at_s=0.6), "GPU 0 stopped to answer (GPU is lost)"),
        (
            on_a_gpu(processes=[(0, ()), (0.6, [*(FakeProcess(pid) for pid in PIDS.values()), FakeProcess(4711, sm_percent=20)])]),
            "process 4711 computed on GPU 0 (in up to 20 % of the time)",
        ),
    ],
)
def test_a_grave_mark_makes_the_launch_no_evidence(bench, watched, gpu, told):
    with pytest.raises(WorkerFailed) as error:
        bench(watched(gpu))
    assert error.value.failure.reason is FailureReason.DISTURBED
    assert told in error.value.failure.message
    assert error.value.failure.stage in ("baseline, slice", "candidate, slice")


def test_a_mark_that_is_not_grave_stays_with_the_run(bench, watched):
    made = bench(watched(on_a_gpu(reasons=0x004)))
    assert {mark.what for run in made.values() for mark in run.telemetry.marks} == {"GPU 0 was held back: power cap"}
