import base64
import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.core.errors import CannotMeasure
from harness.core.result import Packed
from harness.engine.packing import MOST_CHARACTERS, pack, unpack


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 10_000])
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_])
def test_right_and_wrong_are_packed_as_bits_and_come_back_as_numbers(count, dtype):
    scores = (np.arange(count) % 3 == 0).astype(dtype)
    packed = pack(scores)
    assert packed is not None and (packed.dtype, packed.count) == ("bits", count)
    assert unpack(packed).dtype == np.float64
    assert np.array_equal(unpack(packed), scores)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 9], "uint8"),
        ([0, 255], "uint8"),
        ([0, 256], "uint16"),
        ([-128, -1], "int8"),
        ([-1, 255], "int16"),
        ([0, 70_000], "uint32"),
        ([2], "uint8"),
    ],
)
def test_integers_are_packed_in_the_smallest_type_that_holds_them(values, dtype):
    packed = pack(np.array(values, dtype=np.int64))
    assert packed is not None and packed.dtype == dtype
    assert unpack(packed).tolist() == values


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.integers(1, 40), elements=st.integers(-(2**62), 2**62)))
def test_every_integer_comes_back(values):
    packed = pack(values)
    assert packed is not None and np.array_equal(unpack(packed), values)


@settings(deadline=None)
@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6)))
def test_every_float_comes_back_as_a_float32_has_it(values):
    packed = pack(values)
    assert packed is not None
    assert np.array_equal(unpack(packed), values.astype(np.float32))


def test_what_is_packed_again_is_the_same_text():
    scores = np.random.default_rng(0).random(100)
    packed = pack(scores)
    assert packed is not None and pack(unpack(packed)) == packed


def test_ten_thousand_answers_are_a_short_text():
    draw = np.random.default_rng(0)
    answers, hits = pack(draw.integers(0, 10, 10_000)), pack(draw.random(10_000) < 0.97)
    assert answers is not None and len(answers.data) < 8_000
    assert hits is not None and len(hits.data) < 1_000


def test_what_would_be_too_long_to_review_is_not_kept():
    draw = np.random.default_rng(0)
    short, long = draw.random(12_000), draw.random(13_000)
    packed = pack(short)
    assert packed is not None and len(packed.data) <= MOST_CHARACTERS
    assert pack(long) is None


FLOATS = pack(np.array([0.25, 0.5, 0.75]))
BITS = pack(np.array([1, 0, 1, 1, 0, 0, 0, 1, 1, 0]))


def raw(data):
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize("packed", [FLOATS, BITS])
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: {"data": packed.data[:-4]},
        lambda packed: {"data": "!" + packed.data},
        lambda packed: {"data": packed.data + "µ"},
        lambda packed: {"data": ""},
        lambda packed: {"data": base64.b64encode(b"not compressed").decode()},
        lambda packed: {"data": raw(b"")},
        lambda packed: {"data": raw(b"\x00" * 20)},
        lambda packed: {"count": 0},
        lambda packed: {"count": -1},
        lambda packed: {"count": packed.count + 8},
        lambda packed: {"count": packed.count - 8},
        lambda packed: {"dtype": "no such type"},
        lambda packed: {"dtype": "object"},
        lambda packed: {"dtype": "float64"},
    ],
)
def test_damaged_values_are_told_and_never_filled_up(packed, damage):
    with pytest.raises(CannotMeasure, match="packed values are damaged: "):
        unpack(dataclasses.replace(packed, **damage(packed)))


def test_values_of_a_machine_with_another_byte_order_are_read_as_they_were_meant():
    assert unpack(Packed("uint16", 2, raw(b"\x01\x00\x00\x01"))).tolist() == [1, 256]
