"""The model process's part: batches over the socket, warm-up, what a model turns out to take."""

import json
import socket
import threading

import numpy as np
import pytest
from fakes.told_runtime import NAN, RAISE, ToldSession

from harness.core.artifact import Dataset
from harness.server import frames
from harness.server.frames import Kind
from harness.server.model import CannotServe, Model, serve

DATA = Dataset({"x": np.arange(8, dtype=np.float32).reshape(4, 2)}, None)
HEAD = frames.head_of([["x", "float32", [2]]])


def model(tmp_path, *, most=4, size=None, takes=None, wide=False):
    return Model(ToldSession(tmp_path / "gate", takes, wide), ("y", "batch"), most, size)


@pytest.fixture
def asked(tmp_path):
    """Ask a model that serves in a thread."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs, model(tmp_path)))
    thread.start()

    def ask(values, kind=Kind.RUN):
        frames.send(ours, kind, len(values), HEAD, [values.tobytes()])
        frame = frames.receive(ours)
        return frame.kind, json.loads(frame.head), bytes(frame.body)

    yield ask
    ours.close()
    thread.join(10)
    theirs.close()
    assert not thread.is_alive(), "a model process ends when the server hangs up"


def test_a_batch_comes_back_as_outputs_with_their_shapes(asked):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    kind, head, body = asked(values)
    assert (kind, head) == (Kind.DONE, {"outputs": [["float32", [3, 2]], ["int64", [3]]], "bad": []})
    assert body == (values * 2).tobytes() + np.full(3, 3, np.int64).tobytes()


def test_samples_that_are_not_finite_are_named(asked):
    kind, head, _ = asked(np.array([[1, 1], [NAN, 1], [2, 2]], np.float32))
    assert (kind, head["bad"]) == (Kind.DONE, [1])
    assert asked(np.ones((3, 2), np.float32))[1]["bad"] == []


def test_an_error_is_told_in_a_line_and_the_next_batch_is_answered(asked, capsys):
    kind, head, _ = asked(np.full((1, 2), RAISE, np.float32))
    assert (kind, head) == (Kind.FAILED, {"message": "RuntimeError: told to fail"})
    assert asked(np.ones((1, 2), np.float32))[0] is Kind.DONE
    assert "Traceback" in capsys.readouterr().err


def test_facts_are_told_between_batches(asked):
    kind, head, _ = asked(np.empty((0, 2), np.float32), Kind.FACTS)
    assert (kind, head) == (Kind.FACTS, {"device": "cpu", "precision": "told", "threads": 1, "details": ["a fake"]})


@pytest.mark.parametrize("size", [0, 1, 64, frames.FIRST_READ_BYTES, 1_000_003])
def test_frames_of_every_size_cross_the_socket_whole(size):
    ours, theirs = socket.socketpair()
    body = np.random.default_rng(0).bytes(size)
    with ours, theirs:
        sender = threading.Thread(target=frames.send, args=(ours, Kind.RUN, 7, HEAD, [body[: size // 3], body[size // 3 :]]))
        sender.start()
        frame = frames.receive(theirs)
        sender.join(10)
        assert (frame.kind, frame.number, frame.head, bytes(frame.body)) == (Kind.RUN, 7, HEAD, body)
        assert not frame.body.readonly
        ours.close()
        assert frames.receive(theirs) is None


@pytest.mark.parametrize("text", ["", "x" * 37, "x" * 64])
def test_what_follows_a_head_is_aligned(text):
    assert (frames.HEADER.size + len(frames.head_of(text))) % frames.ALIGNMENT == 0


@pytest.mark.parametrize("sent", range(11))
def test_what_is_left_of_pieces_is_told_to_the_byte(sent):
    pieces = [b"abc", b"", memoryview(b"defg"), b"hij"]
    assert b"".join(frames.unsent(pieces, sent)) == b"abcdefghij"[sent:]


def test_a_model_that_takes_any_batch_is_found_to_do_so(tmp_path):
    made = model(tmp_path)
    made.warm_up(DATA, 1, ())
    assert (made.size, made.most, made.splits) == (None, 4, True)
    assert made.outputs == (("y", "float32", (2,)), ("batch", "int64", ()))


def test_a_model_that_takes_one_size_only_gets_that_filled_up_and_its_answer_cut(tmp_path):
    made = model(tmp_path, takes=3)
    made.warm_up(DATA, 3, ())
    assert (made.size, made.most) == (3, 3)
    rows, batch = made.run({"x": np.ones((2, 2), np.float32)}, 2)
    assert rows.tolist() == [[2, 2], [2, 2]] and batch.tolist() == [3, 3]


def test_a_fixed_batch_axis_is_filled_up_from_the_first_call_on(tmp_path):
    made = model(tmp_path, takes=4, size=4)
    made.warm_up(DATA, 1, ())
    assert (made.size, made.most, made.splits) == (4, 4, True)


def test_outputs_that_do_not_follow_the_batch_are_never_shared_out(tmp_path):
    made = model(tmp_path, wide=True)
    made.warm_up(DATA, 2, ())
    assert made.splits is False


def test_a_model_that_fails_at_its_own_size_cannot_be_served(tmp_path):
    with pytest.raises(ValueError, match="takes 3 samples"):
        model(tmp_path, takes=3).warm_up(DATA, 2, ())


def test_outputs_that_are_no_numbers_cannot_be_served(tmp_path):
    made = model(tmp_path)
    made.session.outputs = lambda raw: (np.array(["a"] * len(raw)),)
    with pytest.raises(CannotServe, match="only numbers"):
        made.warm_up(DATA, 1, ())
