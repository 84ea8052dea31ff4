import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import results

from harness.core.errors import BadInput, CannotMeasure, MissingPackage
from harness.core.estimate import ConfidenceInterval, Estimate
from harness.core.result import TrialState
from harness.core.trend import TrendPoint
from harness.core.units import Unit
from harness.store import history as module
from harness.store.history import History, history_here

PROJECT = "github.com/owner/digits"
TRIAL = "digits-resnet50/int8-cpu-b1"


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "deep" / "history.sqlite"))


def session(day=1, *, value=1.4e6, trials=None, **changes):
    """A run of one trial with one number."""
    estimate = Estimate("latency_p50", Unit.NANOSECONDS, "lower", value, ConfidenceInterval(value - 1e4, value + 2e4, 0.95), 5, "launches")
    made = trials if trials is not None else (results.trial("int8", charts=False, estimates=(estimate,)),)
    started = f"2026-{10 + day // 31:02}-{1 + day % 31:02}T08:00:00+00:00"
    return results.result(**({"id": f"run-{day:03}", "started_at": started, "trials": made, "comparisons": (), "sla": ()} | changes))


def trends(history, **wanted):
    return history.trends(PROJECT, tolerance=lambda trial, metric: 0.02, **wanted)


def test_sessions_come_back_in_the_order_of_time_with_all_that_was_known(history):
    history.append(session(2, value=1.5e6), PROJECT, "topic")
    history.append(session(1, environment=replace(results.ENVIRONMENT, commit=None, dirty=None)), PROJECT, None)
    (trend,) = trends(history)
    assert (trend.trial, trend.metric, trend.unit, trend.better) == (TRIAL, "latency_p50", Unit.NANOSECONDS, "lower")
    assert trend.environment_key == "4f0aa1c3b977"
    commit = results.ENVIRONMENT.commit
    assert trend.points == (
        TrendPoint("2026-10-02T08:00:00+00:00", "run-001", None, None, 1.4e6, 1.39e6, 1.42e6, False),
        TrendPoint("2026-10-03T08:00:00+00:00", "run-002", commit, "topic", 1.5e6, 1.49e6, 1.52e6, True),
    )
    assert trend.changes == ()


def test_times_of_another_zone_are_kept_in_utc(history):
    history.append(session(1, started_at="2026-10-02T01:30:00+02:00"), PROJECT, None)
    assert trends(history)[0].points[0].at == "2026-10-01T23:30:00+00:00"


def test_a_run_that_is_appended_twice_is_one_session(history):
    history.append(session(1), PROJECT, "main")
    history.append(session(1), PROJECT, "main")
    assert len(trends(history)[0].points) == 1


def test_numbers_of_launches_samples_and_the_artifact_are_all_kept_exact_ones_without_an_interval(history):
    history.append(session(1, trials=(results.trial("int8", charts=False),)), PROJECT, None)
    found = {trend.metric: trend for trend in trends(history)}
    assert set(found) == {"accuracy", "latency_p50", "latency_p99", "model_size", "throughput"}
    assert (found["model_size"].points[0].low, found["model_size"].points[0].high) == (None, None)
    assert found["accuracy"].unit is Unit.FRACTION and found["throughput"].better == "higher"


def test_an_open_interval_comes_back_open(history):
    estimate = Estimate("load_time", Unit.NANOSECONDS, "lower", 1.0, ConfidenceInterval(-math.inf, math.inf, 0.95), 2, "launches")
    history.append(session(1, trials=(results.trial(charts=False, estimates=(estimate,)),)), PROJECT, None)
    point = trends(history)[0].points[0]
    assert (point.low, point.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("state", [state for state in TrialState if state not in (TrialState.MEASURED, TrialState.NEW)])
def test_only_what_was_measured_in_this_session_is_kept(history, state):
    trial = replace(results.trial(charts=False), state=state)
    history.append(session(1, trials=(trial,)), PROJECT, None)
    assert trends(history) == []
    history.append(session(2, trials=(replace(trial, state=TrialState.NEW),)), PROJECT, None)
    assert [len(trend.points) for trend in trends(history)] == [1] * 5


def test_projects_machines_and_branches_stay_apart(history):
    here, elsewhere = (results.trial(charts=False, environment_key=key) for key in ("here", "elsewhere"))
    history.append(session(1, trials=(here,)), PROJECT, "main")
    history.append(session(2, trials=(elsewhere,)), PROJECT, "topic")
    history.append(session(3, trials=(here,)), "another", "main")
    assert {(trend.environment_key, len(trend.points)) for trend in trends(history)} == {("here", 1), ("elsewhere", 1)}
    assert {trend.environment_key for trend in trends(history, environment_keys=["here"])} == {"here"}
    assert {trend.environment_key for trend in trends(history, ref="topic")} == {"elsewhere"}
    assert trends(history, ref="nowhere") == trends(history, trials=["x"]) == trends(history, trials=[]) == []
    assert [trend.metric for trend in trends(history, metrics=["accuracy"])] == ["accuracy", "accuracy"]
    assert (history.trials(PROJECT), history.trials("nobody's")) == ([TRIAL], [])
    assert history.metrics("another") == ["accuracy", "latency_p50", "latency_p99", "model_size", "throughput"]


def test_a_step_is_a_change_when_it_is_as_large_as_the_metrics_tolerance(history):
    for day in range(1, 25):
        history.append(session(day, value=1.40e6 + 1e3 * (day % 3) + (5e4 if day > 12 else 0)), PROJECT, "main")
    (change,) = trends(history)[0].changes
    assert (change.index, change.before, change.after) == (12, pytest.approx(1.401e6), pytest.approx(1.451e6))
    asked = []
    (quiet,) = history.trends(PROJECT, tolerance=lambda *of: asked.append(of) or 0.05)
    assert quiet.changes == () and asked == [(TRIAL, "latency_p50")]


def test_a_series_shows_its_newest_sessions(history, monkeypatch):
    monkeypatch.setattr(module, "NEWEST_SESSIONS", 5)
    for day in range(1, 9):
        history.append(session(day), PROJECT, "main")
    assert [point.run for point in trends(history)[0].points] == [f"run-{day:03}" for day in (4, 5, 6, 7, 8)]


def test_to_read_makes_no_file(history, tmp_path):
    assert trends(history) == history.trials(PROJECT) == history.metrics(PROJECT) == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_which_nothing_was_measured_is_a_session_all_the_same(history):
    history.append(session(1, trials=()), PROJECT, None)
    with closing(sqlite3.connect(history.location)) as connection:
        assert connection.execute("select run from harness_session").fetchall() == [("run-001",)]


WRITER = """
import sys
from dataclasses import replace
sys.path[:0] = [{tests!r}]
from fakes import results
from harness.store.history import History
run = results.result(trials=(results.trial(charts=False),), comparisons=(), sla=())
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    History(sys.argv[1]).append(replace(run, id=f"{{sys.argv[2]}}-{{number}}"), {project!r}, None)
"""


def test_two_gates_that_append_at_once_both_land_also_in_a_file_that_is_new(history):
    program = WRITER.format(tests=str(Path(results.__file__).parents[1]), project=PROJECT)
    writers = [
        subprocess.Popen([sys.executable, "-c", program, history.location, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert {len(trend.points) for trend in trends(history)} == {40}


def refused(history, *, reading=True):
    """What is said when a session is appended, and when trends are asked for."""
    said = []
    for ask in (lambda: history.append(session(9), PROJECT, None), lambda: trends(history))[: 2 if reading else 1]:
        with pytest.raises(CannotMeasure) as caught:
            ask()
        assert history.location in caught.value.message
        assert caught.value.hint.endswith("or set HARNESS_HISTORY to another file, or to 'off'")
        said.append(str(caught.value))
    return said


def test_a_newer_schema_is_left_as_it_is(history):
    history.append(session(1), PROJECT, None)
    with closing(sqlite3.connect(history.location)) as connection:
        connection.execute("insert into harness_schema values (3)")
        connection.commit()
    before = Path(history.location).read_bytes()
    for told in refused(history):
        assert "has schema 3, this program knows 2\n  use the harness that wrote it, or a newer one" in told
    assert Path(history.location).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda data: b"no database" * 500, lambda data: data[:4096] + b"\xff" * (len(data) - 4096)])
def test_a_damaged_file_is_told_and_left_as_it_is(history, damage):
    history.append(session(1), PROJECT, None)
    file = Path(history.location)
    file.write_bytes(damage(file.read_bytes()))
    before = file.read_bytes()
    for told in refused(history):
        assert "move it away, and a new one is begun" in told
    assert file.read_bytes() == before


def test_a_file_that_another_program_holds_is_told_after_a_while(history, monkeypatch):
    history.append(session(1), PROJECT, None)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    with closing(sqlite3.connect(history.location)) as connection:
        connection.execute("begin exclusive")
        for told in refused(history):
            assert "database is locked\n  another program has held it for long" in told


def test_while_another_gate_writes_trends_can_be_read(history, monkeypatch):
    history.append(session(1), PROJECT, None)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    with closing(sqlite3.connect(history.location)) as connection:
        connection.execute("begin immediate")
        assert len(trends(history)) == 1


def test_a_file_that_may_not_be_written_can_still_be_read(history):
    history.append(session(1), PROJECT, None)
    history = History(f"sqlite:///file:{history.location}?mode=ro&uri=true")
    with pytest.raises(CannotMeasure, match="cannot be written: attempt to write a readonly database") as caught:
        history.append(session(2), PROJECT, None)
    assert caught.value.hint.startswith("this user may not write there")
    assert len(trends(history)[0].points) == 1


def test_a_folder_in_place_of_the_file_is_told(tmp_path):
    assert "unable to open database file" in refused(History(str(tmp_path)))[0]


def test_a_full_disk_loses_no_earlier_session(small_disk):
    subprocess.run(["mount", "-o", "remount,size=104k", small_disk], check=True)  # empty tables and their indexes take 64 kB
    history = History(str(small_disk / "history.sqlite"))
    history.append(session(1), PROJECT, None)
    with pytest.raises(CannotMeasure, match="cannot be written: database or disk is full") as caught:
        for day in range(2, 200):
            history.append(session(day), PROJECT, None)
    assert caught.value.hint.startswith("the disk is full: free some space")
    kept = [point.run for point in trends(history)[0].points]
    assert kept == [f"run-{day:03}" for day in range(1, len(kept) + 1)]


def test_the_variable_names_a_file_a_database_or_nothing():
    assert history_here({"HARNESS_HISTORY": "/data/h.sqlite"}) == History("/data/h.sqlite")
    assert history_here({"HARNESS_HISTORY": "postgresql+psycopg://host/db"}) == History("postgresql+psycopg://host/db")
    assert history_here({"HARNESS_HISTORY": "OFF"}) is None
    for environment in ({}, {"HARNESS_HISTORY": ""}):
        assert history_here(environment).location.endswith("/harness/history.sqlite")


def test_a_database_url_of_sqlite_is_the_same_file(history, tmp_path):
    history.append(session(1), PROJECT, None)
    url = History(f"sqlite:///{history.location}")
    url.append(session(2), PROJECT, None)
    assert url.told == history.told == history.location
    assert len(trends(history)[0].points) == 2


@pytest.mark.parametrize(
    "location", ["oracle9://user:secret@host/db", "postgresql+psycopg:/user:secret@host://", "mysql+nothing://secret@x"]
)
def test_what_is_no_database_known_here_is_refused_without_telling_a_password(location):
    with pytest.raises(BadInput) as caught:
        History(location).append(session(1), PROJECT, None)
    assert str(caught.value).startswith("HARNESS_HISTORY: ") and "secret" not in str(caught.value)


def test_a_driver_that_is_missing_answers_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    history = History("postgresql+psycopg://user:secret@host/db")
    assert history.told == "postgresql+psycopg://user:***@host/db"
    with pytest.raises(MissingPackage) as caught:
        history.append(session(1), PROJECT, None)
    assert caught.value.hint == "install it with: pip install 'harness[postgresql]'"


def test_only_the_history_loads_the_database_library():
    ask = "import sys, harness.store.history, harness.engine.keep_history, harness.commands.history; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
