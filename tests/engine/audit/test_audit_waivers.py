import pytest

from harness.core.errors import BadInput
from harness.engine.audit.waivers import check_waivers

CLAUSE = "latency_p99: at most 5 ms"
PROMISES = [(CLAUSE, "one/fp32-cpu-b1"), (CLAUSE, "one/int8-cpu-b1")]
ONE = f"""\
version: 1
waivers:
  - clause: "{CLAUSE}"
    trials: "*/int8-*"
    who: Ada Example
    why: the new kernel comes with 1.5
    until: 2026-12-31
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "waivers.yaml"
        path.write_text(text)
        return path

    return write


def refused(path):
    with pytest.raises(BadInput) as caught:
        check_waivers(path, PROMISES)
    return [str(problem).replace(str(path), "waivers.yaml") for problem in caught.value.problems]


def test_a_waiver_is_for_its_clause_on_the_trials_that_it_names(file):
    (waiver,) = check_waivers(file(ONE), PROMISES)
    assert waiver.is_for(CLAUSE, "one/int8-cpu-b1") and not waiver.is_for(CLAUSE, "one/fp32-cpu-b1")
    assert not waiver.is_for("accuracy: at least 95 %", "one/int8-cpu-b1")
    assert (waiver.who, waiver.line) == ("Ada Example", 3)


def test_a_waiver_counts_through_its_last_day(file):
    (waiver,) = check_waivers(file(ONE), PROMISES)
    assert waiver.counts_on("2026-12-31") and not waiver.counts_on("2027-01-01")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("at most 5 ms", "at most 6 ms", "waivers.yaml:3 waivers[0].clause: 'latency_p99: at most 6 ms' is not promised by the scenario\n"),
        ("*/int8-*", "*/int4-*", "waivers.yaml:4 waivers[0].trials: no trial of this clause matches '*/int4-*'\n"),
        ("    who: Ada Example\n", "", "waivers.yaml:3 waivers[0].who: is missing"),
        ("2026-12-31", "soon", "waivers.yaml:7 waivers[0].until: 'soon' is not a day: write it as '2027-01-31', "),
        ("    why:", "    wy:", "waivers.yaml:6 waivers[0].wy: unknown key 'wy'\n  did you mean 'why'?"),
        ("version: 1", "version: 2", "waivers.yaml:1 version: "),
    ],
)
def test_a_waiver_that_is_wrong_is_told_with_its_line(file, old, new, told):
    assert any(problem.startswith(told) for problem in refused(file(ONE.replace(old, new))))


def test_the_nearest_promise_is_offered(file):
    assert refused(file(ONE.replace("at most 5 ms", "at most 5ms")))[0].endswith(f"did you mean '{CLAUSE}'?")
