import dataclasses

import pytest

from harness.core.telemetry import Company, Energy, Gauge, HeldBack, Mark, Spread, Telemetry
from harness.reports._telemetry import seen_rows
from harness.reports.html import Html

SEEN = Telemetry(
    100_000_000,
    5,
    500_000_000,
    (Energy("GPU 0", 150.0, True, 20_000_000), Energy("package-0", 40.0, False, 1_000_000)),
    (
        Spread("GPU 0", Gauge.SM_CLOCK_MHZ, 1900.0, 1755.0, 1980.0, 5),
        Spread("GPU 0", Gauge.TEMPERATURE_CELSIUS, 60.0, 58.0, 63.0, 5),
        Spread("CPU", Gauge.FREQUENCY_MHZ, 2445.0, 2445.0, 2445.0, 5),
    ),
    (HeldBack("GPU 0", "power cap", 2),),
    (Company("GPU 0", 4711, 0.0),),
    (Mark("GPU 0 was held back: power cap", "in 2 of 5 samples"), Mark("GPU 0 was shared with process 4711", "it was not seen to compute")),
)
DARK = Telemetry(100_000_000, 5, 500_000_000, no_energy="the counter of <package-0> is locked")


def with_telemetry(trial, *seen):
    """The trial with telemetry on the first launches of each arm."""
    arms = []
    for arm in trial.distributions:
        padded = (*seen, *[None] * (len(arm.launches) - len(seen)))
        launches = tuple(dataclasses.replace(launch, telemetry=one) for launch, one in zip(arm.launches, padded, strict=True))
        arms.append(dataclasses.replace(arm, launches=launches))
    return dataclasses.replace(trial, distributions=tuple(arms))


@pytest.fixture
def page(results):
    def render(*seen):
        result = results.passing()
        first, *others = result.trials
        return Html().render(dataclasses.replace(result, trials=(with_telemetry(first, *seen), *others))).decode()

    return render


def test_an_arm_is_told_with_all_its_launches_together(results):
    cooler = dataclasses.replace(SEEN, energies=(Energy("GPU 0", 100.0, True, 20_000_000),), held_back=(), company=(), marks=())
    row = seen_rows(with_telemetry(results.passing().trials[0], SEEN, cooler))[0]
    assert (row.arm, row.launches) == ("baseline", 2)
    assert row.energy == "GPU 0 125 J, package-0 40.0 J beside it"
    assert row.power == "250 W"
    assert row.clocks == "SM 1,755 to 1,980 MHz, CPU 2,445 MHz"
    assert row.heat == "up to 63 °C"
    assert row.held_back == "GPU 0: power cap (in 1 of 2 launches)"
    assert row.company == "process 4711"
    assert row.marks[0] == "GPU 0 was held back: power cap (in 1 of 2 launches)"


def test_without_an_energy_counter_the_power_of_samples_is_told_as_such(results):
    sampled = dataclasses.replace(
        SEEN, energies=(), no_energy="too coarse", spreads=(Spread("GPU 0", Gauge.POWER_W, 301.0, 250.0, 320.0, 5),)
    )
    row = seen_rows(with_telemetry(results.passing().trials[0], sampled))[0]
    assert (row.energy, row.power) == ("–", "301 W in samples")
    assert row.notes == ("too coarse (in 1 of 1 launches)",)


def test_the_page_shows_energy_power_clocks_and_marks(page):
    html = page(SEEN).replace("\N{NO-BREAK SPACE}", " ")
    for told in ("GPU 0 150 J, package-0 40.0 J beside it", "300 W", "SM 1,755 to 1,980 MHz", "up to 63 °C", "process 4711"):
        assert told in html
    assert "<b>Marked:</b> candidate, GPU 0 was held back: power cap (in 1 of 1 launches)" in html


def test_the_page_says_why_there_is_no_energy_and_a_name_stays_text(page):
    assert "the counter of &lt;package-0&gt; is locked (in 1 of 1 launches)" in page(DARK)


def test_a_run_without_telemetry_has_no_such_table(page):
    assert "Telemetry: the machine" not in page()
