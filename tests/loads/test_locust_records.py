"""The file of requests: what is written is read, and it is small."""

import hashlib
import struct
import zlib

import numpy as np
import pytest

from harness.loads._recorder import Recorder, read_rows
from harness.loads._records import CONNECTION, NEVER, TIMEOUT, Records, merged, read_records, write_records

MS = 1_000_000


def records_of(due_ms, latencies_ms, status=None, *, process=0, names=("infer",), lead_in_ms=0):
    """Requests sent when they were due and answered after so many ms, the first byte 10 µs before the last."""
    due = np.array([round(value * MS) for value in due_ms], dtype=np.int64)
    status = np.array([200] * due.size if status is None else status, dtype=np.int16)
    last = np.where(status > 0, due + np.array([round(value * MS) for value in latencies_ms], dtype=np.int64), NEVER)
    return Records(
        due_ns=due,
        taken_ns=due,
        sent_ns=due,
        first_byte_ns=np.where(last == NEVER, NEVER, last - 10_000),
        last_byte_ns=last,
        status=status,
        body=np.arange(due.size, dtype=np.int32),
        process=np.full(due.size, process, dtype=np.int16),
        name=np.zeros(due.size, dtype=np.int16),
        counted=due >= lead_in_ms * MS,
        names=names,
    )


def same(first, second):
    columns = [name for name in Records.__dataclass_fields__ if name != "names"]
    return first.names == second.names and all(np.array_equal(getattr(first, name), getattr(second, name)) for name in columns)


def test_what_is_written_is_read(tmp_path):
    written = records_of([0, 1.5, 1.5, 90], [3, 4, 5, 6], [200, TIMEOUT, 503, CONNECTION])
    digest = write_records(tmp_path / "requests.npz", written)
    assert same(read_records(tmp_path / "requests.npz"), written)
    assert digest == hashlib.sha256((tmp_path / "requests.npz").read_bytes()).hexdigest()


def test_the_same_requests_make_the_same_file(tmp_path):
    written = records_of(range(50), [3] * 50)
    assert write_records(tmp_path / "a.npz", written) == write_records(tmp_path / "b.npz", written)


def test_a_request_takes_few_bytes(tmp_path):
    draw = np.random.default_rng(0)
    due = np.cumsum(draw.exponential(2, 20_000))
    write_records(tmp_path / "requests.npz", records_of(due, draw.gamma(4, 1, 20_000)))
    assert (tmp_path / "requests.npz").stat().st_size < 25 * 20_000  # in memory it is 49 bytes


def test_no_requests_are_a_file_too(tmp_path):
    write_records(tmp_path / "requests.npz", records_of([], []))
    assert read_records(tmp_path / "requests.npz").size == 0


def test_a_file_of_a_later_version_is_refused(tmp_path):
    np.savez(tmp_path / "requests.npz", version=2)
    with pytest.raises(ValueError, match="no file of requests that this version reads"):
        read_records(tmp_path / "requests.npz")


def test_a_request_that_failed_counts_as_the_whole_timeout():
    records = records_of([0, 1, 2], [3, 4, 5], [200, TIMEOUT, 503])
    assert records.latencies_ns(100 * MS).tolist() == [3 * MS, 100 * MS, 100 * MS]


def test_requests_of_all_processes_come_in_the_order_in_which_they_were_due():
    both = merged([records_of([0, 2, 4], [1, 1, 1], process=0), records_of([1, 2, 3], [9, 9, 9], process=1)])
    assert (both.due_ns // MS).tolist() == [0, 1, 2, 2, 3, 4]
    assert both.process.tolist() == [0, 1, 0, 1, 1, 0]


def test_names_of_several_processes_are_brought_together():
    both = merged([records_of([0], [1], names=("POST a",)), records_of([1], [1], names=("GET b",))])
    assert both.names == ("POST a", "GET b")
    assert both.name.tolist() == [0, 1]


def test_what_a_generator_notes_is_read_and_only_the_measured_time_is_counted():
    recorder = Recorder()
    recorder.note(5, 6, 7, 8, 9, 200, 3, "infer")
    recorder.note(15, 16, NEVER, NEVER, NEVER, CONNECTION, 4, "infer")
    recorder.note(25, 26, 27, 28, 29, 503, 5, "other")
    read = read_rows(recorder.packed(), list(recorder.names), 3, 2, lead_in_ns=10, end_ns=20)
    assert len(recorder) == read.size == 3
    assert read.counted.tolist() == [False, True, False]
    assert (read.sent_ns.tolist(), read.status.tolist(), read.body.tolist()) == ([7, NEVER, 27], [200, CONNECTION, 503], [3, 4, 5])
    assert read.names == ("infer", "other") and read.name.tolist() == [0, 0, 1] and read.process.tolist() == [2, 2, 2]


def test_a_generator_that_noted_nothing_is_read_too():
    assert merged([read_rows(Recorder().packed(), [], 10, 0, 0, 1)]).size == 0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda packed: packed[:-3], "not whole, or more than it was asked for"),
        (lambda packed: b"nonsense", "cannot be read"),
        (lambda packed: zlib.compress(b"1234567"), "not whole"),
        (lambda packed: zlib.compress(bytes(64 * 4)), "more than it was asked for"),
        (lambda packed: zlib.compress(struct.pack("<8q", 0, 0, 0, 0, 0, 200, 0, 7)), "name requests that it does not know"),
    ],
)
def test_what_comes_from_another_machine_and_is_no_record_of_requests_is_refused(spoil, told):
    recorder = Recorder()
    recorder.note(5, 6, 7, 8, 9, 200, 3, "infer")
    with pytest.raises(ValueError, match=told):
        read_rows(spoil(recorder.packed()), ["infer"], 3, 0, 0, 10)
