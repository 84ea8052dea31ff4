import dataclasses
import statistics

import pytest
from fakes import served
from fakes.served import MS, SECOND, FakeLoad, FakeServer, FakeServing

from harness.core.artifact import Dataset
from harness.core.errors import CannotMeasure
from harness.core.measurement import FailureReason
from harness.core.plugin import Driven
from harness.core.scenario import MeasureSpec, PluginRef
from harness.core.serving import ServerCounters
from harness.engine import launch_served as module
from harness.engine.datasets import write_dataset
from harness.engine.launcher import Launcher
from harness.engine.measure import launch
from harness.engine.procedure import Procedure
from harness.engine.protocol import CapacitySearch, Promise, Served
from harness.engine.workers import WorkerFailed
from harness.kserve.codec import decode_request, encode_response

np = pytest.importorskip("numpy")
PROMISES = (Promise(0.99, 50 * MS), Promise(None, 0.0))


class Place:
    """Both arms on fake servers under one fake load; nothing but the requests is real."""

    def __init__(self, tmp_path, runs, monkeypatch):
        self.folder = tmp_path
        self.load = FakeLoad()
        self.serving = {"base": FakeServing(FakeServer()), "new": FakeServing(FakeServer())}
        self.asked = []
        self.answer = encode_response("m", {"y": np.zeros((1, 2), np.float32)}, {"y": True})
        self.status = 200
        place = self

        def plugin_of(family, ref, folder):
            return place.load if family == "loads" else place.serving[ref.name]

        class Client:
            def __init__(self, endpoint):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def infer_raw(self, message):
                place.asked.append(message)
                length = next((int(value) for name, value in place.answer.headers.items() if name.startswith("Inference")), None)
                return place.status, place.answer.body, length

        monkeypatch.setattr(module, "plugin_of", plugin_of)
        monkeypatch.setattr(module.client, "Client", Client)
        write_dataset(tmp_path / "data.npz", Dataset({"x": np.arange(20, dtype=np.float32).reshape(10, 2)}, None))
        self.runs = runs

    def subject(self, server, *, capacity=None, batch_size=1):
        plain = self.runs.subject(batch_size)
        wanted = Served(PluginRef(name=server), "m", 50 * MS, PROMISES, capacity)
        return dataclasses.replace(plain, data=self.folder / "data.npz", served=wanted)

    def launch(self, pair=0, **arms):
        procedure = Procedure(self.folder / "logs" / "one", MeasureSpec(), {}, Launcher(), run=self.folder)
        return launch(arms or {"baseline": self.subject("base"), "candidate": self.subject("new")}, pair, procedure, seed=7)


@pytest.fixture
def place(tmp_path, runs, monkeypatch):
    return Place(tmp_path, runs, monkeypatch)


def test_both_arms_get_the_same_arrivals_and_each_pair_its_own(place):
    seeds = []
    for pair in (0, 1):
        place.launch(pair)
        seeds.append({job.seed for job, _ in place.load.jobs[-2:]})
    assert [len(found) for found in seeds] == [1, 1]
    assert seeds[0] != seeds[1]


def test_who_is_served_first_turns_from_pair_to_pair(place):
    order = []
    for name, serving in place.serving.items():
        serving.deployed = type("Told", (list,), {"append": lambda self, item, name=name: order.append(name)})()
    for pair in range(3):
        place.launch(pair)
    assert order == ["base", "new", "new", "base", "base", "new"]


def test_every_launch_has_a_server_of_its_own_that_is_gone_afterwards(place):
    for pair in range(2):
        place.launch(pair)
    assert [(len(serving.deployed), serving.ended) for serving in place.serving.values()] == [(2, 2), (2, 2)]
    folders = [deployment.folder for serving in place.serving.values() for deployment in serving.deployed]
    assert len(set(folders)) == 4


def test_the_run_holds_every_latency_and_the_load_beside_them(place):
    run = place.launch()["candidate"]
    latencies = [latency for piece in run.slices for latency in piece.latencies_ns]
    assert run.served is not None and len(latencies) == run.served.due == sum(piece.queries for piece in run.slices)
    assert run.served.records == "logs/one/candidate-000-load/load-00/requests.npz"
    assert run.peak_rss_bytes == 310 * 2**20 and run.facts.precision == "fp32"


def test_the_servers_counters_are_those_of_the_load_alone(place):
    place.serving["new"].server.counted = ServerCounters(1_000, 3, 7, 900, 5, 6)
    run = place.launch()["candidate"]
    assert run.served.server == ServerCounters(run.served.due, 0, 1, 0, 0, 0)


def test_slices_of_both_arms_hold_the_same_requests(place):
    place.serving["new"].server.service_ns = 4 * MS
    runs = place.launch()
    assert [piece.started_ns for piece in runs["baseline"].slices] == [piece.started_ns for piece in runs["candidate"].slices]
    lengths = [[len(piece.latencies_ns) for piece in runs[arm].slices] for arm in ("baseline", "candidate")]
    assert lengths[0] == lengths[1] and max(lengths[0]) - min(lengths[0]) <= 1
    medians = [statistics.median([ns for piece in runs[arm].slices for ns in piece.latencies_ns]) for arm in ("baseline", "candidate")]
    assert medians[1] - medians[0] == 2 * MS


def test_few_requests_make_one_slice():
    driven = Driven(served.load_run(duration_ns=SECOND), tuple(range(0, 30 * MS, MS)), tuple([MS] * 30))
    (piece,) = module.slices_of_load(driven)
    assert (piece.queries, piece.duration_ns) == (30, SECOND)


def test_requests_hold_the_samples_of_the_evaluation_set_in_turn(place):
    requests = module.requests_of(place.subject("new", batch_size=4))
    read = [decode_request(one.body, int(one.headers["Inference-Header-Content-Length"])).inputs["x"] for one in requests]
    assert len(read) == 3  # 10 samples, the third batch goes round
    assert read[0].shape == (4, 2) and read[2][:, 0].tolist() == [16, 18, 0, 2]


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (lambda place: setattr(place.serving["new"].server, "trouble_", "killed by SIGKILL"), FailureReason.EXITED, "killed by SIGKILL"),
        (lambda place: setattr(place.load, "most_sent", 10.0), FailureReason.GENERATOR, "raise 'processes'"),
        (lambda place: setattr(place, "status", 500), FailureReason.EXCEPTION, "did not answer it"),
        (
            lambda place: setattr(place, "answer", encode_response("m", {"y": np.full((1, 2), np.nan, np.float32)}, {"y": True})),
            FailureReason.BAD_OUTPUT,
            "NaN",
        ),
        (lambda place: setattr(place.load, "duration_ns", 1), FailureReason.GENERATOR, "no request was due"),
    ],
)
def test_what_is_no_evidence_fails_the_launch_with_its_reason(place, spoil, reason, words):
    spoil(place)
    with pytest.raises(WorkerFailed) as caught:
        place.launch(candidate=place.subject("new"))
    assert caught.value.failure.reason is reason
    assert words in caught.value.failure.message
    assert place.serving["new"].ended == 1


def test_a_server_that_does_not_start_fails_the_launch_with_its_own_words(place):
    def serve(deployment):
        raise CannotMeasure("the server did not become ready", hint="see its log")

    place.serving["new"].serve = serve
    with pytest.raises(WorkerFailed, match="the server did not become ready"):
        place.launch(candidate=place.subject("new"))


def test_a_load_that_the_generator_could_not_keep_is_tried_again_with_other_arrivals(place):
    kept = place.load.drive

    def drive(job):
        driven = kept(job)
        late = len(place.load.jobs) < 3
        return dataclasses.replace(driven, load=dataclasses.replace(driven.load, doubt="late" if late else None))

    place.load.drive = drive
    run = place.launch(candidate=place.subject("new"))["candidate"]
    assert run.served.records.endswith("load-02/requests.npz")
    assert len({job.seed for job, _ in place.load.jobs}) == 3
    assert len(place.serving["new"].deployed) == 1


def test_errors_are_results_and_no_failure(place):
    place.load.broken = 12
    run = place.launch()["candidate"]
    assert run.served.failed == {"503": 12}


def test_a_server_listens_where_the_load_says_and_else_on_this_machine_alone(place):
    @dataclasses.dataclass
    class Placed(FakeLoad):
        server_host: str | None = None
        comes_from_elsewhere: bool = True

    for load in (FakeLoad(), Placed(), Placed(server_host="10.0.0.5")):
        place.load = load
        place.launch(candidate=place.subject("new"))
    assert [deployment.host for deployment in place.serving["new"].deployed] == ["127.0.0.1", "127.0.0.1", "10.0.0.5"]


def test_where_the_generator_gives_up_the_search_the_run_says_what_was_shown(place):
    place.serving["new"].server.capacity, place.load.most_sent = 50_000.0, 300.0
    search = CapacitySearch(50, 4_000, 3 * SECOND, 1, 0.05)
    served = place.launch(candidate=place.subject("new", capacity=search))["candidate"].served
    assert served.capacity_per_s is None and served.capacity[-1].kept is False
    assert served.capacity_note.startswith("at least 200 /s, which kept the promises; at 400 /s the generator could not keep")


def test_a_capacity_is_looked_for_on_the_same_server(place):
    search = CapacitySearch(50, 4_000, 3 * SECOND, 3, 0.05)
    run = place.launch(candidate=place.subject("new", capacity=search))["candidate"]
    assert 400 < run.served.capacity_per_s <= 500
    assert len(place.serving["new"].deployed) == 1
    assert len({job.seed for job, _ in place.load.jobs}) == len(place.load.jobs)
    assert len({job.folder for job, _ in place.load.jobs}) == len(place.load.jobs)
