"""A model that is asked over the network: a real server in a process of its own."""

import socket
from types import SimpleNamespace

import numpy as np
import pytest
from fakes.remote_model import CLASSES, FEATURES, remote_model, weights

from harness import plugins
from harness.core.artifact import Dataset
from harness.core.errors import BadInput, CannotMeasure
from harness.core.plugin import Device
from harness.core.serving import ServerCounters
from harness.kserve import endpoint_file

ROWS = Dataset({"x": np.random.default_rng(1).standard_normal((8, FEATURES)).astype(np.float32)}, None)


@pytest.fixture(scope="module")
def url():
    with remote_model("--metrics") as url:
        yield url


@pytest.fixture
def dead_url():
    """A port that this test holds and nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def answers(artifact, size=8):
    runtime = plugins.load("runtimes", "endpoint")()
    runtime.preload(artifact)
    with runtime.open(artifact, Device("cpu", 1)) as session:
        (output,) = session.outputs(session.run(session.prepare(ROWS.batch(0, size))))
        return output, session.facts


def served(artifact, **options):
    return plugins.load("serving", "running")(**options).serve(SimpleNamespace(artifact=artifact))


def test_its_tensors_are_those_that_the_server_tells(workshop, url):
    artifact = workshop.source("endpoint", ROWS, url=url, name="net")
    assert artifact.format == "endpoint" and artifact.size_bytes == 0
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [("x", "float32", (None, FEATURES))]
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.outputs] == [("y", "float32", (None, CLASSES))]
    assert "what it serves cannot be seen: no size, no digest of its weights" in artifact.steps[0].notes


def test_a_session_gives_the_models_own_answers_and_says_that_it_is_remote(workshop, url):
    output, facts = answers(workshop.source("endpoint", ROWS, url=f"{url}/v2/models/net"))
    np.testing.assert_allclose(output, ROWS.inputs["x"] @ weights(0), rtol=1e-5)
    assert (facts.device, facts.precision, facts.threads) == ("remote", "unknown", 0)
    assert facts.details[0] == f"{url}/v2/models/net/infer"


def test_a_version_that_is_named_is_the_one_that_is_asked(workshop):
    with remote_model("--version", "7") as url:
        artifact = workshop.source("endpoint", ROWS, url=url, name="net", version="7")
        assert endpoint_file.read(artifact.path).infer_path == "/v2/models/net/versions/7/infer"
        np.testing.assert_allclose(answers(artifact)[0], ROWS.inputs["x"] @ weights(0), rtol=1e-5)
        with pytest.raises(BadInput, match="does not tell of model 'net': no such model"):
            workshop.source("endpoint", ROWS, url=url, name="net", version="8")


def test_a_server_that_lists_no_tensors_is_known_by_one_answer(workshop):
    with remote_model("--silent-metadata") as url:
        artifact = workshop.source("endpoint", ROWS, url=url, name="net")
    assert [spec.shape for spec in artifact.inputs] == [(None, FEATURES)]
    assert [(spec.name, spec.shape) for spec in artifact.outputs] == [("y", (None, CLASSES))]


def test_no_two_looks_at_an_endpoint_are_taken_for_the_same_content(tmp_path):
    source = plugins.load("sources", "endpoint")(url="http://127.0.0.1:9/v2/models/net")
    first, second = source.depends_on(tmp_path).names, source.depends_on(tmp_path).names
    assert first[0] == second[0] == "http://127.0.0.1:9/v2/models/net/infer"
    assert first != second


def test_a_host_that_is_down_is_told_with_its_place(workshop, dead_url):
    with pytest.raises(CannotMeasure, match=f"{dead_url} does not answer: Connection refused"):
        workshop.source("endpoint", ROWS, url=dead_url, name="net")


def test_a_model_that_the_server_does_not_have_is_refused_by_name(workshop, url):
    with pytest.raises(BadInput, match="does not tell of model 'nett': no such model"):
        workshop.source("endpoint", ROWS, url=url, name="nett")


def test_a_server_that_cannot_answer_now_is_no_mistake_of_the_scenario(workshop):
    with remote_model("--fail") as url, pytest.raises(CannotMeasure, match="refused a request for 'net': the model is being loaded"):
        workshop.source("endpoint", ROWS, url=url, name="net")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"x": np.zeros((8, 5), np.float32)}, r"input 'x' is float32\[any, 6\]; the data gives float32\[1, 5\]"),
        ({"x": np.zeros((8, 6), np.int64)}, r"input 'x' is float32\[any, 6\]; the data gives int64\[1, 6\]"),
        ({"a": np.zeros((8, 6), np.float32), "b": np.zeros((8, 6), np.float32)}, "inputs are x; the data gives a, b"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused_with_both_shapes(workshop, url, inputs, said):
    with pytest.raises(BadInput, match=said):
        workshop.source("endpoint", Dataset(inputs, None), url=url, name="net")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "127.0.0.1:8000", "name": "net"}, "does not say where a server answers"),
        ({"url": "ftp://host/v2/models/net"}, "does not say where a server answers"),
        ({"url": "http://host:8000"}, "the model's name is missing"),
        ({"url": "http://host:8000/predict"}, "the path '/predict' is not one of the Open Inference Protocol"),
        ({"url": "http://host/v2/models/net", "name": "other"}, "the URL says name 'net', and 'name' is 'other'"),
        ({"url": "http://host:port/v2/models/net"}, "is not a URL"),
        ({"url": "http://me:secret@host/v2/models/net"}, "a name, a query or a fragment has no place"),
    ],
)
def test_a_place_that_is_written_wrongly_is_refused_before_anything_is_asked(tmp_path, options, said):
    with pytest.raises(BadInput, match=said) as refused:
        plugins.load("sources", "endpoint")(**options).depends_on(tmp_path)
    assert "write 'endpoint: http://host:port/v2/models/NAME'" in str(refused.value)


def test_a_server_that_ends_between_two_queries_is_an_error_and_no_number(workshop):
    with remote_model() as url:
        artifact = workshop.source("endpoint", ROWS, url=url, name="net")
        opened = plugins.load("runtimes", "endpoint")().open(artifact, Device("cpu", 1))
        session = opened.__enter__()
        prepared = session.prepare(ROWS.batch(0, 1))
        session.run(prepared)
    with pytest.raises(CannotMeasure, match="does not answer"):
        session.run(prepared)
    with pytest.raises(CannotMeasure, match="does not say that its model 'net' is ready"):
        plugins.load("runtimes", "endpoint")().open(artifact, Device("cpu", 1)).__enter__()
    opened.__exit__(None, None, None)


def test_a_running_server_has_no_processes_here_and_is_not_ended(workshop, url):
    artifact = workshop.source("endpoint", ROWS, url=url, name="net")
    with served(artifact) as server:
        assert (server.pids(), server.counters(), server.trouble(), server.log()) == ((), None, None, "")
        assert server.endpoint == endpoint_file.read(artifact.path)
    np.testing.assert_allclose(answers(artifact, 1)[0], ROWS.inputs["x"][:1] @ weights(0), rtol=1e-5)


def test_its_counters_are_those_of_its_metrics_page(workshop, url):
    artifact = workshop.source("endpoint", ROWS, url=url, name="net")
    with served(artifact, metrics_url=f"{url}/metrics") as server:
        before = server.counters()
        answers(artifact)
        assert server.counters().since(before) == ServerCounters(1, 0, 0, 0, None, None)


def test_a_page_that_does_not_tell_of_the_model_is_refused(workshop, url):
    artifact = workshop.source("endpoint", ROWS, url=url, name="net")
    with (
        pytest.raises(CannotMeasure, match="health/ready does not tell of model 'net'"),
        served(artifact, metrics_url=f"{url}/v2/health/ready"),
    ):
        pass
    with pytest.raises(BadInput, match="'metrics' is not a URL"), served(artifact, metrics_url="metrics"):
        pass


def test_trouble_is_told_when_a_running_server_has_ended(workshop):
    with remote_model() as url:
        artifact = workshop.source("endpoint", ROWS, url=url, name="net")
        entered = served(artifact)
        server = entered.__enter__()
        assert server.trouble() is None
    assert server.trouble() == f"{url} does not answer: Connection refused"
    assert server.counters() is None
    entered.__exit__(None, None, None)
