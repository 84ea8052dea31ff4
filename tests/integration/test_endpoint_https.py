"""Endpoints over https: real servers with certificates made here, and headers whose values are in the environment."""

import importlib.util

import numpy as np
import pytest
from fakes.inference_server import FakeServer
from fakes.remote_model import remote_model, weights
from test_loads_locust import MS, Bench, load
from test_sources_endpoint import ROWS, answers, served

from harness import plugins
from harness.core.errors import BadInput, CannotMeasure
from harness.core.serving import Endpoint
from harness.kserve import endpoint_file
from harness.kserve.client import Client, Untrusted

pytest.importorskip("cryptography")
from fakes.certificates import Authority

slow = pytest.mark.slow
# Looked for and not imported: it would patch this whole process.
locust = pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="Locust is not installed")
TOKEN = "t0k3n-of-this-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


@pytest.fixture(scope="module")
def secure(authority):
    """A model that answers over TLS to who has the token."""
    with remote_model("--certificate", authority.server(), "--wants", f"Bearer {TOKEN}") as url:
        yield url


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_TEST", TOKEN)


HEADERS = {"Authorization": "Bearer ${env:TOKEN_OF_THE_TEST}"}


def test_a_model_is_asked_over_https_with_its_authority_and_a_header_from_the_environment(workshop, secure, authority, token):
    artifact = workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(authority.file), headers=HEADERS)
    output, _ = answers(artifact)
    np.testing.assert_allclose(output, ROWS.inputs["x"] @ weights(0), rtol=1e-5)
    with served(artifact) as server:
        assert server.trouble() is None
    kept = "".join(path.read_text() for path in artifact.folder.rglob("*") if path.is_file()) + artifact.steps[0].options
    assert TOKEN not in kept and "${env:TOKEN_OF_THE_TEST}" in kept and "BEGIN CERTIFICATE" in kept


@pytest.mark.parametrize(
    ("trusted", "shown", "why", "hint"),
    [
        ("another", {}, "its certificate is refused: unable to get local issuer certificate", "'ca_file' names the certificate"),
        ("", {}, "its certificate is refused: unable to get local issuer certificate", "'ca_file' names the certificate"),
        ("own", {"days": -1}, "its certificate is refused: certificate has expired", "valid now"),
        ("own", {"host": "127.0.0.2"}, "its certificate is refused: IP address mismatch", "a name that its certificate has"),
    ],
)
def test_a_server_that_cannot_prove_who_it_is_gets_no_request(workshop, authority, folder, trusted, shown, why, hint):
    ca_file = {"another": lambda: str(Authority(folder, "another").file), "own": lambda: str(authority.file), "": str}[trusted]()
    with remote_model("--certificate", authority.server(**shown)) as url:
        with pytest.raises(CannotMeasure, match=why) as refused:
            workshop.source("endpoint", ROWS, url=url, name="net", ca_file=ca_file)
    assert hint in refused.value.hint and url in refused.value.message


def test_a_server_that_speaks_no_tls_is_told_as_such():
    with remote_model() as url, Client(Endpoint(url.replace("http:", "https:"), "net")) as client:
        with pytest.raises(Untrusted, match="no TLS with it") as refused:
            client.ready()
    assert "http instead of https" in refused.value.hint


def test_a_session_and_a_running_server_say_why_a_certificate_is_refused(workshop, secure, authority, token, folder):
    artifact = workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(authority.file), headers=HEADERS)
    endpoint = endpoint_file.read(artifact.path)
    stranger = Authority(folder, "stranger").file.read_text()
    endpoint_file.write(artifact.folder, Endpoint(endpoint.url, "net", authorities=stranger, headers=endpoint.headers), {})
    with pytest.raises(CannotMeasure, match="its certificate is refused"):
        answers(artifact)
    with pytest.raises(CannotMeasure, match="its certificate is refused"), served(artifact):
        pass


def test_a_variable_that_is_not_set_is_named_before_anything_is_sent(workshop, secure, authority, monkeypatch):
    monkeypatch.delenv("TOKEN_OF_THE_TEST", raising=False)
    with pytest.raises(BadInput, match="takes its value from the environment variable TOKEN_OF_THE_TEST, which is not set"):
        workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(authority.file), headers=HEADERS)


def test_what_a_server_says_of_a_wrong_secret_is_told_without_it(workshop, secure, authority, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_TEST", "wr0ng-token")
    with pytest.raises(BadInput, match=r"not let in: Bearer \*\*\*") as refused:
        workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(authority.file), headers=HEADERS)
    assert "wr0ng-token" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"headers": {"Authorization": "Bearer abc"}}, "'Authorization' looks like a secret"),
        ({"headers": {"X-Api-Key": "abc"}}, "'X-Api-Key' looks like a secret"),
        ({"headers": {"X-Team": "${TEAM}"}}, "names a variable in another way than"),
        ({"headers": {"X Team": "a"}}, "is not the name of a header"),
        ({"headers": {"X-Team": "a\r\nX-Other: b"}}, "holds a character that no header has"),
        ({"headers": {"content-length": "3"}}, "is set by the request itself"),
        ({"url": "http://127.0.0.1:1", "ca_file": "ca.pem"}, "'url' is not one of https"),
    ],
)
def test_headers_and_authorities_that_cannot_be_meant_are_refused(options, told):
    with pytest.raises(ValueError, match=told.replace("$", r"\$")):
        plugins.load("sources", "endpoint")(**{"url": "https://127.0.0.1:1/v2/models/net", **options})


def test_a_line_break_in_a_variable_is_refused_and_not_shown(workshop, secure, authority, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_TEST", "abc\r\nX-Other: secret-rest")
    with pytest.raises(BadInput, match="holds a line break") as refused:
        workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(authority.file), headers=HEADERS)
    assert "secret-rest" not in str(refused.value)


def test_a_ca_file_without_a_certificate_is_refused_and_a_key_in_it_is_never_kept(workshop, authority, tmp_path, token, secure):
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(BadInput, match="holds no certificate in PEM"):
        workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(tmp_path / "empty.pem"))
    both = tmp_path / "both.pem"
    both.write_bytes(authority.server().read_bytes() + authority.file.read_bytes())
    artifact = workshop.source("endpoint", ROWS, url=secure, name="net", ca_file=str(both), headers=HEADERS)
    assert "PRIVATE KEY" not in artifact.path.read_text()


class Secure(FakeServer):
    """A server of a load, over TLS, trusted by ``authorities``."""

    authorities = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def endpoint(self):
        return Endpoint(super().endpoint.url, "net", authorities=self.authorities, headers=self.headers)


@slow
@locust
def test_a_load_is_sent_over_https_with_headers_that_no_file_holds(authority, token, tmp_path):
    bench = Bench(tmp_path)
    with Secure(service=2, certificate=str(authority.server()), wants=f"authorization: bearer {TOKEN}") as server:
        server.authorities, server.headers = authority.file.read_text(), (("Authorization", "Bearer ${env:TOKEN_OF_THE_TEST}"),)
        driven = bench.drive(server, load(rate="100 /s"))
    told, records = driven.load, bench.read()
    assert told.failed == {} and told.answered == told.due > 100 and min(driven.latencies_ns) >= 2 * MS
    assert np.all(records.sent_ns < records.first_byte_ns)
    connected = (records.sent_ns - records.taken_ns)[records.counted]  # opening one with TLS is part of it, and most found one open
    assert np.median(connected) < 0.3 * MS
    assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@slow
@locust
def test_a_generator_does_not_send_to_a_server_that_it_does_not_trust(authority, folder, tmp_path):
    with Secure(certificate=str(authority.server())) as server:
        server.authorities = Authority(folder, "unknown").file.read_text()
        with pytest.raises(CannotMeasure, match="is not reached from here: its certificate is refused"):
            Bench(tmp_path).drive(server, load(rate="50 /s"))


OWN = """
from locust import FastHttpUser, HttpUser, constant, task

class Quick(FastHttpUser):
    wait_time = constant(0.02)

    @task
    def ask(self):
        self.client.post("/v2/models/net/infer", data=b"1234", name="quick")

class Plain(HttpUser):
    wait_time = constant(0.02)

    @task
    def ask(self):
        self.client.post("/v2/models/net/infer", data=b"1234", name="plain")
"""


@slow
@locust
@pytest.mark.parametrize("trusted", [True, False])
def test_the_users_of_a_locust_file_verify_the_certificate_too(authority, folder, tmp_path, trusted):
    bench = Bench(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    with Secure(service=2, certificate=str(authority.server())) as server:
        server.authorities = (authority if trusted else Authority(folder, "unknown")).file.read_text()
        told = bench.drive(server, load(users=2, locustfile="mine.py")).load
    records = bench.read()
    assert set(records.names) == {"POST quick", "POST plain"}
    assert set(records.status.tolist()) == {200} if trusted else told.answered == 0
