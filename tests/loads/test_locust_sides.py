"""What the parent sees of processes, and what Locust's events mean: without Locust."""

import os
import subprocess
import sys

import pytest

from harness.core.errors import BadInput
from harness.core.serving import Usage
from harness.loads._drive import _schedule
from harness.loads._own_locustfile import _status_of
from harness.loads._records import BAD_ANSWER, CONNECTION, OK, REFUSED, TIMEOUT
from harness.loads._usage import Side, Watch, with_reported
from harness.loads.locust import Locust

S = 1_000_000_000


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


def busy(seconds):
    begin = sum(os.times()[:2])
    while sum(os.times()[:2]) - begin < seconds:
        pass


def test_cpu_is_in_cores_busy_since_the_sample_before():
    clock = Clock()
    side = Side(lambda: [os.getpid()], clock)
    assert side.sample()[0] == 0
    busy(0.3)
    clock.now = S // 2
    cores, rss_bytes = side.sample()
    assert 0.5 < cores < 1.2  # 0.3 s in what this clock calls half a second
    assert rss_bytes > 10 * 2**20


def test_a_process_that_ends_is_left_out_and_one_that_comes_late_counts_from_then():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        clock, pids = Clock(), [child.pid]
        side = Side(lambda: pids, clock)
        alone = side.sample()[1]
        pids.append(os.getpid())  # it has been busy for long, but not in this interval
        clock.now = S
        cores, both = side.sample()
        assert cores < 0.5 and both > alone > 0
    finally:
        child.kill()
        child.wait()
    assert side.sample()[1] < both


def test_the_first_look_has_nothing_to_compare_with_and_is_not_kept():
    clock = Clock()
    watch = Watch(Side(lambda: [os.getpid()], clock), Side(tuple, clock), clock)
    for clock.now in (0, S, 2 * S):
        watch.look()
    assert [sample.at_ns for sample in watch.samples] == [S, 2 * S]
    assert {(sample.generator_cpu, sample.generator_rss_bytes) for sample in watch.samples} == {(0, 0)}


def test_what_other_machines_report_is_added_to_the_samples_by_time():
    samples = [Usage(at, 1.0, 10, 0.0, 0) for at in (1, 5, 9)]
    told = with_reported(samples, [[(4, 0.5, 100), (8, 0.7, 110)], [(5, 0.25, 30)]])
    assert [(one.generator_cpu, one.generator_rss_bytes) for one in told] == [(0.0, 0), (0.75, 130), (0.95, 140)]
    assert [(one.at_ns, one.server_cpu, one.server_rss_bytes) for one in told] == [(1, 1.0, 10), (5, 1.0, 10), (9, 1.0, 10)]


class Answer:
    def __init__(self, status_code):
        self.status_code = status_code


class RetriesTimeoutError(Exception):
    pass


class HTTPParseError(Exception):
    pass


class SSLError(Exception):
    """As the library behind HttpUser has it."""


@pytest.mark.parametrize(
    ("exception", "response", "status"),
    [
        (None, Answer(200), OK),
        (None, Answer(204), 204),
        (None, Answer(404), OK),  # the file called it a success
        (None, None, OK),  # a protocol without status
        (ValueError("bad"), Answer(500), 500),
        (ValueError("wrong label"), Answer(200), REFUSED),
        (TimeoutError(), Answer(0), TIMEOUT),
        (RetriesTimeoutError(), None, TIMEOUT),
        (ConnectionRefusedError(), None, CONNECTION),
        (OSError("no route"), None, CONNECTION),
        (SSLError("certificate verify failed"), Answer(0), CONNECTION),
        (HTTPParseError(), Answer(0), BAD_ANSWER),
        (ValueError("my own"), None, REFUSED),
    ],
)
def test_what_a_locust_file_says_of_a_request_becomes_a_status(exception, response, status):
    assert _status_of(exception, response) == status


def test_a_rate_that_a_search_asks_for_is_held_to_the_limit_of_requests():
    load = Locust.model_validate({"rate": "10 /s", "duration": "1 s", "ramp_up": "0 s", "requests_limit": 100})
    assert _schedule(load, 0).due_ns.size < 100
    with pytest.raises(BadInput, match="no more than 100 are allowed"):
        _schedule(load.at_rate(1000.0, S), 0)
