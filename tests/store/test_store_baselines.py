import dataclasses
import errno
import json
import math
import os
import re

import pytest
from fakes import cases

from harness.core.errors import BadInput, CannotMeasure, ExitCode
from harness.core.estimate import ConfidenceInterval
from harness.engine.packing import unpack
from harness.store.baselines import Baselines, Unreadable, shown

TRIAL = "tiny/plain-cpu-b1"


@pytest.fixture
def baselines(tmp_path):
    return Baselines(tmp_path)


@pytest.fixture
def written(baselines):
    """The file of a baseline that has been written."""
    return baselines.write(cases.baseline())


def test_a_baseline_comes_back_as_it_was_written(baselines):
    kept = cases.baseline(cases.realistic(samples=50))
    assert baselines.write(kept) == baselines.root / "baselines" / "tiny" / "plain-cpu-b1.json"
    assert baselines.read(TRIAL) == kept


def test_every_part_of_a_baseline_comes_back_also_what_is_seldom_there(baselines):
    plain = cases.baseline()
    open_end = dataclasses.replace(plain.portable.estimates[0], interval=ConfidenceInterval(-math.inf, math.inf, 0.95))
    here = plain.measured[cases.HERE]
    kept = dataclasses.replace(
        plain,
        portable=dataclasses.replace(plain.portable, commit=None, answers=None, scores={}, estimates=(open_end,), steps=()),
        measured={cases.HERE: here, cases.ELSEWHERE: dataclasses.replace(here, machine="µ-Maschine", figures={}, sessions={}, absent=())},
    )
    baselines.write(kept)
    assert baselines.read(TRIAL) == kept


def test_writing_a_baseline_again_changes_no_byte(baselines, written):
    before = written.read_bytes()
    read = baselines.read(TRIAL)
    assert read is not None
    baselines.write(read)
    assert written.read_bytes() == before


def test_a_trial_without_a_file_has_no_baseline(baselines):
    assert baselines.read(TRIAL) is None
    assert baselines.trials() == ()


@pytest.mark.parametrize("gated", [{}, {"output_cosine": "1 %"}])
def test_a_baseline_stays_small_enough_to_review(baselines, gated):
    kept = cases.baseline(cases.realistic(gate=gated))
    (measured,) = kept.measured.values()
    assert len(measured.distribution.launches) == 5
    assert 1_500 < len(measured.distribution.sample_ns) <= 2_000
    assert set(kept.portable.scores) == {"accuracy", *gated}
    assert all(len(unpack(scores)) == 10_000 for scores in kept.portable.scores.values())
    assert baselines.write(kept).stat().st_size <= 100_000


def test_a_baseline_that_cannot_be_written_leaves_the_old_one_whole(baselines, written, monkeypatch):
    before = written.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotMeasure, match=r"plain-cpu-b1\.json cannot be written: No space left on device"):
        baselines.write(cases.baseline(scenario_text="another"))
    assert written.read_bytes() == before
    assert baselines.trials() == (TRIAL,)


def test_a_really_full_disk_leaves_the_old_baseline_whole(small_disk):
    baselines = Baselines(small_disk)
    before = baselines.write(cases.baseline()).read_bytes()
    with pytest.raises(CannotMeasure, match="No space left on device") as caught:
        baselines.write(cases.baseline(scenario_text="x" * 100_000))
    assert caught.value.hint is not None and caught.value.hint.startswith("the disk is full")
    assert baselines.path(TRIAL).read_bytes() == before
    assert [path.name for path in baselines.path(TRIAL).parent.iterdir()] == ["plain-cpu-b1.json"]


def without_its_end(text):
    return text[: len(text) // 2]


def with_a_merge_conflict(text):
    return text.replace(b'  "portable"', b'<<<<<<< HEAD\n  "portable"', 1)


def changed(change):
    def damage(text):
        document = json.loads(text)
        change(document)
        return json.dumps(document).encode()

    return damage


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: b"", "is damaged: "),
        (without_its_end, "is damaged: "),
        (with_a_merge_conflict, "is damaged: "),
        (lambda text: b"\xff\xfe" + text, "is damaged: "),
        (lambda text: b"[]", "has schema None, this program reads 1"),
        (changed(lambda document: document.update(schema=2)), "has schema 2, this program reads 1"),
        (changed(lambda document: document.pop("schema")), "has schema None, this program reads 1"),
        (changed(lambda document: document.pop("portable")), "is damaged at portable: Field required"),
        (changed(lambda document: document["portable"]["content"].update(source=3)), "is damaged at portable.content.source: "),
        (
            changed(lambda document: document["portable"]["estimates"][0].update(value=math.nan)),
            "is damaged at portable.estimates.0: Value error, model_size is not a finite number: nan",
        ),
        (
            changed(lambda document: document.update(trial="tiny/slower-cpu-b1")),
            f"is the baseline of 'tiny/slower-cpu-b1', not of '{TRIAL}'",
        ),
    ],
)
def test_a_file_that_is_no_baseline_of_the_trial_is_named_with_the_way_back(baselines, written, damage, told):
    written.write_bytes(damage(written.read_bytes()))
    with pytest.raises(Unreadable) as caught:
        baselines.read(TRIAL)
    assert caught.value.message.startswith(f"baselines/tiny/plain-cpu-b1.json {told}")
    hint = caught.value.hint
    assert hint is not None and hint.startswith("restore it with 'git checkout -- baselines/tiny/plain-cpu-b1.json', or ")
    assert "'harness baseline accept'" in hint
    assert caught.value.exit_code is ExitCode.NOT_DECIDED


def test_a_folder_in_the_place_of_a_baseline_is_not_taken_for_none(baselines):
    baselines.path(TRIAL).mkdir(parents=True)
    with pytest.raises(Unreadable, match=r"baselines/tiny/plain-cpu-b1\.json cannot be read: Is a directory"):
        baselines.read(TRIAL)


def test_baselines_are_listed_by_trial_also_those_that_cannot_be_read(baselines, written):
    for name in ("alpha/fp32-cpu-b8", "tiny/other-cuda-b1"):
        baselines.path(name).parent.mkdir(parents=True, exist_ok=True)
        baselines.path(name).write_text("damaged")
    (baselines.folder / "README.md").write_text("Baselines.")
    (baselines.folder / "tiny" / "notes.txt").write_text("Not one.")
    assert baselines.trials() == ("alpha/fp32-cpu-b8", "tiny/other-cuda-b1", TRIAL)


def test_a_removed_baseline_is_gone_and_so_is_a_folder_that_held_nothing_else(baselines, written):
    other = cases.baseline(cases.case(trial=cases.trial("slower")))
    baselines.write(other)
    assert baselines.remove(TRIAL) == written
    assert baselines.trials() == (other.trial,)
    baselines.remove(other.trial)
    assert not written.parent.exists()


@pytest.mark.parametrize("trial", [TRIAL, "tiny", "", "tiny/", "tiny/plain", "../outside", "tiny/../../outside"])
def test_what_is_no_baseline_cannot_be_removed(baselines, trial):
    baselines.write(cases.baseline(cases.case(trial=cases.trial("slower"))))
    (baselines.root / "outside.json").write_text("kept")
    with pytest.raises(BadInput, match=f"there is no baseline of '{re.escape(trial)}'") as caught:
        baselines.remove(trial)
    assert "'harness baseline list'" in str(caught.value)
    assert (baselines.root / "outside.json").is_file()


def test_a_baseline_is_shown_with_its_numbers_and_without_what_only_a_program_reads():
    text = json.dumps(shown(cases.baseline()))
    assert all(told in text for told in ('"latency_p50"', '"quantiles_ns"', cases.COMMIT, cases.HERE))
    assert not any(hidden in text for hidden in ('"scores"', '"answers"', '"sample_ns"', '"scenario_text"', '"data"'))
