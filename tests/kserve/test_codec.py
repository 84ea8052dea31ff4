"""Messages of the Open Inference Protocol: known bytes, and whatever arrays there are."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.kserve import codec
from harness.kserve.codec import BadMessage, decode_request, decode_response, encode_request, encode_response

NUMBERS = [np.dtype(name) for name in codec.DATATYPES if name != "object"]
TRITON_HEAD = (
    b'{"model_name":"mymodel","inputs":[{"name":"input0","shape":[2,2],"datatype":"UINT32","parameters":{"binary_data_size":16}},'
    b'{"name":"input1","shape":[3],"datatype":"BOOL","parameters":{"binary_data_size":3}}],'
    b'"outputs":[{"name":"output0","parameters":{"binary_data":true}}]}'
)
"""The example of Triton's extension_binary_data.md, its two tensors as it describes them."""
TRITON_DATA = struct.pack("<4I", 1, 2, 3, 4) + b"\x01\x00\x01"


def tensors(dtypes=NUMBERS):
    shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    return st.sampled_from(dtypes).flatmap(lambda dtype: arrays.arrays(dtype, shapes))


def header_length(message):
    length = message.headers.get(codec.HEADER_LENGTH)
    return None if length is None else int(length)


@given(st.dictionaries(st.text(min_size=1, max_size=8), tensors(), min_size=1, max_size=3))
def test_binary_tensors_come_back_bit_by_bit(inputs):
    message = encode_request(inputs, request_id="7")
    read = decode_request(message.body, header_length(message))
    assert (read.id, read.binary_by_default, list(read.inputs)) == ("7", True, list(inputs))
    for name, values in inputs.items():
        assert read.inputs[name].dtype == values.dtype and read.inputs[name].shape == values.shape
        assert read.inputs[name].tobytes() == values.tobytes()


@given(tensors([dtype for dtype in NUMBERS if dtype.kind in "biu"]))
def test_whole_numbers_and_truth_values_come_back_from_json(values):
    message = encode_request({"x": values}, binary=False)
    assert header_length(message) is None and json.loads(message.body)["inputs"][0]["shape"] == list(values.shape)
    read = decode_request(message.body, None).inputs["x"]
    assert read.dtype == values.dtype and np.array_equal(read, values)


@pytest.mark.parametrize(
    ("data", "fits"), [([2**63, 0], True), ([1, 2**64 - 1], True), ([2**63, 0.0], False), ([2**63, -1], False), ([2**64, 0], False)]
)
def test_the_largest_whole_numbers_come_back_beside_small_ones_and_nothing_else_does(data, fits):
    body = json.dumps({"inputs": [{"name": "x", "datatype": "UINT64", "shape": [2], "data": data}]}).encode()
    if fits:
        assert decode_request(body, None).inputs["x"].tolist() == data
    else:
        with pytest.raises(BadMessage):
            decode_request(body, None)


@given(arrays.arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_come_back_exactly_from_json(values):
    message = encode_response("m", {"y": values}, {"y": False})
    assert np.array_equal(decode_response(message.body, None)["y"], values)


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=5))
def test_texts_of_any_length_come_back_as_bytes(items):
    values = np.empty(len(items), dtype=object)
    values[:] = items
    message = encode_request({"x": values})
    assert decode_request(message.body, header_length(message)).inputs["x"].tolist() == items


@given(st.binary(max_size=60), st.one_of(st.none(), st.integers(-5, 70)))
def test_whatever_comes_is_read_or_refused_and_never_crashes(body, length):
    try:
        decode_request(body, length)
    except BadMessage:
        return
    raise AssertionError("random bytes are no request")


def test_the_example_of_tritons_documentation_is_read():
    read = decode_request(TRITON_HEAD + TRITON_DATA, len(TRITON_HEAD))
    assert read.inputs["input0"].tolist() == [[1, 2], [3, 4]] and read.inputs["input0"].dtype == np.uint32
    assert read.inputs["input1"].tolist() == [True, False, True]
    assert (read.outputs, read.binary_outputs, read.binary_by_default) == (("output0",), {"output0": True}, False)


def test_bytes_have_their_length_before_them_as_four_bytes():
    message = encode_request({"x": np.array([b"ab", b""], dtype=object)})
    assert message.body.endswith(b"\x02\x00\x00\x00ab\x00\x00\x00\x00")


def tensor(**changed):
    return {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2], **changed}]}


REFUSED = [
    (b"{", "not valid JSON"),
    (b"[" * 100_000, "not valid JSON"),
    (b"[]", "the body is an object"),
    ({"inputs": []}, "'inputs' is a list of at least one tensor"),
    ({"inputs": [3]}, "a tensor of 'inputs' is an object"),
    (tensor(name=3), "has a name of its own"),
    ({"inputs": tensor()["inputs"] * 2}, "has a name of its own"),
    (tensor(datatype="FP8"), "unknown datatype 'FP8'"),
    (tensor(datatype=["FP32"]), "unknown datatype"),
    (tensor(shape=[-1]), "'shape' is a list of whole numbers"),
    (tensor(shape=[True]), "'shape' is a list of whole numbers"),
    (tensor(shape=[3]), "shape [3] has 3 elements, the data 2"),
    (tensor(data=None), "has neither 'data' nor binary data"),
    (tensor(data=["a", "b"]), "the data do not fit FP32"),
    (tensor(data=[[1], [2, 3]]), "rows of one length"),
    (tensor(data=[1e300, 0]), "a value does not fit FP32"),
    (tensor(datatype="UINT8", data=[-1, 0]), "a value does not fit UINT8"),
    (tensor(datatype="INT8", data=[300, 0]), "a value does not fit INT8"),
    (tensor(datatype="INT32", data=[1.5, 0]), "the data do not fit INT32"),
    (tensor(datatype="BYTES", data=[1, 2]), "BYTES are text in JSON"),
    (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', "NaN is not a number in JSON"),
    (tensor(parameters={"binary_data_size": 8}), "binary_data_size is 8, and 0 bytes are left"),
    (tensor(parameters={"binary_data_size": -8}), "a number of bytes"),
    (tensor(parameters={"binary_data_size": True}), "a number of bytes"),
    (tensor(parameters=3), "'parameters' of 'x' is an object"),
    ({**tensor(), "id": 3}, "'id' is text"),
    ({**tensor(), "outputs": [{"name": 3}]}, "'outputs' is a list of objects with a name"),
]


@pytest.mark.parametrize(("body", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_wrong_request_is_told_what_is_wrong(body, said):
    with pytest.raises(BadMessage) as refused:
        decode_request(body if isinstance(body, bytes) else json.dumps(body).encode(), None)
    assert said in str(refused.value)


def test_binary_data_of_another_size_than_the_shape_says_are_refused():
    head = json.dumps(tensor(data=None, parameters={"binary_data_size": 4})).encode()
    with pytest.raises(BadMessage, match="is 8 bytes, the data have 4"):
        decode_request(head + b"1234", len(head))
    with pytest.raises(BadMessage, match="1 bytes follow the last tensor"):
        decode_request(json.dumps(tensor()).encode() + b"1", len(json.dumps(tensor())))


def test_what_is_not_finite_goes_as_binary_data_and_is_refused_in_json():
    values = {"y": np.array([np.nan, np.inf], np.float32)}
    message = encode_response("m", values, {"y": True})
    assert np.array_equal(decode_response(message.body, header_length(message))["y"], values["y"], equal_nan=True)
    with pytest.raises(BadMessage, match="ask for binary data"):
        encode_response("m", values, {"y": False})


def test_a_servers_own_words_are_told():
    with pytest.raises(BadMessage, match="no room"):
        decode_response(b'{"error":"no room"}', None)
