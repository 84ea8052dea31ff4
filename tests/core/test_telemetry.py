import pytest
from pydantic import TypeAdapter, ValidationError

from harness.core.scenario import MeasureSpec
from harness.core.telemetry import Company, Energy, Gauge, HeldBack, Mark, Spread, Telemetry

WHOLE = Telemetry(
    100_000_000,
    5,
    600_000_000,
    (Energy("GPU 0", 3.5, True, 20_000_000), Energy("GPU 1", 1.5, True, 20_000_000), Energy("package-0", 70.0, False, 1_000_000)),
    (Spread("GPU 0", Gauge.POWER_W, 300.0, 290.0, 310.0, 5),),
    (HeldBack("GPU 0", "power cap", 3),),
    (Company("GPU 0", 4711, None),),
    (Mark("GPU 0 was held back: power cap", "in 3 of 5 samples"),),
)


def test_the_energy_of_a_launch_is_that_of_the_device_it_ran_on():
    assert WHOLE.joules == 5.0


def test_without_a_counter_there_is_no_energy():
    assert Telemetry(1, 0, 1, no_energy="why").joules is None
    assert Telemetry(1, 0, 1).joules is None


def test_a_gauge_is_found_by_name_and_source():
    assert WHOLE.spread(Gauge.POWER_W).mean == 300.0
    assert WHOLE.spread(Gauge.POWER_W, "GPU 1") is None


def test_it_is_the_same_after_the_journal_and_small_in_it():
    adapter = TypeAdapter(Telemetry)
    line = adapter.dump_json(WHOLE)
    assert adapter.validate_json(line) == WHOLE
    assert len(line) < 1_000


def spec(value):
    return MeasureSpec.model_validate({"telemetry": value}).telemetry


def test_telemetry_is_on_every_tenth_of_a_second_unless_the_scenario_says_otherwise():
    assert (MeasureSpec().telemetry.period, MeasureSpec().telemetry.off) == (100_000_000, False)
    assert spec({"period": "250 ms"}).period == 250_000_000


@pytest.mark.parametrize("value", ["off", False])
def test_it_can_be_switched_off(value):
    assert spec(value).off


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("on", "write 'off', or how often to look"),
        (True, "write 'off', or how often to look"),
        ("100 ms", "write 'off', or how often to look"),
        ({"period": "1 ms"}, "looking more often than every 10 ms would disturb what is measured"),
        ({"period": 100}, "has no unit"),
        ({"perod": "1 s"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_not_understood_is_refused(value, told):
    with pytest.raises(ValidationError, match=told):
        spec(value)
