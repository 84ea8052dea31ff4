"""Generators that are reached by ssh: real processes, real pipes, a program in ssh's place."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import fakes.ssh
import numpy as np
import psutil
import pytest
from fakes.inference_server import FakeServer
from fakes.processes import Watch
from test_loads_locust import MS, Bench, load, when_generators_run

from harness.core.errors import BadInput, CannotMeasure
from harness.core.serving import Endpoint
from harness.loads._records import read_records

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the program in ssh's place is a shell script"),
    # Looked for and not imported: it would patch this whole process.
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="Locust is not installed"),
]
slow = pytest.mark.slow
HOSTS = [{"host": host, "python": sys.executable} for host in ("edge-1", "chatty")]


class Outside(FakeServer):
    """The server at an address of this machine that is not its loopback by name: this notation of it is no other machine's."""

    headers: tuple[tuple[str, str], ...] = ()

    @property
    def endpoint(self):
        return Endpoint(f"http://127.1:{self.port}", "net", headers=self.headers)


class NoServer(Outside):
    """Nobody listens, and nobody is asked."""

    port = 1

    def __init__(self):
        super().__init__()

    def pids(self):
        return ()

    def trouble(self):
        return None


def own(bench, text):
    """A Locust file of the user's own, and a load by it."""
    (bench.folder / "mine.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return {"rate": None, "users": 4, "locustfile": "mine.py", "duration": "1 s"}


def elsewhere(**options):
    return load(**{"rate": "200 /s", "generators": HOSTS, "allow_host": "127.1", **options})


def generators(parent=None):
    """The generator processes of this test, or of another process, that live."""
    found = psutil.Process(parent).children(recursive=True)
    return [child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[-1:] == ["elsewhere"]]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def calls(tmp_path, monkeypatch):
    return fakes.ssh.put_on_path(tmp_path / "bin", monkeypatch)


@slow
def test_two_machines_send_the_schedule_of_one(bench, calls, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TEST", "s3cr3t-value")
    with Outside(service=2) as server:
        alone = bench.drive(server, load(rate="200 /s", allow_host="127.1"))
        one = bench.read()
        server.headers = (("Authorization", "Bearer ${env:SECRET_OF_THE_TEST}"),)
        shared = bench.drive(server, elsewhere())
    records, told = bench.read(), shared.load
    assert np.array_equal(records.due_ns, one.due_ns) and np.array_equal(records.body, one.body)
    assert records.process.tolist() == [number % 2 for number in range(records.size)]
    assert shared.intended_ns == alone.intended_ns and told.due == told.answered == alone.load.due
    assert min(shared.latencies_ns) >= 2 * MS
    assert (told.generator_hosts, told.generator_processes, alone.load.start_skew_ns) == (("edge-1", "chatty"), 2, None)
    assert 0 < told.start_skew_ns < 5_000 * MS
    assert all(usage.generator_rss_bytes > 2 * 2**20 for usage in told.usage[2:]) and told.generator_cpu > 0
    orders = [json.loads((bench.records[1].with_name(f"generator-{number}.json")).read_text())["on"] for number in (0, 1)]
    assert orders == ["edge-1", "chatty"]
    assert [json.loads(line)[-2] for line in calls.read_text().splitlines()] == orders
    assert generators() == []
    written = [path for path in bench.folder.rglob("*") if path.is_file()]
    assert len(written) > 6 and not any(b"s3cr3t-value" in path.read_bytes() for path in written)


@slow
def test_users_are_shared_out_among_machines(bench, calls):
    with Outside(service=10) as server:
        told = bench.drive(server, elsewhere(rate=None, users=3, duration="1 s")).load
    assert (told.kind, told.users, told.generator_processes) == ("closed", 3, 2)
    assert set(bench.read().process.tolist()) == {0, 1} and told.failed == {}


@slow
def test_a_locust_file_goes_to_other_machines_alone(bench, calls):
    (bench.folder / "helper.py").write_text("PATH = '/v2/models/net/infer'\n")
    text = """
        from locust import FastHttpUser, constant, task

        class Mine(FastHttpUser):
            wait_time = constant(0.02)

            @task
            def ask(self):
                self.client.post("/v2/models/net/infer", data=b"1234", name="mine")
    """
    with Outside(service=2) as server:
        told = bench.drive(server, elsewhere(**own(bench, text)))
        assert told.load.failed == {} and bench.read().names == ("POST mine",) and set(bench.read().process.tolist()) == {0, 1}
        with pytest.raises(BadInput, match=r"No module named 'helper' \(on another machine the file is alone"):
            bench.drive(server, elsewhere(**own(bench, "import helper")))
    assert generators() == []


@slow
def test_a_machine_that_is_lost_leaves_the_others_records_and_no_process(bench, calls):
    def kill():
        logs = [bench.folder / "load-0" / f"generator-{number}.log" for number in (0, 1)]
        limit = time.monotonic() + 60
        while not all(log.is_file() and "All users spawned" in log.read_text() for log in logs) and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(1)
        os.kill(generators()[-1], signal.SIGKILL)

    with Outside(service=1) as server:
        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(CannotMeasure, match=r"on '(edge-1|chatty)' ended before its time") as caught:
            bench.drive(server, elsewhere(rate="50 /s", duration="30 s"))
        thread.join()
    left = read_records(bench.records[0])
    assert left.size > 0 and len(set(left.process.tolist())) == 1
    assert f"requests.npz has the {left.size:,} requests of the others" in caught.value.message
    assert "generator-" in caught.value.hint
    assert generators() == []


@slow
def test_ctrl_c_ends_generators_on_other_machines(bench, calls):
    class Interrupted(Outside):
        looked = 0

        def trouble(self):
            self.looked += 1
            if self.looked == 3:
                raise KeyboardInterrupt
            return

    seen = []
    with Interrupted() as server, pytest.raises(KeyboardInterrupt):
        thread = when_generators_run(seen.extend)
        bench.drive(server, elsewhere(rate="50 /s", duration="60 s"))
    thread.join()
    limit = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in seen) and time.monotonic() < limit:
        time.sleep(0.05)
    assert len(seen) == 2 and not any(psutil.pid_exists(pid) for pid in seen)


@slow
def test_generators_on_other_machines_end_when_the_program_is_killed(bench, calls, tmp_path):
    script = tmp_path / "drives.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from pathlib import Path
            from test_loads_elsewhere import Bench, Outside, elsewhere
            with Outside() as server:
                print(server.process.pid, flush=True)
                Bench(Path(sys.argv[1])).drive(server, elsewhere(rate="50 /s", duration="60 s"))
        """),
        encoding="utf-8",
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    try:
        server = int(parent.stdout.readline())
        limit = time.monotonic() + 60
        while len(found := generators(parent.pid)) < 2 and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(2)
        watches = [Watch(pid) for pid in found]
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        os.kill(server, signal.SIGKILL)
    assert len(watches) == 2 and all(watch.sees_the_end() for watch in watches)


@slow
def test_an_endpoint_that_cannot_be_reached_from_there_is_told_with_the_machines_name(bench, calls):
    with pytest.raises(CannotMeasure, match=r"http://127\.1:1 is not reached from 'edge-1': Connection refused"):
        bench.drive(NoServer(), elsewhere(generators=HOSTS[:1]))


@pytest.mark.parametrize(
    ("host", "told", "hint"),
    [
        (
            {"host": "nowhere"},
            "ssh does not get to 'nowhere': ssh: Could not resolve hostname",
            "'ssh nowhere' must work without a question",
        ),
        ({"host": "old"}, f"'old' has {re.escape(fakes.ssh.OTHER)}, and this is harness ", "the very same"),
        ({"host": "edge-1", "python": "/nowhere/python"}, r"'/nowhere/python' cannot be run on 'edge-1'", "say which interpreter"),
        ({"host": "edge-1", "python": "/bin/false"}, r"no load generator could be started on 'edge-1' \(exit code 1\)", "install the same"),
    ],
)
def test_a_machine_that_cannot_send_is_told_by_name_with_the_next_step(bench, calls, host, told, hint):
    with pytest.raises(CannotMeasure, match=told) as caught:
        bench.drive(NoServer(), elsewhere(generators=[host]))
    assert hint in caught.value.hint


def test_ssh_that_is_not_there_is_told(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="a generator on 'edge-1' needs ssh, which cannot be run"):
        bench.drive(NoServer(), elsewhere())


def test_a_server_that_only_this_machine_reaches_is_refused_before_anything_starts(bench, calls):
    class Here(NoServer):
        @property
        def endpoint(self):
            return replace(super().endpoint, url="http://127.0.0.1:1")

    with pytest.raises(BadInput, match="generators on other machines cannot send to it") as caught:
        bench.drive(Here(), elsewhere())
    assert "server_host" in caught.value.problems[0].hint
    assert not calls.exists()
