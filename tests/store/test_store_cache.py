import errno
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import platformdirs
import pytest

from harness.core.errors import BadInput, CannotMeasure, ExitCode
from harness.store.cache import DEFAULT_BYTES, MANIFEST, Cache, cache_folder, cache_limit

KB = 1_000
ENOUGH = 1_000 * KB
FIRST, SECOND, THIRD = "a1" * 32, "b2" * 32, "c3" * 32


def of_size(size=10 * KB):
    """Makes an entry of one file of ``size`` bytes."""

    def make(folder):
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(b"x" * size)

    return make


def never(folder):
    raise AssertionError("the entry is there already")


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def filled(folder, *keys):
    """A closed cache with an entry of 10 kB for each key, the first one used longest ago."""
    with Cache(folder, ENOUGH) as cache:
        for age, key in enumerate(keys):
            os.utime(cache.get(key, of_size()) / MANIFEST, (age, age))
    return cache


def left(folder):
    return {path.name for path in (folder / "entries").glob("*/*")}


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "cache", ENOUGH) as opened:
        yield opened


def test_an_entry_is_made_once_and_lies_where_it_is_told(cache):
    entry = cache.get(FIRST, of_size())
    assert cache.get(FIRST, never) == entry == cache.path(FIRST)
    assert files_below(entry) == [MANIFEST, "model/weights.bin"]


def test_each_key_has_an_entry_of_its_own(cache):
    assert cache.get(FIRST, of_size(1)) != cache.get(SECOND, of_size(2))
    assert cache.holds(FIRST) and cache.holds(SECOND) and not cache.holds(THIRD)


@pytest.mark.parametrize("limit", [1, ENOUGH])
def test_making_an_entry_may_ask_for_another_one(tmp_path, limit):
    with Cache(tmp_path, limit) as cache:

        def make(folder):
            (folder / "before.bin").write_bytes(b"x")
            inner = cache.get(SECOND, of_size())
            (folder / "copy.bin").write_bytes((inner / "model" / "weights.bin").read_bytes())

        assert files_below(cache.get(FIRST, make)) == ["before.bin", "copy.bin", MANIFEST]


def cut_short(entry):
    (entry / "model" / "weights.bin").write_bytes(b"x")


def flip_one_byte(entry):
    (entry / "model" / "weights.bin").write_bytes(b"x" * (10 * KB - 1) + b"y")


def lose_a_file(entry):
    (entry / "model" / "weights.bin").unlink()


def manifest(text):
    return lambda entry: (entry / MANIFEST).write_bytes(text)


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip_one_byte,
        lose_a_file,
        lambda entry: (entry / MANIFEST).unlink(),
        manifest(b""),
        manifest(b'{"layout": 1, "files": {"model/wei'),
        manifest(b"\xff\xfe\x00"),
        manifest(b'["model/weights.bin"]'),
        manifest(b'{"layout": 1}'),
        manifest(b'{"layout": 1, "files": ["model/weights.bin"]}'),
        manifest(b'{"layout": 0, "files": {}}'),
    ],
)
def test_a_damaged_entry_is_told_and_made_again(cache, caplog, damage):
    entry = cache.get(FIRST, of_size())
    damage(entry)
    assert not cache.holds(FIRST)
    made = []

    def make(folder):
        made.append(sorted(folder.iterdir()))
        of_size()(folder)

    assert cache.get(FIRST, make) == entry
    assert made == [[]], "made once, in an empty folder"
    assert cache.holds(FIRST)
    assert caplog.messages == [f"cache entry {FIRST[:12]} is damaged: it is made again"]


@pytest.mark.parametrize("error", [RuntimeError("the model's code failed"), KeyboardInterrupt(), CannotMeasure("a worker failed")])
def test_making_that_fails_leaves_nothing_behind_and_may_be_tried_again(cache, error):
    def make(folder):
        of_size()(folder)
        raise error

    with pytest.raises(type(error)):
        cache.get(FIRST, make)
    assert not cache.holds(FIRST)
    assert list((cache.folder / "scratch").iterdir()) == []
    assert left(cache.folder) == set()
    assert cache.get(FIRST, of_size()).is_dir()


def test_what_was_used_longest_ago_goes_first(tmp_path):
    filled(tmp_path, FIRST, SECOND, THIRD)
    Cache(tmp_path, 25 * KB).shrink()
    assert left(tmp_path) == {SECOND, THIRD}


@pytest.mark.parametrize("use", [lambda cache, key: cache.get(key, never), lambda cache, key: cache.holds(key)])
def test_to_use_an_entry_makes_it_the_latest(tmp_path, use):
    filled(tmp_path, FIRST, SECOND, THIRD)
    with Cache(tmp_path, ENOUGH) as cache:
        use(cache, FIRST)
    Cache(tmp_path, 25 * KB).shrink()
    assert left(tmp_path) == {FIRST, THIRD}


def test_nothing_goes_from_a_cache_within_its_limit(tmp_path):
    filled(tmp_path, FIRST, SECOND, THIRD)
    Cache(tmp_path, 40 * KB).shrink()
    assert left(tmp_path) == {FIRST, SECOND, THIRD}


def test_a_new_entry_makes_room_for_itself(tmp_path):
    filled(tmp_path, FIRST, SECOND)
    with Cache(tmp_path, 25 * KB) as cache:
        cache.get(THIRD, of_size())
    assert left(tmp_path) == {SECOND, THIRD}


def test_what_this_process_uses_stays_however_large_until_the_cache_is_closed(tmp_path):
    with Cache(tmp_path, 1) as cache:
        for key in (FIRST, SECOND):
            cache.get(key, of_size())
        assert left(tmp_path) == {FIRST, SECOND}
    Cache(tmp_path, 1).shrink()
    assert left(tmp_path) == set()


def test_an_entry_that_is_only_asked_after_stays_too(tmp_path):
    filled(tmp_path, FIRST, SECOND)
    with Cache(tmp_path, 1) as cache:
        assert cache.holds(FIRST)
        cache.shrink()
        assert left(tmp_path) == {FIRST}


def test_what_half_an_eviction_left_goes_before_anything_that_can_be_used(tmp_path):
    cache = filled(tmp_path, FIRST, SECOND, THIRD)
    (cache.path(THIRD) / MANIFEST).unlink()
    Cache(tmp_path, 25 * KB).shrink()
    assert left(tmp_path) == {FIRST, SECOND}


def test_a_lock_that_another_user_holds_shut_keeps_that_entry_and_stops_nobody(tmp_path):
    filled(tmp_path, FIRST, SECOND)
    lock = tmp_path / "locks" / f"{FIRST}.lock"
    lock.unlink()
    lock.mkdir()
    with Cache(tmp_path, 1) as cache:
        cache.get(THIRD, of_size())
        assert left(tmp_path) == {FIRST, THIRD}


OTHER = f"""
import sys
from pathlib import Path

from harness.store.cache import Cache


def told(text):
    print(text, flush=True)
    sys.stdin.readline()


def make(folder):
    (folder / "weights.bin").write_bytes(b"x" * 10_000)
    told("making")


with Cache(Path(sys.argv[1]), 1_000_000) as cache:
    cache.get({FIRST!r}, make, waiting=lambda: print("waiting", flush=True))
    told("using")
"""


class Other:
    """Another process that gets the first entry. It says what it does, and goes on when it is told to."""

    def __init__(self, process):
        self.process = process

    @property
    def pid(self):
        return self.process.pid

    def says(self):
        return self.process.stdout.readline().strip()

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=60) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)


@contextmanager
def process(folder):
    with subprocess.Popen([sys.executable, "-c", OTHER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield Other(started)
        finally:
            started.kill()


def test_two_processes_at_once_make_an_entry_once(tmp_path):
    with process(tmp_path) as first:
        assert first.says() == "making"
        with process(tmp_path) as second:
            assert second.says() == "waiting"
            first.go_on()
            assert first.says() == "using"
            assert second.says() == "using"
            first.end()
            second.end()
    assert files_below(tmp_path / "entries") == [f"{FIRST[:2]}/{FIRST}/{name}" for name in (MANIFEST, "weights.bin")]


def test_an_entry_is_made_by_the_one_who_waits_when_the_maker_dies(tmp_path):
    with process(tmp_path) as one:
        assert one.says() == "making"
        with process(tmp_path) as other:
            assert other.says() == "waiting"
            one.kill()
            assert other.says() == "making"
            other.go_on()
            assert other.says() == "using"
            other.end()
    assert left(tmp_path) == {FIRST}


def test_what_another_living_process_uses_stays_until_it_ends(tmp_path):
    with process(tmp_path) as other:
        assert other.says() == "making"
        other.go_on()
        assert other.says() == "using"
        Cache(tmp_path, 1).shrink()
        assert left(tmp_path) == {FIRST}
        other.end()
    Cache(tmp_path, 1).shrink()
    assert left(tmp_path) == set()


def test_an_entry_that_another_process_is_making_is_left_alone(tmp_path):
    filled(tmp_path, SECOND)
    with process(tmp_path) as other:
        assert other.says() == "making"
        Cache(tmp_path, 1).shrink()
        other.go_on()
        assert other.says() == "using"
        other.end()
    assert left(tmp_path) == {FIRST}


@pytest.mark.parametrize("moment", ["making", "using"])
def test_a_process_that_was_killed_keeps_nothing(tmp_path, moment):
    with process(tmp_path) as other:
        assert other.says() == "making"
        if moment == "using":
            other.go_on()
            assert other.says() == "using"
        other.kill()
    assert files_below(tmp_path / "uses") == [f"{FIRST}.{other.pid}"]
    with Cache(tmp_path, 1) as cache:
        cache.get(SECOND, of_size())
        assert left(tmp_path) == {SECOND}
        assert files_below(tmp_path / "uses") == [f"{SECOND}.{os.getpid()}"]
        assert list((tmp_path / "scratch").iterdir()) == []
    assert files_below(tmp_path / "uses") == []


def no_room(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("where", "step"), [(Path, "mkdir"), (Path, "touch"), (Path, "write_text"), (Path, "replace")])
def test_a_full_disk_cannot_be_measured_on_and_says_what_to_do(tmp_path, monkeypatch, where, step):
    with Cache(tmp_path / "cache", ENOUGH) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(Path, step, no_room)
            with pytest.raises(CannotMeasure, match=f"the artifact cache {tmp_path / 'cache'} cannot be written: No space left") as caught:
                cache.get(FIRST, of_size())
        assert caught.value.hint == "the disk is full: free some space, or point HARNESS_CACHE_DIR and --reports elsewhere"
        assert caught.value.exit_code is ExitCode.NOT_DECIDED
        assert left(cache.folder) == set()
        assert cache.get(FIRST, of_size()).is_dir()


def test_a_really_full_disk_is_told_and_leaves_what_was_there(small_disk):
    with Cache(small_disk / "cache", ENOUGH) as cache:
        cache.get(FIRST, of_size())
        with pytest.raises(CannotMeasure, match="No space left on device") as caught:
            cache.get(SECOND, of_size(1_000 * KB))
        assert caught.value.hint is not None and caught.value.hint.startswith("the disk is full")
        assert cache.holds(FIRST)
        assert left(cache.folder) == {FIRST}
        assert cache.get(SECOND, of_size()).is_dir(), "what did not fit has gone again"


def test_a_cache_folder_that_is_a_file_is_told_with_the_variable_that_moves_it(tmp_path):
    (tmp_path / "cache").write_text("no folder")
    with Cache(tmp_path / "cache", ENOUGH) as cache, pytest.raises(CannotMeasure, match="cannot be written") as caught:
        cache.get(FIRST, never)
    assert caught.value.hint == "set HARNESS_CACHE_DIR to a folder that can be written"


def test_the_manifest_holds_the_digest_of_every_file(cache):
    text = json.loads((cache.get(FIRST, of_size(0)) / MANIFEST).read_text())
    assert text["files"] == {"model/weights.bin": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}


def test_the_cache_lies_where_the_variable_says_else_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("HARNESS_CACHE_DIR", "")
    assert cache_folder() == platformdirs.user_cache_path("harness")


@pytest.mark.parametrize(
    ("text", "size"),
    [(None, DEFAULT_BYTES), ("", DEFAULT_BYTES), ("40 GiB", 40 * 2**30), ("1.5GB", 1_500_000_000), (" 512 MiB ", 512 * 2**20), ("1 B", 1)],
)
def test_the_size_of_the_cache_is_read_with_its_unit(monkeypatch, text, size):
    monkeypatch.delenv("HARNESS_CACHE_SIZE", raising=False)
    if text is not None:
        monkeypatch.setenv("HARNESS_CACHE_SIZE", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["40", "large", "40 s", "0 GiB", "-1 GiB", "40 gigs"])
def test_a_size_that_is_none_is_bad_input_that_names_the_variable(monkeypatch, text):
    monkeypatch.setenv("HARNESS_CACHE_SIZE", text)
    with pytest.raises(BadInput, match="HARNESS_CACHE_SIZE: ") as caught:
        cache_limit()
    assert "write it as '40 GiB'" in str(caught.value)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
