"""Requests as a model's server reads them, and answers as it writes them."""

import gc
import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from harness.kserve import codec
from harness.kserve.codec import BadMessage, decode_response, encode_request
from harness.server.answer_cache import ENTRY_BYTES, AnswerCache, digest_of
from harness.server.answers import Writer
from harness.server.api import Api
from harness.server.http import Call
from harness.server.requests import Answer, Failure, Input, Output, Reader, ServedModel
from harness.server.service import QUEUE_FULL

MODEL = ServedModel(
    inputs=(
        Input("ids", "ids", "int64", ("int64",), (None,)),
        Input("mask", "mask", "float16", ("float16", "float32"), (2,)),
    ),
    outputs=(Output("y", "float32", (3,)), Output("z", "float32", (None,))),
    most=4,
    splits=True,
)
ONE = ServedModel((Input("input", "x", "float32", ("float32",), (2,)),), (Output("y", "float32", (2,)),), 4, True)


def inputs(rows=2, length=3, mask=np.float32):
    return {"ids": np.arange(rows * length, dtype=np.int64).reshape(rows, length), "mask": np.ones((rows, 2), mask)}


def read(reader, given, *, binary=True, request_id=None, outputs=()):
    message = encode_request(given, binary=binary, request_id=request_id)
    length = message.headers.get(codec.HEADER_LENGTH)
    if outputs:
        cut = int(length)
        head = json.loads(message.body[:cut])
        head["outputs"] = list(outputs)
        text = json.dumps(head).encode()
        return reader.read(text + message.body[cut:], len(text))
    return reader.read(message.body, None if length is None else int(length))


def body_of(pieces):
    whole = b"".join(pieces)
    head, _, body = whole.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert int(headers["content-length"]) == len(body)
    length = headers.get(codec.HEADER_LENGTH.lower())
    return int(lines[0].split()[1]), headers, body, None if length is None else int(length)


@pytest.mark.parametrize("binary", [True, False])
def test_inputs_become_bytes_in_the_models_order(binary):
    given = inputs()
    request = read(Reader(MODEL), dict(reversed(given.items())), binary=binary)
    assert request.rows == 2
    assert [bytes(chunk) for chunk in request.chunks] == [given["ids"].tobytes(), given["mask"].tobytes()]


def test_a_request_whose_head_was_seen_before_is_read_alike():
    reader = Reader(MODEL)
    first, second = read(reader, inputs()), read(reader, {**inputs(), "ids": inputs()["ids"] + 1})
    assert (first.signature, first.rows, first.wanted) == (second.signature, second.rows, second.wanted)
    assert bytes(second.chunks[0]) == (inputs()["ids"] + 1).tobytes()


def test_a_head_that_was_seen_with_other_data_behind_it_is_refused():
    reader = Reader(ONE)
    message = encode_request({"x": np.ones((1, 2), np.float32)})
    length = int(message.headers[codec.HEADER_LENGTH])
    reader.read(message.body, length)
    for body in (message.body[:-1], message.body + b"1"):
        with pytest.raises(BadMessage):
            reader.read(body, length)


def test_shapes_and_dtypes_tell_requests_apart_and_values_and_samples_do_not():
    reader = Reader(MODEL)
    kinds = {
        name: read(reader, given).signature
        for name, given in {
            "one": inputs(),
            "longer": inputs(length=4),
            "half": inputs(mask=np.float16),
            "fewer": inputs(rows=1),
        }.items()
    }
    assert kinds["one"] == kinds["fewer"] and len(set(kinds.values())) == 3


def test_a_single_input_may_have_the_name_that_the_data_set_gives_it():
    values = {"x": np.ones((1, 2), np.float32)}
    assert read(Reader(ONE), values).signature == read(Reader(ONE), {"input": values["x"]}).signature


REFUSED = [
    ({"ids": inputs()["ids"]}, "input 'mask' is missing"),
    ({**inputs(), "other": np.ones(2)}, "there is no input 'other': the model's are ids, mask"),
    ({**inputs(), "ids": inputs()["ids"].astype(np.int32)}, "input 'ids' is INT64, the request has INT32"),
    ({**inputs(), "mask": np.ones((2, 3), np.float32)}, "input 'mask' has the shape [samples, 2], the request [2, 3]"),
    ({**inputs(), "ids": np.ones(2, np.int64)}, "input 'ids' has the shape [samples, any], the request [2]"),
    ({**inputs(), "mask": np.ones((1, 2), np.float32)}, "the inputs have 1 and 2 samples"),
    (inputs(rows=5), "5 samples: this server takes 1 to 4"),
    (inputs(rows=0), "0 samples: this server takes 1 to 4"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_the_model_does_not_take_is_refused_with_what_it_takes(given, said):
    with pytest.raises(BadMessage) as refused:
        read(Reader(MODEL), given)
    assert said in str(refused.value)


def answer(rows=2):
    y, z = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3), np.ones((rows, 2), np.float32)
    return Answer((("float32", y.shape), ("float32", z.shape)), (memoryview(y.tobytes()), memoryview(z.tobytes()))), {"y": y, "z": z}


@pytest.mark.parametrize("request_id", [None, "a"])
@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ((), ["y", "z"]),
        ([{"name": "z"}], ["z"]),
        ([{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}], ["z", "y"]),
    ],
)
def test_the_outputs_that_were_asked_for_come_as_they_were_asked_for(request_id, outputs, names):
    reader, writer = Reader(MODEL), Writer("m", ("y", "z"))
    told, arrays = answer()
    for _ in range(2):  # the second time the head is known
        request = read(reader, inputs(), request_id=request_id, outputs=outputs)
        status, _, body, length = body_of(writer.response(request, told))
        found = decode_response(body, length)
        head = json.loads(body[:length])
        assert (status, list(found), head["model_name"], head.get("id")) == (200, names, "m", request_id)
        assert all(np.array_equal(found[name], arrays[name]) for name in names)


def test_without_binary_data_asked_for_the_answer_is_json():
    request = read(Reader(MODEL), inputs(), binary=False)
    told, arrays = answer()
    _, headers, body, length = body_of(Writer("m", ("y", "z")).response(request, told))
    assert (headers["content-type"], length) == ("application/json", None)
    assert json.loads(body)["outputs"][0]["data"] == arrays["y"].ravel().tolist()


def test_a_failure_has_its_status_its_reason_and_when_to_come_back():
    status, headers, body, _ = body_of(Writer("m", ("y", "z")).response(read(Reader(MODEL), inputs()), QUEUE_FULL))
    assert (status, headers["retry-after"], json.loads(body)) == (503, "1", {"error": "the queue is full (queue_limit)"})
    assert isinstance(QUEUE_FULL, Failure)


def test_equal_requests_have_equal_digests_and_others_have_others():
    reader = Reader(MODEL)
    same = [read(reader, inputs(), binary=binary) for binary in (True, False)]
    other = [
        read(reader, {**inputs(), "ids": inputs()["ids"] + 1}),
        read(reader, inputs(rows=1)),
        read(reader, inputs(mask=np.float16)),
    ]
    assert len({digest_of(one) for one in same}) == 1
    assert len({digest_of(one) for one in [*same, *other]}) == 4


def test_the_cache_drops_what_was_unused_for_longest():
    cache = AnswerCache(2 * (ENTRY_BYTES + 4))
    told = Answer((("float32", (1,)),), (memoryview(b"1234"),))
    cache.put(b"a", told)
    cache.put(b"b", told)
    assert cache.get(b"a") is told
    cache.put(b"c", told)
    assert (cache.get(b"b"), cache.get(b"a"), cache.get(b"c"), cache.bytes) == (None, told, told, 2 * (ENTRY_BYTES + 4))
    cache.put(b"d", Answer((("float32", (1_000,)),), (memoryview(bytes(4_000)),)))
    assert cache.get(b"d") is None and cache.get(b"a") is told


@pytest.fixture
def no_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("ending", ["answered", "failed", "client gone"])
def test_what_a_request_held_is_free_when_it_is_over_and_nothing_is_left_to_the_collector(no_collector, ending):
    counters = SimpleNamespace(failed={"client gone": 0})
    taken = []
    settings = SimpleNamespace(deployment=SimpleNamespace(model="m"))
    api = Api(SimpleNamespace(reader=Reader(ONE), submit=taken.append, counters=counters, settings=settings))
    message = encode_request({"x": np.ones((1, 2), np.float32)})
    call = Call(b"POST", b"/v2/models/m/infer", message.body, int(message.headers[codec.HEADER_LENGTH]), True)
    replies = []
    cancel = api(call, lambda pieces, close=False: replies.append(pieces))
    held = weakref.ref(taken[0].chunks[0])
    if ending == "client gone":
        cancel()
    else:
        taken[0].finish(Answer((("float32", (1, 2)),), (memoryview(bytes(8)),)) if ending == "answered" else QUEUE_FULL)
    assert len(replies) == (ending != "client gone")
    taken.clear()
    del cancel
    assert held() is None
