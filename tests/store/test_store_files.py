import errno
import json
import os
from pathlib import Path

import pytest

from harness.core.errors import CannotMeasure, ExitCode
from harness.store.files import hint_for, pretty_json, write_atomically


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_with_the_folders_that_it_needs(tmp_path):
    path = tmp_path / "baselines" / "digits" / "int8.json"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [file.name for file in path.parent.iterdir()] == ["int8.json"]


def test_a_file_can_be_read_by_everybody_as_git_would_have_it(tmp_path):
    write_atomically(tmp_path / "one.json", b"{}")
    assert (tmp_path / "one.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_what_was_there_stays_whole_when_writing_fails_and_nothing_else_is_left(tmp_path, monkeypatch, step):
    path = tmp_path / "one.json"
    write_atomically(path, b"first")
    monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    with pytest.raises(CannotMeasure, match=r"one\.json cannot be written: No space left on device") as caught:
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]
    assert caught.value.hint is not None and caught.value.hint.startswith("the disk is full")
    assert caught.value.exit_code is ExitCode.NOT_DECIDED


def test_ctrl_c_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "one.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "baselines").write_text("no folder")
    with pytest.raises(CannotMeasure, match=r"one\.json cannot be written"):
        write_atomically(tmp_path / "baselines" / "one.json", b"{}")


@pytest.mark.parametrize(
    ("number", "begins"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "this user may not write there"),
        (errno.EPERM, "this user may not write there"),
        (errno.EROFS, "this user may not write there"),
    ],
)
def test_an_error_of_the_file_system_tells_what_to_do(number, begins):
    told = hint_for(OSError(number, os.strerror(number)))
    assert told is not None and told.startswith(begins)
    assert "HARNESS_CACHE_DIR" in told and "--reports" in told


def test_an_error_that_nothing_useful_can_be_said_of_has_no_hint():
    assert hint_for(OSError(errno.EIO, os.strerror(errno.EIO))) is None


def test_plain_numbers_stay_on_one_line_and_everything_else_is_laid_out():
    value = {"name": "µs", "empty": {}, "none": [], "ns": [1, 2, 3], "launches": [{"pair": 0, "ns": (4, 5)}, {"pair": 1, "ns": ()}]}
    assert pretty_json(value).decode() == (
        "{\n"
        '  "name": "µs",\n'
        '  "empty": {},\n'
        '  "none": [],\n'
        '  "ns": [1, 2, 3],\n'
        '  "launches": [\n'
        '    {\n      "pair": 0,\n      "ns": [4, 5]\n    },\n'
        '    {\n      "pair": 1,\n      "ns": []\n    }\n'
        "  ]\n"
        "}\n"
    )


@pytest.mark.parametrize("value", [{}, [], {"a": [[1, 2], [3]]}, {"a": {"b": None, "c": [True, 0.1, "x\n"]}}, [{"a": 1}, 2], "text", 1.5])
def test_pretty_json_says_what_json_says(value):
    assert json.loads(pretty_json(value)) == value
