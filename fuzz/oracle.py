"""Answers what Python's own ``json`` makes of a text, and how Python binds the arguments of a call.

Questions come on stdin: a letter, four bytes of length, the text. Answers go to stdout: four bytes
of length, and one line in the form of ``pymq::proof``; an empty one is a refusal.
"""

import json
import struct
import sys
from typing import Any

DEEPEST = 200
"""How deep PyMQ lets values nest; Python itself would go on."""


class Refused(Exception):
    """Python cannot read it, or PyMQ need not."""


def function(a: Any, b: Any, c: Any = None) -> Any:
    return [a, b, c]


def read(text: bytes) -> Any:
    """The value; objects as tuples of their pairs, so that equal keys stay apart."""
    try:
        return json.loads(text.decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise Refused from error


def call(text: bytes) -> Any:
    positional, newline, keywords = text.partition(b"\n")
    args, kwargs = read(positional), read(keywords)
    if not newline or not isinstance(args, list) or not isinstance(kwargs, tuple):
        raise Refused
    try:
        return function(*args, **dict(kwargs))
    except TypeError as error:
        raise Refused from error


def line(value: Any, depth: int = 0) -> str:
    if isinstance(value, (list, tuple)) and depth == DEEPEST:
        raise Refused
    if isinstance(value, list):
        return f"[{''.join(line(item, depth + 1) + ',' for item in value)}]"
    if isinstance(value, tuple):
        pairs = (f"{line(key)}:{line(item, depth + 1)}," for key, item in value)
        return f"{{{''.join(pairs)}}}"
    return scalar(value)


def scalar(value: Any) -> str:
    if value is None:
        return "n"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int):
        return f"i{value}"
    if isinstance(value, float):
        number = abs(value) if value != value else value
        return f"d{struct.pack('>d', number).hex()}"
    try:
        return f"s{value.encode().hex()}"
    except UnicodeEncodeError:
        return "s" + "\ufffd".encode().hex()


def answer(kind: bytes, text: bytes) -> str:
    try:
        return line(call(text)) if kind == b"c" else line(read(text))
    except Refused:
        return ""


def main() -> None:
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while head := questions.read(5):
        kind, length = struct.unpack("<cI", head)
        said = answer(kind, questions.read(length)).encode()
        answers.write(struct.pack("<I", len(said)) + said)
        answers.flush()


if __name__ == "__main__":
    main()
