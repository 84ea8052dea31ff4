import dataclasses
import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from fakes import cases, results, runs

from harness.core.environment import Gpu
from harness.core.errors import BadInput, CannotMeasure, ExitCode
from harness.core.estimate import ConfidenceInterval
from harness.core.measurement import Failure, FailureReason
from harness.core.result import SCHEMA
from harness.core.scenario import PluginRef
from harness.store.runs import LAUNCHES, RESULT, Begun, Broke, Launched, RunFolder, Runs, new_run_id

TRIAL, CONTENT = "tiny/plain-cpu-b1", "0123456789abcdef-aaaaaaaaaaaa"
BEGUN = Begun(SCHEMA, "20261124-201503-9f3a", "gate scenarios", "2026-11-24T20:15:03+00:00", 7, {"paths": ["scenarios"], "only": []})


def launched(pair=0, arm="candidate", *, trial=TRIAL, content=CONTENT, latency_ns=runs.MS):
    return Launched(trial, content, runs.even_run(latency_ns, pair=pair, arm=arm))


def broke(message="the worker was killed by SIGSEGV"):
    return Broke(TRIAL, CONTENT, Failure(FailureReason.SIGNAL, "candidate, slice", message, "last words"))


@pytest.fixture
def saved(tmp_path):
    return Runs(tmp_path / "reports")


@pytest.fixture
def folder(saved):
    """A run that has begun."""
    made = saved.create(BEGUN.id)
    made.append(BEGUN)
    return made


def tear(folder, *, by=20):
    """Cut the journal as a power failure in the middle of a write does."""
    journal = folder.path / LAUNCHES
    journal.write_bytes(journal.read_bytes()[:-by])


def test_a_journal_tells_what_was_asked_for_and_every_launch_as_it_was(folder):
    told = [launched(0), launched(1, latency_ns=1_234_567)]
    for event in told:
        folder.append(event)
    assert folder.begun() == BEGUN
    assert folder.launches(TRIAL, CONTENT) == [event.run for event in told]


def test_every_launch_is_on_disk_as_soon_as_it_is_told(folder):
    for number in range(3):
        folder.append(launched(number))
        assert len((folder.path / LAUNCHES).read_text().splitlines()) == 2 + number


@pytest.mark.parametrize("other", [{"trial": "tiny/slower-cpu-b1"}, {"content": CONTENT[:-1] + "b"}, {"content": CONTENT[:-1]}])
def test_only_launches_of_the_very_same_content_are_found(folder, other):
    folder.append(launched(0, **other))
    folder.append(launched(1))
    assert [run.pair for run in folder.launches(TRIAL, CONTENT)] == [1]


def test_a_failed_launch_is_in_the_journal_and_is_no_launch(folder):
    folder.append(broke(f'"kind":"launch" of "{CONTENT}"'))
    assert folder.launches(TRIAL, CONTENT) == []
    assert json.loads((folder.path / LAUNCHES).read_text().splitlines()[-1])["failure"]["reason"] == "signal"


def test_a_torn_last_line_is_left_out(folder):
    folder.append(launched(0))
    folder.append(launched(1))
    tear(folder)
    assert folder.begun() == BEGUN
    assert [run.pair for run in folder.launches(TRIAL, CONTENT)] == [0]


@pytest.mark.parametrize("by", [1, 20, 300])
def test_what_is_told_after_a_torn_line_is_found(folder, by):
    folder.append(launched(0))
    folder.append(launched(1))
    tear(folder, by=by)
    folder.append(launched(2))
    folder.append(launched(3))
    kept = [0, 1, 2, 3] if by == 1 else [0, 2, 3]
    assert [run.pair for run in folder.launches(TRIAL, CONTENT)] == kept


def test_launches_of_two_sittings_never_make_one_pair(folder):
    folder.append(launched(0, "baseline"))
    folder.append(launched(0, "candidate"))
    tear(folder)
    first = folder.whole_pairs(TRIAL, CONTENT, 2)
    assert first == {}
    again = [launched(0, arm, latency_ns=3 * runs.MS) for arm in ("baseline", "candidate")]
    for event in again:
        folder.append(event)
    assert folder.whole_pairs(TRIAL, CONTENT, 2) == {event.run.arm: [event.run] for event in again}


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\xff\xfe\xfd", b'{"kind":"launch","content":"' + CONTENT.encode() + b'"}', b"\n\n"])
def test_a_line_that_is_no_launch_is_left_out(folder, garbage):
    folder.append(launched(0))
    with (folder.path / LAUNCHES).open("ab") as file:
        file.write(garbage + b"\n")
    folder.append(launched(1))
    assert [run.pair for run in folder.launches(TRIAL, CONTENT)] == [0, 1]


@pytest.mark.parametrize("first_line", [b"", b"\n", b'{"schema":1,"id":"2026', b"\xff\xfe\n", b'{"trial":"t","kind":"launch"}\n'])
def test_a_journal_without_a_beginning_cannot_be_gone_on_with(folder, first_line):
    (folder.path / LAUNCHES).write_bytes(first_line)
    with pytest.raises(CannotMeasure, match="holds no run that can be gone on with"):
        folder.begun()


def test_a_folder_without_a_journal_cannot_be_gone_on_with(tmp_path):
    with pytest.raises(CannotMeasure, match="holds no run that can be gone on with"):
        RunFolder(tmp_path).begun()


def test_pairs_that_one_arm_is_missing_of_are_dropped_and_the_others_numbered_anew(folder):
    for pair, arm in ((0, "baseline"), (0, "candidate"), (1, "baseline"), (2, "candidate"), (3, "candidate"), (3, "baseline")):
        folder.append(launched(pair, arm, latency_ns=(pair + 1) * runs.MS))
    pairs = folder.whole_pairs(TRIAL, CONTENT, 2)
    assert {arm: [run.pair for run in found] for arm, found in pairs.items()} == {"baseline": [0, 1], "candidate": [0, 1]}
    assert {arm: [run.slices[0].latencies_ns[0] for run in found] for arm, found in pairs.items()} == {
        "baseline": [runs.MS, 4 * runs.MS],
        "candidate": [runs.MS, 4 * runs.MS],
    }


def test_launches_of_one_arm_alone_are_whole_where_one_arm_is_wanted(folder):
    for pair in (0, 1, 3):
        folder.append(launched(pair))
    assert {arm: [run.pair for run in found] for arm, found in folder.whole_pairs(TRIAL, CONTENT, 1).items()} == {"candidate": [0, 1, 2]}


def test_a_full_disk_is_told_and_what_was_written_before_and_after_it_stays(small_disk):
    folder = RunFolder(small_disk / "run")
    folder.append(BEGUN)
    folder.append(launched(0))
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(b"x" * 100_000)
    many = runs.run(runs.timed(*range(1_000_000, 1_002_000)), pair=1)
    with pytest.raises(CannotMeasure, match="cannot be written: No space left on device") as caught:
        folder.append(Launched(TRIAL, CONTENT, many))
    assert caught.value.hint is not None and caught.value.hint.startswith("the disk is full")
    ballast.unlink()
    folder.append(Launched(TRIAL, CONTENT, dataclasses.replace(many, pair=2)))
    assert [run.pair for run in folder.launches(TRIAL, CONTENT)] == [0, 2]


def finished(identity=BEGUN.id):
    """A result with everything in it that is hard to write: infinite ends, no interval at all, machines with a GPU, packed material."""
    whole = results.result(id=identity)
    one, *others = whole.comparisons
    half_open = dataclasses.replace(one, interval=ConfidenceInterval(1.02, math.inf, 0.95), visible_change=math.inf)
    other_half = dataclasses.replace(one, effect=math.inf, interval=ConfidenceInterval(-math.inf, 1.0, 0.95))
    gpu = Gpu("NVIDIA H100", 80 * 2**30, "560.35")
    return dataclasses.replace(
        whole,
        comparisons=(half_open, other_half, *others),
        trials=(*whole.trials, cases.record(cases.realistic(samples=40))),
        environment=dataclasses.replace(whole.environment, gpus=(gpu,), dirty=None, commit=None, load_average=None),
    )


def test_a_result_comes_back_as_it_was_saved(folder):
    result = finished()
    folder.save(result, {"report.md": b"# all is well\n"})
    assert folder.result() == result
    assert (folder.path / "report.md").read_bytes() == b"# all is well\n"


def test_a_saved_result_may_hold_infinity_and_never_nan(folder):
    folder.save(finished(), {})
    text = (folder.path / RESULT).read_text()
    assert ":Infinity" in text and ":-Infinity" in text and ":NaN" not in text
    (folder.path / RESULT).write_text(text.replace(":-Infinity", ":NaN", 1))
    with pytest.raises(CannotMeasure, match=re.escape("result.json is damaged: ")):
        folder.result()


def test_options_of_every_json_type_come_back(folder):
    record = cases.record()
    options = {"text": "µ", "number": 3, "share": 0.1, "flag": True, "nothing": None, "list": [1, "two"], "map": {"a": {}}, "": "short"}
    material = dataclasses.replace(record.material, runtime=PluginRef(name="fake", options=options))
    result = cases.result(dataclasses.replace(record, material=material), id=BEGUN.id)
    folder.save(result, {})
    assert folder.result() == result


@pytest.mark.parametrize("inside", [True, False])
def test_a_run_that_did_not_finish_has_no_result_and_says_how_to_go_on(folder, tmp_path, monkeypatch, inside):
    monkeypatch.chdir(tmp_path if inside else tmp_path.parent)
    with pytest.raises(CannotMeasure, match="it did not finish") as caught:
        folder.result()
    assert caught.value.hint == f"go on with it: harness gate --resume {BEGUN.id if inside else folder.path}"
    assert caught.value.exit_code is ExitCode.NOT_DECIDED


def test_a_folder_with_neither_a_result_nor_a_beginning_holds_no_run(tmp_path):
    with pytest.raises(CannotMeasure):
        RunFolder(tmp_path).result()


def test_what_the_command_line_overrode_is_told_again(saved, folder):
    assert folder.overrides() == []
    other = saved.create("20261125-000000-aaaa")
    assert other.overrides() == ()
    other.append(dataclasses.replace(BEGUN, arguments={"overrides": ["seed=1", "data.samples=8"]}))
    assert other.overrides() == ["seed=1", "data.samples=8"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: b"", "is damaged"),
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: b"\xff" + text, "is damaged"),
        (lambda text: b"[1]", "is damaged"),
        (lambda text: text.replace(b'"verdict"', b'"verdikt"', 1), "is damaged"),
        (lambda text: text.replace(b'"schema":1', b'"schema":99', 1), f"has schema 99, this program reads {SCHEMA}"),
    ],
)
def test_a_damaged_result_is_named_and_never_half_read(folder, damage, told):
    folder.save(cases.result(id=BEGUN.id), {})
    path = folder.path / RESULT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CannotMeasure, match=told) as caught:
        folder.result()
    assert BEGUN.id in caught.value.message


def test_ids_sort_by_time_in_utc_and_two_of_one_second_differ():
    moment = datetime(2026, 11, 24, 21, 15, 3, tzinfo=timezone(timedelta(hours=1)))
    made = {new_run_id(moment) for _ in range(8)}
    assert len(made) > 1
    assert all(re.fullmatch("20261124-201503-[0-9a-f]{4}", identity) for identity in made)
    assert max(made) < new_run_id(datetime(2026, 11, 24, 20, 15, 4, tzinfo=UTC))


IDS = ("20261123-100000-aaaa", "20261124-100000-bbbb", "20261124-110000-cccc")


@pytest.fixture
def three(saved):
    for identity in IDS:
        saved.create(identity).append(dataclasses.replace(BEGUN, id=identity))
    return saved


def test_runs_are_listed_from_the_oldest_on_and_the_link_is_none_of_them(three):
    (three.folder / "README.md").write_text("Runs.")
    (three.folder / "empty").mkdir()
    assert three.ids() == list(IDS)


@pytest.mark.parametrize("name", [IDS[0], "20261123", "20261123-1"])
def test_a_run_is_found_by_its_id_and_by_a_beginning_that_no_other_has(three, name):
    assert three.find(name) == RunFolder(three.folder / IDS[0])


def test_a_beginning_of_several_runs_is_refused_with_the_newest_first(three):
    with pytest.raises(BadInput, match="'20261124' is the beginning of several runs") as caught:
        three.find("20261124")
    assert str(caught.value).endswith(f"the newest are {IDS[2]}, {IDS[1]}")


def test_an_unknown_run_is_refused_with_the_ids_that_there_are(three):
    with pytest.raises(BadInput, match="'2025' is not a run here") as caught:
        three.find("2025")
    assert str(caught.value).endswith(f"the newest are {IDS[2]}, {IDS[1]}, {IDS[0]}")
    assert caught.value.exit_code is ExitCode.BAD_INPUT


@pytest.mark.parametrize("name", ["latest", "20261124"])
def test_where_there_is_no_run_the_command_that_makes_one_is_told(saved, name):
    with pytest.raises(BadInput, match="is not a run here") as caught:
        saved.find(name)
    assert str(caught.value).endswith(f"none under {saved.folder}: 'harness run' makes one")


def test_latest_is_the_run_that_was_begun_last_whatever_its_id(three):
    three.create("20200101-000000-0000").append(BEGUN)
    assert three.find("latest").id == "20200101-000000-0000"
    assert (three.folder / "latest").readlink() == Path("20200101-000000-0000")
    assert sorted(path.name for path in three.folder.glob(".*")) == []


@pytest.mark.parametrize("link", ["gone", "missing"])
def test_without_the_link_latest_is_the_newest_id(three, link):
    latest = three.folder / "latest"
    latest.unlink()
    if link == "gone":
        latest.symlink_to("20190101-000000-0000")
    assert three.find("latest").id == IDS[2]


def test_a_run_can_be_begun_where_the_link_cannot_be_made(saved):
    (saved.folder / "latest").mkdir(parents=True)
    (saved.folder / "latest" / "kept.txt").write_text("not ours")
    assert saved.create(IDS[0]).path.is_dir()
    assert (saved.folder / "latest" / "kept.txt").is_file()
    assert list(saved.folder.glob(".latest*")) == []


def test_a_run_is_found_by_the_path_of_its_folder_wherever_it_lies(three, tmp_path, monkeypatch):
    elsewhere = Runs(tmp_path / "elsewhere")
    assert elsewhere.find(str(three.folder / IDS[1])).id == IDS[1]
    assert elsewhere.find(str(three.folder / "latest")).path == three.folder / IDS[2]
    monkeypatch.chdir(three.folder)
    assert elsewhere.find(f"./{IDS[0]}").path == three.folder / IDS[0]


def test_a_folder_that_holds_only_a_result_is_a_run_too(folder, tmp_path):
    folder.save(cases.result(id=BEGUN.id), {})
    (folder.path / LAUNCHES).unlink()
    assert Runs(tmp_path / "elsewhere").find(str(folder.path)).result().id == BEGUN.id


def test_an_id_is_never_used_twice(three):
    with pytest.raises(CannotMeasure, match=f"{IDS[0]} cannot be made: File exists"):
        three.create(IDS[0])
