import numpy as np
import pytest

from harness.engine.datasets import RandomInput, parse_random, random_array


@pytest.mark.parametrize(
    ("text", "dtype", "shape", "below"),
    [
        ("float32[3, 224, 224]", "float32", (3, 224, 224), None),
        ("float16[8]", "float16", (8,), None),
        ("float64[]", "float64", (), None),
        (" float32 [ 3 , 4, ] ", "float32", (3, 4), None),
        ("int64[128] below 30522", "int64", (128,), 30522),
        ("uint8[2, 2] below 256", "uint8", (2, 2), 256),
        ("int8[1] below 128", "int8", (1,), 128),
    ],
)
def test_the_form_of_a_random_input_is_read(text, dtype, shape, below):
    assert parse_random(text) == RandomInput(dtype, shape, below)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("float32", "is not a random input: write 'float32[3, 224, 224]' or 'int64[128] below 30522'"),
        ("float32[3x3]", "is not a random input"),
        ("float32[-1]", "is not a random input"),
        ("tensor[3]", "'tensor' is not a dtype"),
        ("bool[3]", "only integers and floating point numbers can be drawn"),
        ("complex64[3]", "only integers and floating point numbers can be drawn"),
        ("timedelta64[3] below 5", "only integers and floating point numbers can be drawn"),
        ("int64[3]", "integers need a bound"),
        ("float32[3] below 5", "without 'below'"),
        ("float32[3, 0]", "every length of the shape is at least 1"),
        ("int8[3] below 129", "'below' is at least 1 and at most 128 for int8"),
        ("uint8[3] below 0", "'below' is at least 1 and at most 256 for uint8"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_form_to_write(text, why):
    with pytest.raises(ValueError) as refused:
        parse_random(text)
    assert why in str(refused.value)


def test_samples_are_drawn_from_the_seed_in_their_dtype_shape_and_bound():
    for text, kind in {"float16[2, 3]": "float16", "int64[2, 3] below 4": "int64", "uint8[2, 3] below 256": "uint8"}.items():
        first, again = (random_array(text, 500, np.random.default_rng(7)) for _ in range(2))
        assert (first.shape, first.dtype.name) == ((500, 2, 3), kind)
        assert np.array_equal(first, again)
    tokens = random_array("int64[2, 3] below 4", 500, np.random.default_rng(7))
    assert (tokens.min(), tokens.max()) == (0, 3)
    assert abs(random_array("float32[10]", 500, np.random.default_rng(7)).mean()) < 0.1
