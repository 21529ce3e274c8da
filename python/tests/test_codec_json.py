"""Numbers and text are exactly what Python's own `json` makes of them."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from properties import examined
from pymq._codec import Codec, DecodeError

codec = Codec()

# A message with `__type` and its like is more than JSON.
keys = st.text().filter(lambda key: not key.startswith("__"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=30
)


def same(one, other):
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and repr(one) == repr(other)


@given(documents, st.sampled_from([None, 1]), st.booleans())
@examined(200)
def test_what_python_writes_reads_as_python_reads_it(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    data = text.encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(data.decode())
    except UnicodeDecodeError:
        with pytest.raises(DecodeError):
            codec.decode(data)
    else:
        assert same(codec.decode(data), expected)


@given(documents)
@examined(200)
def test_what_is_written_reads_as_the_same_in_python(value):
    data = codec.encode(value)
    if value is None:
        assert json.loads(data) == {"__obj": None, "__type": "NoneType"}
    else:
        assert same(json.loads(data.decode()), value)


@given(st.floats())
@example(1000000000000000.25)
def test_floats_are_written_as_python_writes_them(number):
    written, expected = codec.encode(number).decode(), json.dumps(number)
    if written != expected:
        # Where two shortest texts are equally near (…00.2 and …00.3 here), either is right.
        (ours, _, our_power), (digits, _, power) = written.partition("e"), expected.partition("e")
        assert (ours[:-1], our_power, float(written)) == (digits[:-1], power, number)


FRAGMENTS = st.sampled_from(
    [*'{}[],:"\\ \n\t\r-+.0123456789eEu/', "null", "true", "false", "NaN", "Infinity", "1e400",
     "\\ud800", "\\udc00", "\\u0000", '"a"', "0.1", "1E5", "-0", "ä", "\ufeff", "\x00", "\x7f",
     "9" * 25]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
@examined(2000)
def test_any_text_is_accepted_or_refused_as_python_does(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(DecodeError):
            codec.decode(text.encode())
    else:
        assert same(codec.decode(text.encode()), expected)


@given(st.binary(max_size=30))
@examined(200)
def test_any_bytes_are_accepted_or_refused_as_python_does(data):
    try:
        expected = json.loads(data.decode())
    except ValueError:
        with pytest.raises(DecodeError):
            codec.decode(data)
    else:
        assert same(codec.decode(data), expected)


@pytest.mark.parametrize(
    "text",
    ["-0", "-0.0", "1e400", "-1e400", str(2**63), str(2**64), str(-(2**63)), str(2**70), "1E+2",
     "NaN", "Infinity", "-Infinity", '"\\ud800"', '"\\ud83c\\udf89"', '"\\udf89\\ud83c"', "0e0",
     "2.2250738585072011e-308", "0.1e-400", "123456789012345678901234567890.5", "9" * 4300],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_odd_numbers_and_strings_are_pythons(text):
    assert same(codec.decode(text.encode()), json.loads(text))


def test_the_last_of_equal_keys_counts():
    assert codec.decode(b'{"a":1,"b":2,"a":3}') == json.loads('{"a":1,"b":2,"a":3}')


# ---- values that JSON lacks

hashables = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.dates() | st.uuids(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
rich = st.recursive(
    hashables | st.datetimes() | st.timedeltas() | st.times() | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(hashables, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.dictionaries(hashables, inner, max_size=3)
    ),
    max_leaves=20,
)


@given(rich)
@examined(200)
def test_rich_values_come_back_with_all_their_types(value):
    assert typed_equal(codec.decode(codec.encode(value)), value)


@given(rich, rich)
@examined(200)
def test_rich_values_come_back_from_calls(one, other):
    from pymq._codec import call_plan

    def fn(*args, **kwargs): ...

    args, kwargs = codec.decode_call(*codec.encode_call((one, other), {"k": other}), call_plan(fn))
    assert typed_equal([*args, kwargs], [one, other, {"k": other}])
    assert typed_equal(codec.decode_result(*codec.encode_result(one)), one)


def typed_equal(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            any(typed_equal(key, k) and typed_equal(item, v) for k, v in other.items())
            for key, item in one.items()
        )
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(typed_equal(a, b) for b in other) for a in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(typed_equal, one, other))
    return one == other
