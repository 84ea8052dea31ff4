"""What a scenario may say of the load, and what is refused with a sentence that helps."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.core.errors import BadInput
from harness.core.plugin import NetworkLoad, ReadsFiles
from harness.core.serving import Endpoint
from harness.kserve.codec import Message
from harness.loads._drive import _is_loopback, _share
from harness.loads._orders import Orders, read_requests, request_bytes, write_requests
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
        ({"locustfile": "mine.py"}, "say how many with 'users'"),
        ({"locustfile": "mine.py", "rate": "1 /s"}, "say how many with 'users'"),
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
    assert _is_loopback(host) is ours


@pytest.mark.parametrize(("total", "processes"), [(256, 1), (256, 3), (5, 4)])
def test_shares_add_up(total, processes):
    assert sum(_share(total, process, processes) for process in range(processes)) == total


def test_a_request_is_whole_http_with_its_own_headers(tmp_path):
    message = Message(b"{}\0\1", {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "2"})
    sent = request_bytes(Endpoint("http://127.0.0.1:8000", "net", "3"), "127.0.0.1:8000", message)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == message.body
    assert head.decode().split("\r\n") == [
        "POST /v2/models/net/versions/3/infer HTTP/1.1",
        "Host: 127.0.0.1:8000",
        "Connection: keep-alive",
        "Content-Type: application/octet-stream",
        "Inference-Header-Content-Length: 2",
        "Content-Length: 4",
    ]
    assert read_requests(tmp_path / "r", write_requests(tmp_path / "r", [sent, b"", b"abc"])) == [sent, b"", b"abc"]


def test_orders_are_read_as_they_were_written(tmp_path):
    given = Orders("open", 0, 2, 17, "http://h", "h", 80, "r", (0, 5), "s", 0, 128, 1, 2, 3, 4, "", "i", (1, 2))
    given.write(tmp_path / "orders.json")
    assert Orders.read(tmp_path / "orders.json") == given
