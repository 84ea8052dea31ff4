"""What a scenario may say of the load, and what is refused with a sentence that helps."""

import io
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from harness.core.errors import BadInput
from harness.core.plugin import NetworkLoad, ReadsFiles
from harness.core.serving import Endpoint
from harness.kserve.codec import Message
from harness.loads._drive import is_loopback
from harness.loads._make_jobs import hosts_of
from harness.loads._orders import Job, Orders, request_bytes
from harness.loads._shares import share
from harness.loads.locust import Locust

S = 1e9


def load(**options):
    return Locust.model_validate(options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rate": "200 /s", "users": 4}, "'rate' and 'users' both say how much is sent: keep one"),
        ({"steps": ["1 /s"], "ramp": {"from": "1 /s", "to": "2 /s"}}, "'ramp' and 'steps' both say how much is sent"),
        ({"rate": 200}, "200 has no unit: write '200 /s'"),
        ({"rate": "0 /s"}, "greater than 0"),
        ({"duration": "20"}, "has no unit"),
        ({"locustfile": "mine.py", "rate": "1 /s"}, "say how many with 'users' or a LoadTestShape"),
        ({"locustfile": "mine.py", "spike": {"factor": 2, "at": "1 s", "for": "1 s"}}, "a 'spike' is of one rate"),
        ({"generators": ["a", {"host": "a", "python": "/opt/python"}]}, "a host is named twice"),
        ({"generators": ["-oProxyCommand=touch x"]}, "no host for ssh"),
        ({"generators": ["me@-oProxyCommand=touch x"]}, "no host for ssh"),
        ({"generators": ["edge-1; touch x"]}, "no host for ssh"),
        ({"generators": [{"host": "edge-1", "python": "-c"}]}, "not the path of an interpreter"),
        ({"generators": [{"host": "edge-1", "command": "sh"}]}, "Extra inputs"),
        ({"server_host": "0.0.0.0"}, "not one address of this machine"),
        ({"server_host": "-x"}, "not one address of this machine"),
        ({"users": 3, "spike": {"factor": 2, "at": "1 s", "for": "1 s"}}, "a 'spike' is of one rate"),
        ({"spike": {"factor": 2, "at": "18 s", "for": "2 s"}}, "leave time in which the server can recover"),
        ({"spike": {"factor": 1, "at": "1 s", "for": "2 s"}}, "greater than 1"),
        ({"rate": "100000 /s"}, "about 2,200,000 requests, and 'requests_limit' is 1,000,000"),
        ({"arrivals": "uniform"}, "'poisson' or 'constant'"),
        ({"users": True}, "integer"),
        ({"connections": 0}, "greater than or equal to 1"),
        ({"speed": 3}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, told):
    with pytest.raises(ValidationError) as caught:
        load(**options)
    assert told in str(caught.value)


def test_where_nothing_says_how_much_it_is_a_hundred_a_second():
    assert load().per_s == 100
    assert load(users=4).per_s is None
    assert load(steps=["1 /s"]).per_s is None


def test_no_lead_in_is_allowed_and_no_measured_time_is_not():
    assert load(ramp_up="0 s").curve()[0].duration_ns == 20 * S
    with pytest.raises(ValidationError):
        load(duration="0 s")


def test_it_is_a_load_over_the_network_that_names_its_files():
    mine = load(users=2, locustfile="loads/mine.py")
    assert isinstance(mine, NetworkLoad) and isinstance(mine, ReadsFiles)
    assert mine.depends_on(Path("/project")).code == (Path("/project/loads/mine.py"),)
    assert load().depends_on(Path("/project")).code == ()


@pytest.mark.parametrize(
    "options",
    [{"rate": "7 /s", "spike": {"factor": 2, "at": "1 s", "for": "1 s"}}, {"users": 9}, {"steps": ["1 /s", "2 /s"]}],
)
def test_the_same_load_at_another_rate_is_constant_and_keeps_the_rest(options):
    other = load(**options, arrivals="constant", timeout="3 s", connections=7).at_rate(50.0, 2_000_000_000)
    assert [(part.from_per_s, part.to_per_s) for part in other.curve()] == [(50.0, 50.0), (50.0, 50.0)]
    assert (other.arrivals, other.timeout, other.connections, other.duration) == ("constant", 3 * S, 7, 2 * S)


def test_the_users_of_a_locust_file_have_no_rate_to_search():
    with pytest.raises(BadInput, match="have none"):
        load(users=2, locustfile="mine.py").at_rate(50.0, 10)


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("localhost.example.com", False)],
)
def test_only_this_machine_is_loopback(host, ours):
    assert is_loopback(host) is ours


@pytest.mark.parametrize(("total", "processes"), [(256, 1), (256, 3), (5, 4)])
def test_shares_add_up(total, processes):
    assert sum(share(total, process, processes) for process in range(processes)) == total


def test_each_machine_that_is_named_sends_with_all_processes_and_no_more_than_there_are_users():
    hosts = [one.host for one in hosts_of(load(generators=["edge-1", "me@10.0.0.7"], processes=2))]
    assert hosts == ["edge-1", "me@10.0.0.7", "edge-1", "me@10.0.0.7"]
    assert [one.host for one in hosts_of(load(generators=["edge-1", "edge-2"], processes=2, users=3))] == ["edge-1", "edge-2", "edge-1"]
    assert hosts_of(load(processes=2)) == [None, None]


def test_what_ssh_hands_to_a_shell_is_quoted_word_by_word():
    (host,) = load(generators=[{"host": "edge-1", "python": "/opt/my tools/python; true"}]).generators
    *words, handed = host.command()
    assert words[0] == "ssh" and words[-2:] == ["--", "edge-1"] and "-oBatchMode=yes" in words
    told = shlex.split(handed)
    assert told[:2] == ["exec", "env"] and told[-4:] == ["-P", "-m", "harness.loads._locust_generator", "elsewhere"]
    assert "/opt/my tools/python; true" in told


def test_a_request_is_whole_http_with_its_own_headers():
    message = Message(b"{}\0\1", {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "2"})
    endpoint = Endpoint("http://127.0.0.1:8000", "net", "3")
    sent = request_bytes(endpoint, "127.0.0.1:8000", message, {"Authorization": "Bearer x"})
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == message.body
    assert head.decode().split("\r\n") == [
        "POST /v2/models/net/versions/3/infer HTTP/1.1",
        "Host: 127.0.0.1:8000",
        "Connection: keep-alive",
        "Authorization: Bearer x",
        "Content-Type: application/octet-stream",
        "Inference-Header-Content-Length: 2",
        "Content-Length: 4",
    ]


def test_a_job_is_read_as_it_was_written_and_nothing_after_it(tmp_path):
    orders = Orders("open", 0, 2, "https://h", "h", 443, "CA", 0, 128, 1, 2, 3, 4, "", (1, 2), "edge-1")
    given = Job(orders, [b"one", b"", b"t\no"], np.array([[5, 2**40], [0, 2]]), b"import locust\n")
    stream = io.BytesIO(b"".join(given.pieces()) + b"what follows")
    read = Job.read(stream.readline(), stream.read)
    assert (read.orders, list(read.requests), read.locustfile) == (orders, given.requests, given.locustfile)
    assert np.array_equal(read.schedule, given.schedule)
    assert stream.read() == b"what follows"
    orders.write(tmp_path / "orders.json")
    assert Orders.of(json.loads((tmp_path / "orders.json").read_text())) == orders
