import re
from html import unescape

import pytest
from fakes.served import MS, load_run, result_under_load

from harness.core.serving import CapacityStep, Lateness, Window
from harness.reports._served import LoadRow, load_told, served_views
from harness.reports.html import Html


@pytest.fixture(scope="module")
def result(results):
    return result_under_load(results)


@pytest.fixture(scope="module")
def words(result):
    page = Html().render(result).decode()
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page[page.index('<h2 id="served">') :])).split())


def test_open_and_closed_loop_are_told_apart_by_name(words):
    assert "Open loop: poisson arrivals at 200 /s, the same for both arms." in words
    assert "Closed loop: 16 users" in words and "these latencies flatter it" in words


def test_what_broke_is_told_by_its_kind(words):
    assert "6 (503: 4, timeout: 2)" in words


def test_every_launch_of_both_arms_has_a_row(words):
    assert all(f"{arm} {number} 6,400" in words for arm in ("baseline", "candidate") for number in range(1, 6))


def test_a_search_for_capacity_is_shown_step_by_step_with_its_reasons(words):
    assert "p99 is 61 ms, promised are 50 ms" in words
    assert "The search for capacity" in words


def test_both_arms_are_drawn_and_a_trial_without_capacity_has_no_curve(result):
    served, closed = served_views(result)
    assert "baseline p99 up to 120 ms" in served.course.label and "candidate p99 up to 150 ms" in served.course.label
    assert served.capacity is not None and closed.capacity is None


def test_a_search_that_the_generator_ended_tells_its_lower_bound_beside_the_curve(results):
    from harness.core.result import ServedArm

    note = "at least 200 /s, which kept the promises; at 400 /s the generator could not keep its schedule"
    steps = (CapacityStep(200, 200, MS, MS, 0, 600, True), CapacityStep(400, 390, MS, MS, 0, 1200, False, "the generator was late"))
    loads = tuple(load_run(capacity=steps, capacity_note=told) for told in ("", note))
    trial = results.trial("int8", load="locust", served=(ServedArm("candidate", loads),))
    result = results.result(trials=(trial,), comparisons=(), sla=())
    assert served_views(result)[0].notes == (f"candidate 2 has no capacity: {note}.",)
    assert "candidate 2 has no capacity: at least 200 /s" in " ".join(Html().render(result).decode().split())


def test_machines_that_sent_are_named_with_how_nearly_at_once_they_began():
    told = load_told(load_run(generator_hosts=("edge-1", "edge-2"), start_skew_ns=2 * MS))
    assert "sent from edge-1, edge-2 (begun within 2.00 ms of each other). Latency counts" in told


def test_users_by_a_shape_are_told_as_such():
    shape = "users as the LoadTestShape Steps asks for them, at most 6 at a time"
    told = load_told(load_run(kind="closed", arrivals=shape, rate_per_s=None, locustfile="mine.py"))
    assert told.startswith(f"Closed loop: {shape}, each of whom sends again when its answer has come, by the Locust file mine.py.")


def test_the_launch_that_is_drawn_is_the_one_in_the_middle(results):
    from harness.core.result import ServedArm

    loads = tuple(load_run(windows=tuple(Window(s * 10**9, 10**9, 9, 0, MS, ms * MS) for s in range(3))) for ms in (90, 10, 30))
    trial = results.trial("int8", served=(ServedArm("candidate", loads),))
    (view,) = served_views(results.result(trials=(trial,), comparisons=(), sla=()))
    assert "up to 30.0 ms" in view.course.label


def test_a_server_that_tells_nothing_leaves_a_gap_and_no_zero():
    row = LoadRow("candidate", 1, load_run(server=None, usage=(), within_limit=None, limit_ns=None))
    assert (row.load.mean_batch, row.queue_ns, row.server_cpu, row.server_bytes, row.load.in_time_per_s) == (None,) * 5


def test_requests_that_were_never_sent_are_told_beside_the_lateness(results):
    from harness.core.result import ServedArm

    late = load_run(lateness=Lateness(MS, 2 * MS, 3 * MS, 17))
    trial = results.trial("int8", served=(ServedArm("candidate", (late,)),))
    assert "17 never sent" in Html().render(results.result(trials=(trial,), comparisons=(), sla=())).decode()


def test_an_own_locust_file_is_named():
    assert "by the Locust file loads/mine.py" in load_told(load_run(locustfile="loads/mine.py"))
