"""Every command as a user types it: what it prints, on which stream, and the exit code."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from fakes.workplaces import BASELINE, SCENARIO, TRIAL, Workplace, accepted, same_for_all, workplace

from harness import plugins

HELP = """\
Usage: harness [OPTIONS] COMMAND [ARGS]...

  A performance gate for machine-learning inference.

  Exit codes: 0 pass, 1 regression or SLA broken, 2 bad input, 3 could not be
  measured or not decided, 70 a bug in harness.

Options:
  --version      Show the version and exit.
  -v, --verbose  Log what is done, to stderr.
  -h, --help     Show this message and exit.

Commands:
  audit     Prove that a release keeps its SLA, or verify such a proof.
  baseline  Accept, list, show and remove baselines.
  bisect    Find the commit that made a metric worse.
  compare   Compare machines: promises kept, speed, cost.
  diff      Compare two saved runs, or files of other benchmark tools.
  doctor    Say whether this machine is fit to measure on.
  export    Write a saved run as one file, or for another tool.
  gate      Measure what changed, compare with the baselines, decide.
  history   Show how each metric and promise went over the sessions.
  import    Take over a run that 'harness export run' wrote.
  init      Write a first scenario and a CI workflow into your repository.
  list      Show the plugins of a family, with their help.
  profile   Show where the time of a query goes, operator by operator.
  report    Render a saved run again.
  run       Measure scenarios (files, or folders of them) and save a run.
  search    Find the best recipe of a declared search space.
  serve     Serve an optimized model over the network, with dynamic batching.
  validate  Check scenarios; nothing of them is run.
"""
NO_PATHS = "Error: name a scenario file or a folder of scenarios, such as 'scenarios/'\n"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A repository with a scenario, in which nothing has been run; tests leave it as it is."""
    return workplace(tmp_path_factory.mktemp("cli") / "repository", tmp_path_factory.getbasetemp() / "cli-cache")


@pytest.fixture(scope="module")
def printed(tmp_path_factory, empty):
    """A run that was measured with ``--json``: what it printed, and its repository."""
    root = Path(shutil.copytree(empty.root, tmp_path_factory.mktemp("measured") / "repository"))
    place = Workplace(root, empty.cache)
    return place.harness("run", "scenarios", "--json"), place


@pytest.fixture
def measured(printed, tmp_path):
    """A copy of the repository with that run, for a test to change."""
    return Workplace(Path(shutil.copytree(printed[1].root, tmp_path / "repository", symlinks=True)), printed[1].cache)


@pytest.fixture
def gated(tmp_path, tmp_path_factory):
    """A repository whose baseline is committed."""
    return accepted(tmp_path_factory.getbasetemp(), tmp_path / "repository")


def test_the_help_tells_every_command_and_every_exit_code(empty):
    ended = empty.harness("--help")
    assert (ended.code, ended.out, ended.err) == (0, HELP, "")


def test_without_a_command_the_help_is_shown_and_nothing_passes(empty):
    ended = empty.harness()
    assert (ended.code, ended.out, ended.err) == (2, "", HELP)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "run",
            ["--set KEY.PATH=VALUE", "--only PATTERN", "--resume RUN", "--json", "--reports DIRECTORY", "[default: reports]", "--on FLEET"],
        ),
        (
            "gate",
            ["--against REF", "--budget TIME", "[default: 60 s]", "--all", "--strict", "--new-baselines [accept|fail]", "[default: fail]"],
        ),
        ("validate", ["--set KEY.PATH=VALUE"]),
        ("list", ["passes, runtimes, serving, loads, metrics, reports, sources or fleets"]),
        ("init", ["[FOLDER]"]),
        ("report", ["[RUN]", "--format [html|markdown|junit|json|text|github]"]),
        ("baseline", ["accept", "list", "show", "remove"]),
    ],
)
def test_every_command_has_help_with_its_options(empty, command, told):
    ended = empty.harness(command, "-h")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: harness {command} ")
    words = " ".join(ended.out.split())
    assert [word for word in told if word not in words] == []


def test_the_version_is_that_of_the_package(empty):
    import harness

    ended = empty.harness("--version")
    assert (ended.code, ended.out) == (0, f"harness, version {harness.__version__}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["measure"], "No such command 'measure'."),
        (["gate", "scenarios", "--now"], "No such option '--now'."),
        (["gate", "scenarios", "--new-baselines", "maybe"], "'maybe' is not one of 'accept', 'fail'."),
        (["list", "plugins"], "Invalid value for 'FAMILY': 'plugins' is not one of 'passes', 'runtimes', 'serving', 'loads', "),
        (["baseline", "show"], "Missing argument 'TRIAL'."),
        (["run"], NO_PATHS),
        (["gate"], NO_PATHS),
        (["validate"], NO_PATHS),
    ],
)
def test_what_the_command_line_does_not_know_is_told_with_the_way_to_the_help(empty, words, message):
    ended = empty.harness(*words)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(r"^Try 'harness [a-z ]*--help' for help\.$", ended.err, flags=re.MULTILINE)
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["gate", "scenarios", "--budget", "soon"],
            "--budget: 'soon' is not a quantity: write a number and a unit, .*\n  write it as '60s' or '2 min'",
        ),
        (["gate", "scenarios", "--budget", "5 GiB"], "--budget: '5 GiB' is not a time\n  write it as '60s' or '2 min'"),
        (["gate", "scenarios", "--budget", "0 s"], "--budget: '0 s' is not a time\n  write it as '60s' or '2 min'"),
        (["validate", "scenarios/tyni.yaml"], "scenarios/tyni.yaml: does not exist(\n  did you mean .*)?"),
        (["validate", "scenario"], "scenario: does not exist(\n  did you mean .*)?"),
        (["validate", ".git"], ".git: holds no scenario .*\n  'harness init' writes a first one"),
        (["run", "scenarios", "--only", "int8"], f"no trial matches 'int8'\n  trials are {TRIAL}"),
        (["validate", "scenarios", "--set", "seed"], "--set seed: write --set key.path=value, such as --set measure.duration='2 s'"),
        (
            ["validate", "scenarios", "--set", "model.fake.latency=1"],
            "--set model.fake.latency=1 model.fake.latency: unknown key 'latency'\n.*latency_us.*",
        ),
        (["run", "--resume", "latest"], "'latest' is not a run here\n  none under reports: 'harness run' makes one"),
        (["report"], "'latest' is not a run here\n  none under reports: 'harness run' makes one"),
        (["baseline", "accept"], "'latest' is not a run here\n  none under reports: 'harness run' makes one"),
        (["baseline", "show", TRIAL], f"there is no baseline of '{TRIAL}'\n  'harness baseline list' shows those that there are"),
        (["baseline", "remove", "../scenarios/tiny"], "there is no baseline of '../scenarios/tiny'\n  'harness baseline list' .*"),
    ],
)
def test_bad_input_is_told_with_the_next_step_and_nothing_is_written(empty, words, message):
    ended = empty.harness(*words)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", ended.err), ended.err
    assert empty.git("status", "--porcelain", "--ignored") == ""


def test_valid_scenarios_are_named_with_the_number_of_their_trials(measured):
    measured.write("scenarios/both.yaml", "extends: tiny.yaml\nname: both\nmeasure: {batch_sizes: [1, 8]}\n")
    measured.write("scenarios/_base.yaml", "no scenario, only a base of others\n")
    ended = measured.harness("validate", "scenarios")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "scenarios/both.yaml: both is valid, 2 trials\nscenarios/tiny.yaml: tiny is valid, 1 trial\n"


def test_every_problem_of_every_scenario_is_told_at_once(measured):
    measured.write("scenarios/one.yaml", SCENARIO.replace("name: tiny", "name: one").replace("runtime: fake", "runtime: fkae"))
    measured.write("scenarios/two.yaml", SCENARIO.replace("name: tiny", "name: two").replace("0.1 s", "0.1").replace("data.py", "dta.py"))
    ended = measured.harness("validate", "scenarios")
    assert (ended.code, ended.out) == (2, "")
    assert "scenarios/one.yaml:9 recipes.base.runtime: unknown runtime 'fkae'\n  did you mean 'fake'?" in ended.err
    assert "scenarios/two.yaml:10 measure.duration: 0.1 has no unit: write '0.1 s'" in ended.err


@pytest.mark.parametrize("family", ["passes", "runtimes", "loads", "metrics", "reports", "sources"])
def test_every_plugin_of_a_family_is_listed_with_its_help(empty, family):
    ended = empty.harness("list", family)
    assert (ended.code, ended.err) == (0, "")
    rows = [re.split(r"  +", line, maxsplit=1) for line in ended.out.splitlines()]
    assert tuple(name for name, _ in rows) == plugins.names(family)
    assert all(help_.endswith((".", ";", ",")) or len(help_) > 20 for _, help_ in rows)


def test_init_writes_a_scenario_that_is_valid_and_overwrites_nothing(tmp_path):
    place = Workplace(tmp_path, tmp_path / "cache")
    ended = place.harness("init", "project")
    assert (ended.code, ended.err) == (0, "")
    *written, next_step = ended.out.splitlines()
    files = {line.removeprefix("wrote ") for line in written}
    assert files == {str(path.relative_to(tmp_path)) for path in (tmp_path / "project").rglob("*") if path.is_file()}
    assert {"project/scenarios/my-model.yaml", "project/baselines/README.md"} <= files
    assert next_step == "next: harness gate project/scenarios --new-baselines accept, then commit these files and baselines/"
    assert place.harness("validate", "project/scenarios").code == 0

    place.write("project/scenarios/my-model.yaml", "mine\n")
    again = place.harness("init", "project")
    assert (again.code, again.out) == (2, "")
    assert "project/scenarios/my-model.yaml: is there already\n" in again.err
    assert place.read("project/scenarios/my-model.yaml") == "mine\n"


def test_json_is_what_its_schema_says_and_all_that_is_on_stdout(printed):
    ended, place = printed
    assert ended.code == 0
    schema = json.loads((plugins.PACKAGE / "reports" / "result.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(ended.summary)
    assert ended.summary["run"]["command"] == "run scenarios --json"
    assert ended.summary == json.loads((place.latest / "summary.json").read_text())
    assert re.fullmatch(
        r"\[ +\d+\.\d s\] Building 1 trial\n\[ +\d+\.\d s\]   tiny/base-cpu-b1: .+\n(\[.*\n)*\n"
        r"report: reports/\d{8}-\d{6}-[0-9a-f]{4}/report\.html\n",
        ended.err,
    )


def test_a_run_is_a_folder_with_a_report_for_each_reader(printed):
    _, place = printed
    assert {path.name for path in place.latest.iterdir()} == {
        *("launches.jsonl", "logs", "result.json"),
        *("report.html", "report.md", "report.txt", "junit.xml", "summary.json"),
    }
    assert place.git("status", "--porcelain") == ""


def test_a_report_is_rendered_again_from_the_saved_run(measured):
    before = {
        name: (measured.latest / name).read_bytes() for name in ("report.html", "report.md", "report.txt", "junit.xml", "summary.json")
    }
    for name in before:
        (measured.latest / name).unlink()
    ended = measured.harness("report")
    assert (ended.code, same_for_all(ended.out), ended.err) == (0, "reports/RUN/report.html\n", "")
    assert {name: (measured.latest / name).read_bytes() for name in before} == before


def test_one_report_is_printed_where_it_is_asked_for(measured):
    (run,) = measured.runs
    ended = measured.harness("report", run[:8], "--format", "text")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (measured.latest / "report.txt").read_text()
    assert ended.out.startswith("PASS: 1 trial measured\n\n")
    unknown = measured.harness("report", "1999")
    assert (unknown.code, unknown.out, unknown.err) == (2, "", f"error: '1999' is not a run here\n  the newest are {run}\n")


def test_a_baseline_is_accepted_listed_shown_and_removed(measured):
    commit = measured.git("rev-parse", "HEAD")
    ended = measured.harness("baseline", "accept", "--only", "base")
    assert (ended.code, ended.err) == (0, "")
    assert ended.told == f"{BASELINE} holds {TRIAL} of run RUN\ncommit it with the change that it belongs to\n"
    listed = measured.harness("baseline", "list")
    assert re.fullmatch(
        rf"{TRIAL}  model_size 1\.00 KiB, accuracy 100\.00 %, latency_p50 3\d\d µs; 1 machine, commit {commit[:12]}\n", listed.out
    )
    shown = json.loads(measured.harness("baseline", "show", TRIAL).out)
    assert shown["trial"] == TRIAL and "scores" not in shown["portable"]
    removed = measured.harness("baseline", "remove", TRIAL)
    assert (removed.code, removed.out) == (0, f"removed {BASELINE}\n")
    assert not (measured.root / "baselines" / "tiny").exists()
    nothing = measured.harness("baseline", "list")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == f"no baselines under {measured.root}/baselines: 'harness gate --new-baselines accept' writes the first\n"


def test_a_damaged_baseline_does_not_hide_the_others(gated):
    gated.write("baselines/tiny/other-cpu-b1.json", "{")
    ended = gated.harness("baseline", "list")
    assert ended.code == 0
    good, damaged = ended.out.splitlines()
    assert good.startswith(f"{TRIAL}  model_size")
    assert damaged.startswith("tiny/other-cpu-b1  INVALID: baselines/tiny/other-cpu-b1.json is damaged: ")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            '"dirty":true',
            "measured source that was not committed\n  commit first, or add --force: such a baseline cannot be built again from its commit",
        ),
        (
            '"overrides":["measure.duration=1 s","model.fake.latency_us=600"]',
            "did not measure what the scenario holds: --set model.fake.latency_us=600\n"
            "  write it into the scenario, commit and measure again, or add --force: such a baseline cannot be built again from its commit",
        ),
    ],
)
def test_numbers_that_no_commit_holds_are_accepted_only_by_force(measured, change, told):
    key = change.partition(":")[0]
    for name in ("result.json", "launches.jsonl"):
        file = measured.latest / name
        file.write_text(re.sub(rf"{key}:(false|\[\])", lambda _: change, file.read_text()))
    ended = measured.harness("baseline", "accept")
    assert (ended.code, ended.out) == (3, "")
    assert same_for_all(ended.err) == f"error: run RUN {told}\n"
    assert not (measured.root / "baselines").exists()
    assert measured.harness("baseline", "accept", "--force").code == 0
    assert (measured.root / BASELINE).is_file()


def test_what_was_overridden_in_measuring_alone_is_accepted(measured):
    file = measured.latest / "launches.jsonl"
    file.write_text(file.read_text().replace('"overrides":[]', '"overrides":["measure.duration=1 s","sla.accuracy=at least 9 %"]'))
    assert measured.harness("baseline", "accept").code == 0
