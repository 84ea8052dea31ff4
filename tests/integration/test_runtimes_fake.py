import time

import numpy as np
import psutil
import pytest

from harness.core.artifact import Dataset
from harness.core.plugin import Device
from harness.runtimes.fake import FakeRuntime, FakeSession
from harness.sources.fake import FakeModel

MODEL = FakeModel().model_dump()


@pytest.fixture
def classes():
    """A thousand samples whose first value is their class."""
    return Dataset({"x": np.arange(1000, dtype=np.float32).reshape(-1, 1)}, np.arange(1000) % 10)


def session(spend=lambda duration_ns: None, add_latency_us=0.0, **model):
    return FakeSession(MODEL | model, 1, spend, add_latency_us)


def asked(one, data, size=1000):
    return one.outputs(one.run(one.prepare(data.batch(0, size))))[0]


def test_every_sample_is_answered_with_its_class(classes):
    assert (asked(session(), classes).argmax(axis=1) == classes.targets).all()


@pytest.mark.parametrize("wrong", [0.1, 0.035])
def test_the_share_of_wrong_answers_is_the_one_that_is_asked_for(classes, wrong):
    assert (asked(session(wrong=wrong), classes).argmax(axis=1) != classes.targets).mean() == pytest.approx(wrong)


def test_unsteady_answers_are_other_ones_at_every_call_and_the_rest_stay(classes):
    one = session(unsteady_answers=0.1)
    first, again = (asked(one, classes).argmax(axis=1) for _ in range(2))
    assert [(arm != classes.targets).mean() for arm in (first, again)] == pytest.approx([0.1, 0.1], abs=0.03)
    assert (first != again).mean() == pytest.approx(0.18, abs=0.04)


def test_a_model_of_before_there_were_unsteady_ones_is_steady(classes):
    old = {name: value for name, value in MODEL.items() if name != "unsteady_answers"}
    one = FakeSession(old, 1, lambda duration_ns: None)
    assert (asked(one, classes) == asked(one, classes)).all()


def test_a_query_spends_its_latency_and_what_the_runtime_adds():
    spent = []
    one = session(spent.append, latency_us=200, add_latency_us=50)
    one.run(None)
    assert spent == [250_000]


def test_jitter_goes_round_its_mean_and_comes_again_the_same():
    spent, again = [], []
    for record in (spent, again):
        one = session(record.append, latency_us=100, jitter=0.2)
        for _ in range(11):
            one.run(None)
    assert spent == again
    assert (min(spent), max(spent)) == pytest.approx((80_000, 120_000))
    assert np.mean(spent) == pytest.approx(100_000)


def test_a_real_query_lasts_at_least_its_latency(workshop, classes):
    artifact = workshop.source("fake", classes, latency_us=300)
    with workshop.open("fake", artifact) as one:
        start = time.perf_counter_ns()
        one.run(one.prepare(classes.batch(0, 1)))
        assert time.perf_counter_ns() - start >= 300_000


def test_the_artifact_is_as_large_as_it_is_told_to_be_and_the_facts_are_those_of_the_session(workshop, classes):
    artifact = workshop.source("fake", classes, size_bytes=5_000)
    assert artifact.size_bytes == artifact.path.stat().st_size == 5_000
    assert [(spec.name, spec.dtype, spec.shape) for spec in artifact.inputs] == [("x", "float32", (None, 1))]
    with FakeRuntime().open(artifact, Device("cpu", 3)) as one:
        assert (one.facts.device, one.facts.precision, one.facts.threads) == ("cpu", "fake", 3)


def test_memory_that_the_model_is_told_to_hold_is_resident():
    before = psutil.Process().memory_info().rss
    held = session(memory_mib=64)
    assert psutil.Process().memory_info().rss - before > 32 * 2**20
    assert held.facts.threads == 1


def test_a_failure_comes_at_the_query_that_is_named_and_not_before():
    one = session(fail_at=3)
    one.run(None)
    one.run(None)
    with pytest.raises(RuntimeError, match="this fake model fails as it was told to"):
        one.run(None)


@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_answers_are_spoilt_from_the_query_that_is_named_on(classes, fail_at):
    one = session(fail_at=fail_at, failure="nan")
    spoilt = [bool(np.isnan(asked(one, classes, size=2)).any()) for _ in range(4)]
    assert spoilt == [query >= fail_at for query in (1, 2, 3, 4)]
