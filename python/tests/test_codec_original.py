"""Both decoders of the original read what we send: right, or with an error, never wrong.

Needs environments with the original: `scripts/original-env VERSION`, or PYMQ_ORIGINAL_07 and
PYMQ_ORIGINAL_02 with the paths of their Pythons.
"""

import collections
import datetime
import decimal
import fractions
import http
import ipaddress
import json
import os
import pathlib
import subprocess
import types
import urllib.parse
import uuid

import pytest

import codec_classes as c
from pymq._codec import Codec, plan_for

codec = Codec()
ROOT = pathlib.Path(__file__).parents[2]
VERSIONS = {"0.7.0": "PYMQ_ORIGINAL_07", "0.2.2": "PYMQ_ORIGINAL_02"}

# Reads one message per line, and answers with what the original made of it.
READER = """
import json, sys
import codec_classes as c
import collections, datetime, decimal, fractions, http, ipaddress, pathlib, types
import urllib.parse, uuid
from pymq.json import DeepDictDecoder
for line in sys.stdin:
    text, hint, expected = json.loads(line)
    try:
        decoder = DeepDictDecoder if hint is None else DeepDictDecoder.for_type(eval(hint))
        got = json.loads(text, cls=decoder)
    except Exception as error:
        print(json.dumps(["loud", repr(error)]))
    else:
        right = eval(expected)
        same = got == right or hasattr(got, "__dict__") and vars(got) == vars(right)
        print(json.dumps(["right" if same else "wrong", repr(got)]))
"""

# Writes what the original makes of each expression.
WRITER = """
import json, sys
import codec_classes as c
from pymq.json import DeepDictEncoder
for line in sys.stdin:
    try:
        print(json.dumps(json.dumps(eval(json.loads(line)), cls=DeepDictEncoder)))
    except Exception:
        print("null")
"""


@pytest.fixture(scope="module", params=VERSIONS)
def original(request):
    """Runs a program in an environment with the original, over JSON lines."""
    version = request.param
    python = os.environ.get(VERSIONS[version])
    script = ROOT / "scripts" / "original-env"
    if python is None and script.exists():
        run = subprocess.run([script, version], check=True, capture_output=True, text=True)
        python = run.stdout.strip()
    if python is None:
        pytest.skip(f"no environment with pymq {version}; set {VERSIONS[version]}")

    def ask(program, lines):
        run = subprocess.run(
            [python, "-c", program],
            input="".join(json.dumps(line) + "\n" for line in lines),
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in run.stdout.splitlines()]

    ask.version = version
    return ask


#: Each row of docs/types.md: an expression, and what the original makes of the message.
ROWS = {
    "None": "right",
    "True": "right",
    "5": "right",
    "10**30": "right",
    "0.5": "right",
    "float('inf')": "right",
    "'Grüße'": "right",
    "'\\ud800'": "right",
    "[]": "right",
    "[1, 'a', None]": "right",
    "[[1], [2, [3]]]": "right",
    "[{'a': 1}]": "right",
    "[None, 1]": "right",
    "{'a': [1, {'b': 2}]}": "right",
    "{'__type': 'x', 'a': 1}": "right",
    "{'__obj': 1}": "right",
    "{'__list': [1]}": "right",
    "{'__types': 1}": "right",
    "(1, 'a')": "right",
    "{1, 2}": "right",
    "frozenset({1, 2})": "right",
    "collections.OrderedDict(a=1)": "right",
    "collections.Counter('aab')": "right",
    "collections.defaultdict(int, a=1)": "right",
    "c.Point(1, 2, 'p')": "right",
    "c.User(1, 'e')": "right",
    "c.Order(1, [c.Point(1, 2)], 'n', {'a': 1})": {"0.7.0": "loud", "0.2.2": "loud"},
    "c.Frozen(1, 2)": "right",
    "c.Event(1, c.User(2, 'e'), [c.Point(1, 2)])": "right",
    "c.Color.RED": "right",
    "c.Color.GREEN": "loud",
    "c.Color.MIXED": "loud",
    "c.Level.HIGH": "right",
    "c.Right.READ": "loud",
    "[c.Level.HIGH, c.Level.LOW]": "right",
    "datetime.datetime(2024, 1, 2, 3, 4, 5)": "loud",
    "datetime.date(2024, 1, 2)": "loud",
    "datetime.time(1, 2)": "loud",
    "datetime.timedelta(days=5)": "loud",
    "uuid.UUID(int=5)": "right",
    "decimal.Decimal('1.50')": "right",
    "fractions.Fraction(1, 3)": "right",
    "1.5+2j": "right",
    "ipaddress.ip_address('10.0.0.1')": "right",
    "ipaddress.ip_address('fe80::1')": "right",
    "ipaddress.ip_network('10.0.0.0/8')": "right",
    "ipaddress.ip_interface('10.0.0.1/8')": "right",
    "urllib.parse.urlsplit('http://x/y')": "loud",
    "http.HTTPStatus.OK": "right",
    "b'abc'": "loud",
    "bytearray(b'abc')": "loud",
    "pathlib.Path('/tmp/x')": "right",
    "{(1, 2): 3}": "loud",
    "{1: 'a', '1': 'b'}": "loud",
    "c.Point": "name",
}


def rows():
    names = {
        module.__name__: module
        for module in (
            collections, datetime, decimal, fractions, http, ipaddress, pathlib,
            types, urllib, uuid,
        )
    }  # fmt: skip
    return [(row, eval(row, {**names, "c": c})) for row in ROWS]


def test_each_row_is_right_there_or_loud_there(original):
    lines = [[codec.encode(value).decode(), None, row] for row, value in rows()]
    for (row, _), (verdict, got) in zip(rows(), original(READER, lines), strict=True):
        expected = ROWS[row] if isinstance(ROWS[row], str) else ROWS[row][original.version]
        if expected == "name":
            assert got == "'codec_classes.Point'"
        else:
            assert (row, verdict) == (row, expected), got


def test_a_list_of_objects_is_right_in_the_newer_one(original):
    if original.version != "0.7.0":
        pytest.skip("0.2.2 has no lists of objects")
    for row in ("[c.Point(1, 2), c.Point(3, 4)]", "[c.User(1, 'a')]", "[(1, 2)]", "[None, (1,)]"):
        [(verdict, got)] = original(READER, [[codec.encode(eval(row)).decode(), None, row]])
        assert verdict == "right" or row.startswith("[None"), got


def test_keys_arrive_as_the_original_itself_sends_them(original):
    for value in ({1: "a"}, {None: 1, True: 2}):
        row = repr(json.loads(json.dumps(value)))
        [(verdict, got)] = original(READER, [[codec.encode(value).decode(), None, row]])
        assert verdict == "right", got


def test_hinted_classes_are_right_there_too(original):
    lines = [
        [codec.encode(eval(row)).decode(), hint, row]
        for row, hint in [
            ("c.Event(1, c.User(2, 'e'), [c.Point(1, 2)])", "c.Event"),
            ("c.User(1, 'e')", "c.User"),
            ("c.Point(1, 2)", "c.Point"),
            ("c.Frozen(1)", "c.Frozen"),
            ("(1, 2)", "tuple"),
            ("5", "int"),
            ("None", "int"),
        ]
    ]
    for line, (verdict, got) in zip(lines, original(READER, lines), strict=True):
        assert verdict == "right", (line, got)


def test_an_enum_in_a_hinted_field_is_right_there(original):
    sent = codec.encode(c.holder(c.Color.GREEN, c.Color.RED)).decode()
    program = READER.replace("text, hint", "c.Holder.__annotations__.update(a=c.Color, b=c.Color)"
                             "\n    text, hint")  # fmt: skip
    row = "c.holder(c.Color.GREEN, c.Color.RED)"
    [(verdict, got)] = original(program, [[sent, "c.Holder", row]])
    assert verdict == "right", got


WRITTEN = [
    "None", "True", "5", "0.5", "'ä'", "[]", "[1, 'a']", "{'a': 1}", "(1, (2, 3))", "[(1, 2)]",
    "c.Point(1, 2)", "[c.Point(1, 2), c.Point(3, 4)]", "c.User(1, 'e')", "[c.User(1, 'e')]",
    "c.bare(a=1, _b=[1])", "c.Event(1, c.User(2, 'e'), [c.Point(1, 2)])", "c.Level.HIGH",
    "c.Frozen(1)", "[[1], [2]]", "[{'a': 1}]", "[None]", "{1, 2}", "c.Color.RED",
]  # fmt: skip

#: What the original's JSON cannot tell, even to itself.
LOSES = {
    "(1, (2, 3))": (1, [2, 3]),
    "[{'a': 1}]": [{"a": 1}],
    "c.Level.HIGH": 2,
    "[None]": [None],
}


def test_what_the_original_writes_is_read_right(original):
    for row, text in zip(WRITTEN, original(WRITER, WRITTEN), strict=True):
        if text is None:
            # The original cannot send it.
            assert original.version == "0.2.2", row
            continue
        expected = LOSES.get(row, eval(row))
        if original.version == "0.2.2" and row in ("[(1, 2)]", "[c.Point(1, 2), c.Point(3, 4)]"):
            assert codec.decode(text.encode()) == [list(element) for element in expected]
            continue
        assert (row, codec.decode(text.encode())) == (row, expected)
        assert codec.decode(text.encode(), plan_for(type(eval(row)))) == eval(row) or row in LOSES
