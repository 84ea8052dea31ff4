"""Real Locust in its own processes against a real server whose behaviour is known."""

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from fakes.inference_server import FakeServer
from fakes.processes import Watch

from harness.core.errors import BadInput, CannotMeasure
from harness.core.plugin import LoadJob
from harness.kserve.codec import encode_request
from harness.loads._records import CONNECTION, DROPPED, NEVER, read_records
from harness.loads.locust import Locust

pytestmark = [
    pytest.mark.slow,
    # Looked for and not imported: it would patch this whole process.
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="Locust is not installed"),
]
MS = 1_000_000
S = 1_000 * MS


def load(**options):
    return Locust.model_validate({"duration": "2 s", "ramp_up": "500 ms", **options})


@dataclass
class Bench:
    """Drives loads, each in a folder of its own."""

    folder: Path
    records: list = field(default_factory=list)

    def job(self, server, *, seed=0, limit_ns=None):
        into = self.folder / f"load-{len(self.records)}"
        into.mkdir()
        self.records.append(into / "requests.npz")
        requests = [encode_request({"x": np.full((1, 16), number, dtype=np.float32)}) for number in range(3)]
        return LoadJob(server.endpoint, requests, seed, into, f"raw/{into.name}/requests.npz", limit_ns, server, self.folder)

    def drive(self, server, load, **rest):
        return load.drive(self.job(server, **rest))

    def read(self):
        return read_records(self.records[-1])


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def generators():
    """The pids of generator processes of this test."""
    return [child.pid for child in psutil.Process().children(recursive=True) if "harness.loads._locust_generator" in child.cmdline()]


def when_generators_run(act, *, after_s=0.0):
    """Call ``act`` with the pids of the generators, some time after they were told to begin."""

    def watch():
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            pids = generators()
            if pids and all(psutil.Process(pid).cpu_times().user > 0.3 for pid in pids):
                time.sleep(after_s)
                act(pids)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_an_open_loop_sends_its_schedule_and_tells_of_every_request(bench):
    with FakeServer(service=3) as server:
        driven = bench.drive(server, load(rate="200 /s"), limit_ns=50 * MS)
    told, records = driven.load, bench.read()
    counted = records.where(records.counted)
    assert (told.kind, told.arrivals, told.rate_per_s, told.users, told.failed) == ("open", "poisson", 200, None, {})
    assert told.due == told.answered == counted.size == len(driven.latencies_ns) == len(driven.intended_ns)
    assert 300 < told.due < 500 and records.size > counted.size
    assert np.array_equal(counted.due_ns - counted.due_ns[0], driven.intended_ns) and list(driven.intended_ns) == sorted(driven.intended_ns)
    assert np.array_equal(counted.last_byte_ns - counted.due_ns, driven.latencies_ns)
    assert min(driven.latencies_ns) >= 3 * MS
    assert np.all(counted.sent_ns < counted.first_byte_ns) and np.all(counted.first_byte_ns <= counted.last_byte_ns)
    assert records.body.tolist() == [number % 3 for number in range(records.size)]
    assert told.within_limit == sum(latency <= 50 * MS for latency in driven.latencies_ns)
    assert told.first_byte_p50_ns >= 3 * MS
    assert told.records == "raw/load-0/requests.npz"
    assert told.records_sha256 == hashlib.sha256(bench.records[0].read_bytes()).hexdigest()
    assert sum(window.due for window in told.windows) == told.due
    assert told.usage and all(usage.server_rss_bytes > 0 and usage.generator_rss_bytes > 0 for usage in told.usage)
    assert 0 < told.generator_cpu < 1 and told.generator_processes == 1
    assert "POST" in (bench.records[0].with_name("generator-0.log")).read_text()  # Locust's own statistics
    assert {path.name for path in bench.records[0].parent.iterdir()} == {"requests.npz", "generator-0.json", "generator-0.log"}
    assert not {"locust", "gevent"} & set(sys.modules)


def test_both_arms_get_the_same_schedule(bench):
    with FakeServer() as server:
        intended = [bench.drive(server, load(rate="100 /s", duration="1 s"), seed=seed).intended_ns for seed in (1, 1, 2)]
    assert intended[0] == intended[1] != intended[2]


def test_processes_share_the_schedule(bench):
    with FakeServer(service=2) as server:
        alone = bench.drive(server, load(rate="200 /s"))
        shared = bench.drive(server, load(rate="200 /s", processes=2))
    records = bench.read()
    assert shared.intended_ns == alone.intended_ns
    assert shared.load.generator_processes == 2
    assert records.process.tolist() == [number % 2 for number in range(records.size)]
    assert records.body.tolist() == [number % 3 for number in range(records.size)]
    assert shared.load.answered == shared.load.due


def stalled(server, seconds, after_s):
    return when_generators_run(lambda pids: server.stop_for(seconds), after_s=after_s)


def test_a_server_that_stalls_for_two_seconds_shows_it_in_p99_and_a_closed_loop_hides_it(bench):
    """200 requests are due while it stands still, a twentieth of all; a user who waits for an answer sends none of them."""
    p99 = {}
    for name, options in (("open", {"rate": "100 /s", "duration": "8 s"}), ("closed", {"users": 2, "duration": "8 s"})):
        with FakeServer(service=2) as server:
            thread = stalled(server, 2, after_s=3)
            driven = bench.drive(server, load(**options))
            thread.join()
        p99[name] = float(np.quantile(driven.latencies_ns, 0.99)) / MS
        assert max(driven.latencies_ns) > 1500 * MS  # it did stall, and one request saw it either way
    assert p99["open"] > 1000 > 300 > p99["closed"]


def test_what_fails_is_told_by_kind_and_counts_as_the_whole_timeout(bench):
    with FakeServer(service=1, fail_every=10, nonsense_every=7, silent_every=25) as server:
        driven = bench.drive(server, load(rate="150 /s", timeout="700 ms"), limit_ns=100 * MS)
    told = driven.load
    assert set(told.failed) == {"503", "bad answer", "timeout"}
    assert told.answered + sum(told.failed.values()) == told.due
    assert sum(latency == 700 * MS for latency in driven.latencies_ns) == sum(told.failed.values())
    assert told.within_limit <= told.answered
    assert sum(window.failed for window in told.windows) == sum(told.failed.values())


def test_a_load_on_a_server_that_answers_nothing_ends_one_timeout_after_its_duration(bench):
    with FakeServer(silent_every=1) as server:
        begin = time.monotonic()
        driven = bench.drive(server, load(rate="50 /s", timeout="1 s"))
        took_s = time.monotonic() - begin
    assert driven.load.failed == {"timeout": driven.load.due}
    assert took_s < 30  # 100 timeouts one after the other would be 100 s


def test_a_server_that_dies_ends_the_load_early_and_the_rest_has_failed(bench):
    with FakeServer(service=1, die_after=150) as server:
        begin = time.monotonic()
        driven = bench.drive(server, load(rate="100 /s", duration="60 s"))
        took_s = time.monotonic() - begin
    records = bench.read()
    assert took_s < 40
    assert set(driven.load.failed) == {"connection"} and driven.load.answered < 150
    assert driven.load.due > 5000 and records.status[-1] == CONNECTION and records.sent_ns[-1] == NEVER
    assert generators() == []


def test_a_generator_gives_up_by_itself_when_nothing_but_broken_connections_comes(bench):
    class Silent(FakeServer):
        """A server that cannot tell that it has gone, as one on another machine."""

        def trouble(self):
            return None

    with Silent(service=1, die_after=150) as server:
        begin = time.monotonic()
        driven = bench.drive(server, load(users=2, duration="60 s"))
        took_s = time.monotonic() - begin
    assert took_s < 40 and driven.load.failed["connection"] > 0
    assert driven.load.kind == "closed"


def test_a_request_that_finds_no_connection_waits_and_its_latency_goes_on(bench):
    with FakeServer(service=50, one_by_one=True) as server:
        driven = bench.drive(server, load(rate="40 /s", arrivals="constant", connections=1, timeout="1 s"))
    told, records = driven.load, bench.read()
    assert told.lateness.p99_ns > 500 * MS
    assert told.failed and set(told.failed) <= {"timeout", "dropped"}
    assert told.lateness.dropped == int((records.where(records.counted).status == DROPPED).sum())
    assert np.all(records.taken_ns[records.taken_ns != NEVER] >= records.due_ns[records.taken_ns != NEVER] - 1 * MS)
    answered = records.where(records.answered & records.counted)
    assert np.all(np.diff(answered.sent_ns) > 49 * MS)  # never two at once
    assert max(latency for latency in driven.latencies_ns if latency < 1000 * MS) > 500 * MS


def test_a_connection_that_the_server_has_closed_is_not_used_again(bench):
    with FakeServer(service=1, close_idle=300) as server:
        driven = bench.drive(server, load(rate="2 /s", arrivals="constant", duration="4 s", ramp_up="1 s"))
    assert driven.load.failed == {} and driven.load.due == 8


def test_users_wait_for_their_answers(bench):
    with FakeServer(service=10) as server:
        driven = bench.drive(server, load(users=4))
    told, records = driven.load, bench.read()
    assert (told.kind, told.users, told.rate_per_s) == ("closed", 4, None)
    assert told.due == told.answered <= 4 * 2000 / 10
    assert np.array_equal(records.due_ns, records.sent_ns) or np.all(records.sent_ns - records.due_ns < 20 * MS)
    in_flight = [int(((records.sent_ns <= at) & (records.last_byte_ns > at)).sum()) for at in records.sent_ns[::10]]
    assert max(in_flight) <= 4


def test_a_closed_loop_that_reaches_its_limit_of_requests_is_doubted(bench):
    with FakeServer() as server:
        driven = bench.drive(server, load(users=2, duration="30 s", requests_limit=200))
    assert bench.read().size <= 202
    assert "requests_limit" in driven.load.doubt


def test_a_spike_is_told_with_the_time_that_recovery_took(bench):
    spike = {"factor": 8, "at": "1 s", "for": "500 ms"}
    with FakeServer(service=5, one_by_one=True) as server:
        driven = bench.drive(server, load(rate="60 /s", duration="5 s", spike=spike))
    # 240 requests a second and a half at 200 a second leave a queue, which 140 free places a second work off.
    assert driven.load.arrivals == "poisson, 8 times as many for 500 ms after 1.00 s"
    assert 0 < driven.load.recovery_ns < 3_500 * MS
    assert driven.load.drift is None


def test_a_generator_that_was_held_up_is_doubted_and_its_numbers_are_no_evidence(bench):
    def hold(pids):
        os.kill(pids[0], signal.SIGSTOP)
        time.sleep(1)
        os.kill(pids[0], signal.SIGCONT)

    with FakeServer(service=1) as server:
        thread = when_generators_run(hold, after_s=1.5)
        driven = bench.drive(server, load(rate="100 /s", duration="4 s"))
        thread.join()
    assert "ms after the time" in driven.load.doubt


def test_a_generator_that_is_killed_is_told_with_its_log(bench):
    with FakeServer(service=1) as server:
        thread = when_generators_run(lambda pids: os.kill(pids[0], signal.SIGKILL))
        with pytest.raises(CannotMeasure, match=r"ended before its time \(signal 9\)") as caught:
            bench.drive(server, load(rate="50 /s", duration="20 s", processes=2))
        thread.join()
    assert "generator-0.log" in caught.value.hint
    assert generators() == []


def test_ctrl_c_leaves_no_generator_running(bench):
    class Interrupted(FakeServer):
        looked = 0

        def trouble(self):
            self.looked += 1
            if self.looked == 3:
                raise KeyboardInterrupt
            return

    with Interrupted() as server, pytest.raises(KeyboardInterrupt):
        bench.drive(server, load(rate="50 /s", duration="60 s"))
    assert generators() == []


def test_generators_end_with_their_parent(bench, tmp_path):
    script = tmp_path / "drives.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from pathlib import Path
            from fakes.inference_server import FakeServer
            from test_loads_locust import Bench, load
            with FakeServer() as server:
                print(server.process.pid, flush=True)
                Bench(Path(sys.argv[1])).drive(server, load(rate="50 /s", duration="60 s"))
        """),
        encoding="utf-8",
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    try:
        server = int(parent.stdout.readline())
        limit = time.monotonic() + 60
        while not (found := generators()) and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(1)
        watch = Watch(found[0])
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        os.kill(server, signal.SIGKILL)
    assert watch.sees_the_end()


def test_another_machine_is_sent_to_only_where_the_scenario_names_it(bench):
    class Elsewhere(FakeServer):
        @property
        def endpoint(self):
            return replace(super().endpoint, url="http://192.0.2.7:80")

    with Elsewhere() as server:
        with pytest.raises(BadInput, match=r"on '192\.0\.2\.7'") as caught:
            bench.drive(server, load(rate="50 /s"))
        assert caught.value.problems[0].hint == "if it is yours to load, write 'allow_host: 192.0.2.7'"
        with pytest.raises(BadInput):
            bench.drive(server, load(rate="50 /s", allow_host="192.0.2.8"))
    assert generators() == []


MINE = """
from locust import FastHttpUser, HttpUser, constant, events, task

@events.init.add_listener
def begin(environment, **_):
    print("my own listener", environment.host)

class Quick(FastHttpUser):
    wait_time = constant(0.01)

    @task
    def ask(self):
        self.client.post("/v2/models/net/infer", data=b"1234", name="quick")

class Plain(HttpUser):
    wait_time = constant(0.01)

    @task
    def ask(self):
        with self.client.post("/v2/models/net/infer", data=b"1234", name="plain", catch_response=True) as answer:
            if answer.status_code == 503:
                answer.success()
"""


def own(bench, text, **options):
    (bench.folder / "mine.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return load(locustfile="mine.py", users=4, **options)


def test_a_locust_file_of_ones_own_runs_as_it_is_and_its_requests_are_told_by_name(bench):
    with FakeServer(service=5, fail_every=10) as server:
        driven = bench.drive(server, own(bench, MINE))
        url = server.endpoint.url
    told, records = driven.load, bench.read()
    assert (told.kind, told.locustfile, told.users) == ("closed", "mine.py", 4)
    assert set(records.names) == {"POST quick", "POST plain"}
    quick = records.name == records.names.index("POST quick")
    assert {200, 503} == set(records.status[quick].tolist())
    assert {200} == set(records.status[~quick].tolist())  # what the file calls a success is one
    assert min(driven.latencies_ns) >= 5 * MS
    assert told.doubt is None or "raised" not in told.doubt
    assert f"my own listener {url}" in bench.records[0].with_name("generator-0.log").read_text()


STEPS = """
from locust import FastHttpUser, LoadTestShape, constant, task

class Mine(FastHttpUser):
    wait_time = constant(0)

    @task
    def ask(self):
        self.client.post("/v2/models/net/infer", data=b"1234", name="mine")

class Steps(LoadTestShape):
    def tick(self):
        at = self.get_run_time()
        return None if at > 3.5 else (2, 10) if at < 2 else (6, 10)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_load_test_shape_says_how_many_users_there_are_and_when_the_load_ends(bench, processes):
    (bench.folder / "mine.py").write_text(STEPS, encoding="utf-8")
    with FakeServer(service=50) as server:
        told = bench.drive(server, load(locustfile="mine.py", duration="20 s", ramp_up="1 s", processes=processes)).load
    records = bench.read()
    assert (told.kind, told.users, told.rate_per_s, told.drift, told.locustfile) == ("closed", None, None, None, "mine.py")
    assert told.arrivals.startswith("users as the LoadTestShape Steps asks for them, at most 6 at a time, which ended the load after ")
    assert told.failed == {} and told.doubt is None
    in_flight = [int(((records.sent_ns <= at) & (records.last_byte_ns > at)).sum()) for at in (0.9 * S, 2.5 * S, 4.4 * S)]
    assert in_flight[0] <= 2 and in_flight[1] <= 2 < in_flight[2] <= 6  # its clock stands still in the lead-in
    assert 3.4 * S < records.last_byte_ns.max() < 7 * S
    assert set(records.process.tolist()) == set(range(processes))


def test_a_load_test_shape_is_bounded_by_the_duration(bench):
    (bench.folder / "mine.py").write_text(STEPS.replace("None if at > 3.5 else ", ""), encoding="utf-8")
    with FakeServer(service=20) as server:
        told = bench.drive(server, load(locustfile="mine.py", duration="1500 ms", ramp_up="0 s")).load
    assert told.arrivals == "users as the LoadTestShape Steps asks for them, at most 2 at a time"
    assert bench.read().due_ns.max() < 2.5 * S


@pytest.mark.parametrize(
    ("tick", "why"),
    [
        ("raise KeyError('stage')", "KeyError: 'stage'"),
        ("return (20_000, 100)", "it asks for 20,000 users, and 0 to 10,000 are possible"),
        ("return 5", "TypeError"),
    ],
)
def test_a_load_test_shape_that_cannot_be_followed_makes_the_load_no_evidence(bench, tick, why):
    head, _, _ = STEPS.partition("        at = ")
    (bench.folder / "mine.py").write_text(f"{head}        {tick}\n", encoding="utf-8")
    with FakeServer() as server:
        told = bench.drive(server, load(locustfile="mine.py", duration="5 s")).load
    assert told.doubt.startswith("its LoadTestShape Steps could not be followed: ") and why in told.doubt


def test_a_task_that_raises_makes_the_load_no_evidence(bench):
    text = """
        from locust import FastHttpUser, constant, task

        class Mine(FastHttpUser):
            wait_time = constant(0.05)

            @task
            def ask(self):
                self.client.get("/v2/models/net/infer", data=b"1")
                raise KeyError("outputs")
    """
    with FakeServer() as server:
        driven = bench.drive(server, own(bench, text, duration="1 s"))
    assert "tasks of mine.py raised, the first KeyError: 'outputs'" in driven.load.doubt


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("x = 1", "has no user class"),
        (
            "from locust import FastHttpUser as F, LoadTestShape as L\nclass U(F): pass\nclass S(L):\n    def tick(self): pass",
            "has a LoadTestShape, and the scenario has 'users'",
        ),
    ],
)
def test_a_locust_file_that_cannot_be_used_is_told_with_its_path(bench, text, told):
    with FakeServer() as server, pytest.raises(BadInput) as caught:
        bench.drive(server, own(bench, text))
    assert told in str(caught.value) and str(bench.folder / "mine.py") in str(caught.value)
    assert generators() == []


def test_a_locust_file_without_a_shape_needs_users(bench):
    (bench.folder / "mine.py").write_text("from locust import FastHttpUser as F\nclass U(F): pass", encoding="utf-8")
    with FakeServer() as server, pytest.raises(BadInput, match="has no LoadTestShape, and the scenario has no 'users'"):
        bench.drive(server, load(locustfile="mine.py"))


def test_a_locust_file_that_is_not_there_is_told_before_anything_starts(bench):
    with FakeServer() as server, pytest.raises(BadInput, match=r"'mine.py' does not exist"):
        bench.drive(server, load(locustfile="mine.py", users=1))
