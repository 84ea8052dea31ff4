import csv
import io
import json
import re
import zipfile

import pytest
from click.testing import CliRunner
from fakes import machines
from fakes.workplaces import workplace

from harness.cli import cli
from harness.core.comparison import SlaState
from harness.core.errors import BadInput, CannotMeasure
from harness.store.runs import RESULT, RunFolder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def save(place):
    def written(*sessions):
        for one in sessions:
            RunFolder(place / "reports" / one.id).save(one, {})
            (place / "reports" / one.id / "launches.jsonl").write_text("{}\n")
        return [one.id for one in sessions]

    return written


@pytest.fixture
def four(save):
    """A small and a large machine, one just like the large, and one with an older scenario."""
    older = machines.PARTS | {"model": "9999ffff"}
    return save(
        machines.run("relic", 150, price=0.1, number=1, parts=older, text=machines.TEXT.replace("width: 64", "width: 48")),
        machines.run("small", 100, price=1.0, number=2, cores=1, states={"latency_p99": SlaState.BROKEN}),
        machines.run("large", 190, price=2.1, number=3),
        machines.run("twin", 190, price=2.1, number=4),
    )


def told(*words):
    done = CliRunner().invoke(cli, ["compare", *words], catch_exceptions=False, standalone_mode=False)
    return done.stdout


def refused(*words):
    done = CliRunner().invoke(cli, list(words), standalone_mode=False)
    assert done.stdout == ""
    return done.exception


def test_the_answer_comes_first_then_why_then_what_could_change_it(four):
    first, *rest = [part.splitlines()[0] for part in told(*four).split("\n\n")]
    costs = r"[\d.]+ USD and [\d.]+ USD a million inferences"
    assert re.fullmatch(
        rf"shop: (large and twin|twin and large) cannot be told apart in cost: each keeps both promises, for {costs}", first
    )
    assert rest[:2] == ["why", "what could change it"]


def test_the_older_scenario_is_listed_with_what_differs(four):
    (part,) = [part for part in told(*four).split("\n\n") if part.startswith("left out: ")]
    assert f"run {four[0]} of relic" in part and "another state of the scenario, measured earlier" in part
    assert "model: 9999ffff here, aaaa1111 there" in part
    assert "scenario: 'args: {width: 48}' only here" in part


def test_the_arithmetic_is_told_line_by_line_and_can_be_followed(four):
    (part,) = [part for part in told(*four, "--utilisation", "50 %").split("\n\n") if part.startswith("cost of large")]
    rate = float(re.search(r"rate +([\d,.]+) /s", part)[1].replace(",", ""))
    hourly = float(re.search(r"inferences an hour +([\d,.]+) ", part)[1].replace(",", ""))
    cost = float(re.search(r"cost of a million +([\d.]+) USD", part)[1])
    assert hourly == pytest.approx(rate * 0.5 * 3600, rel=1e-6)
    assert cost == pytest.approx(2.1 / hourly * 1e6, rel=1e-6)
    assert re.search(r"utilisation +50 % .* --utilisation$", part, re.MULTILINE)
    assert re.search(r"price .* the run's scenario$", part, re.MULTILINE)


def test_the_json_has_all_of_it_and_is_strict(four):
    document = json.loads(told(*four, "--json"), parse_constant=lambda name: pytest.fail(name))
    assert document["schema"] == 1
    (answer,) = document["answers"]
    assert {answer["winner"], *answer["ties"]} == {"large", "twin"} and answer["decided"] is False
    assert [machine["name"] for machine in document["machines"]] == ["small", "large", "twin"]
    assert [one["machine"] for one in answer["left_out"]] == ["relic"]


def test_the_csv_has_a_row_for_every_machine_and_one_for_what_is_left_out(four, place):
    told(*four, "--csv", "out.csv")
    rows = list(csv.DictReader(io.StringIO((place / "out.csv").read_text())))
    assert [(row["machine"], row["compared"]) for row in rows] == [("small", "yes"), ("large", "yes"), ("twin", "yes"), ("relic", "no")]
    by_name = {row["machine"]: row for row in rows}
    assert by_name["small"]["keeps_all"] == "no" and by_name["small"]["SLA latency_p99: at most 50 ms"] == "BROKEN"
    assert float(by_name["large"]["cost_per_million"]) == pytest.approx(2.1e6 / 3600 / float(by_name["large"]["throughput [per_s]"]))
    assert {by_name["large"]["cheapest"], by_name["twin"]["cheapest"]} == {"yes", "tie"}
    assert "model: 9999ffff here" in by_name["relic"]["reason"]


def test_a_cell_that_a_spreadsheet_would_run_is_text(save, place):
    changed = machines.run("b", number=2, parts=machines.PARTS | {"model": "1"})
    words = save(machines.run("a"), machines.run("c", number=3), changed)
    told(*words, "--csv", "out.csv")
    cells = [cell for row in csv.reader(io.StringIO((place / "out.csv").read_text())) for cell in row]
    assert not [cell for cell in cells if re.match(r"[=+@\t]|-(?!\d)", cell)]


def test_the_page_is_written_and_named(four, place):
    out = CliRunner().invoke(cli, ["compare", *four, "--html", "out/compare.html"], catch_exceptions=False, standalone_mode=False)
    page = (place / "out" / "compare.html").read_text()
    assert "wrote out/compare.html" in out.stderr
    assert "cannot be told apart in cost" in re.search("<h1>(.*?)</h1>", page, re.DOTALL)[1]
    assert page.index("Why</h2>") < page.index("What could change it</h2>") < page.index("The cost, line by line</h2>")


def test_names_prices_and_loads_come_from_the_command_line(save):
    first, second = save(machines.run("cpu", 100, price=None), machines.run("cpu", 300, number=2, price=None))
    words = (f"left=reports/{first}", f"right={second}", "--price", "left=1.0 EUR", "--price", "right=2 EUR", "--load", "1,000 /s")
    out = told(*words)
    assert out.startswith("shop: right is the cheapest machine that keeps both promises: ")
    assert re.search(r"1,000 /s +4 \(5,840 EUR a month\) +(10 \(7,300|11 \(8,030) EUR a month\) +right", out)


def test_prices_come_from_a_hardware_file(save, place):
    words = save(machines.run("a", price=None), machines.run("b", number=2, price=None))
    (place / "hardware.yaml").write_text("version: 1\ntargets:\n  a: {price_per_hour: 1.0}\n  b: {price_per_hour: 3.0}\n")
    assert told(*words, "--hardware", "hardware.yaml").startswith("shop: a is the cheapest machine that keeps both promises")
    (place / "hardware.yaml").write_text("version: 1\ntargets:\n  a: {price_per_hour: much}\n")
    error = refused("compare", *words, "--hardware", "hardware.yaml")
    assert isinstance(error, BadInput) and "hardware.yaml:3" in str(error) and "targets.a.price_per_hour" in str(error)


def test_a_control_character_from_another_machine_does_not_reach_the_terminal(save):
    words = save(machines.run("a", notes=()), machines.run("b", number=2, program_version="0.1\x1b[31m"))
    assert "\x1b" not in told(*words)


def test_a_run_goes_from_machine_to_machine_as_one_file(four, place):
    archives = []
    for identity in four:
        done = CliRunner().invoke(
            cli, ["export", "run", identity, "--output", f"{identity}.zip"], catch_exceptions=False, standalone_mode=False
        )
        archives.append(done.stdout.strip())
    expected = told(*four)
    assert told(*archives) == expected
    done = CliRunner().invoke(cli, ["import", *archives, "--reports", "elsewhere"], catch_exceptions=False, standalone_mode=False)
    assert done.stdout.split() == [f"elsewhere/{identity}" for identity in four]
    assert (place / "elsewhere" / four[0] / "report.html").is_file()
    assert told(*four, "--reports", "elsewhere") == expected
    again = CliRunner().invoke(cli, ["import", archives[0], "--reports", "elsewhere"], catch_exceptions=False, standalone_mode=False)
    assert again.stdout == f"elsewhere/{four[0]} (was there already, the same)\n"


def test_a_damaged_file_is_not_compared(four, place):
    CliRunner().invoke(cli, ["export", "run", four[0], "--output", "run.zip"], catch_exceptions=False, standalone_mode=False)
    with zipfile.ZipFile("run.zip") as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile("run.zip", "w") as new:
        for name, data in members.items():
            new.writestr(name, data.replace(b"relic", b"magic") if name.endswith(RESULT) else data)
    assert "is not what SHA256SUMS says" in str(refused("compare", "run.zip", four[1]))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "'nowhere' is not a run here"),
        (["nowhere.zip"], "nowhere.zip: there is no such file"),
        (["TWICE"], "is given twice: it counts once"),
        (["--price", "relik=1"], "did you mean 'relic'"),
        (["--price", "large=1 EUR"], "prices in several currencies"),
        (["--energy-price", "0.3 EUR/kWh"], "prices in several currencies"),
        (["--utilisation", "2"], "--utilisation: '2' is not a share"),
    ],
)
def test_bad_words_are_refused_with_the_next_step(four, words, told):
    error = refused("compare", *four, *(four[:1] if words == ["TWICE"] else words))
    assert isinstance(error, BadInput) and told in str(error)


def test_runs_without_timings_are_not_compared(save):
    words = save(machines.run("a", trials=()), machines.run("b", number=2, trials=()))
    assert isinstance(refused("compare", *words), CannotMeasure)


@pytest.mark.slow
def test_a_real_run_keeps_the_price_of_its_target_and_what_it_is_made_of(tmp_path):
    place = workplace(tmp_path / "repository", tmp_path / "cache")
    place.replace("scenarios/tiny.yaml", "recipes:", "hardware: [{name: small, cores: 1, price_per_hour: 1.5, currency: EUR}]\nrecipes:")
    assert place.harness("run", "scenarios").code == 0
    place.replace("scenarios/tiny.yaml", "name: small, cores: 1, price_per_hour: 1.5", "name: same, cores: 1, price_per_hour: 9")
    assert place.harness("run", "scenarios").code == 0
    first, second = sorted(path.name for path in (place.root / "reports").glob("2*"))
    ended = place.harness("compare", first, second, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert [machine["price"] for machine in ended.summary["machines"]] == [
        {"per_hour": 1.5, "currency": "EUR", "source": "the run's scenario"},
        {"per_hour": 9.0, "currency": "EUR", "source": "the run's scenario"},
    ]
    (answer,) = ended.summary["answers"]
    assert answer["left_out"] == [] and len(answer["offers"]) == 2
    assert answer["winner"] == "small"
