"""Encoding and decoding one typed event: codec.py pymq | msgspec | original.

Started by the benches, in this library's environment or in the original's. What is encoded is
decoded and compared before anything is measured.
"""

import json
import sys
import timeit
from collections.abc import Callable
from typing import Any

import sample
import worker

LOOPS = 100


def ours() -> tuple[Callable[[], Any], Callable[[], Any]]:
    from pymq._codec import Codec, plan_for

    codec, plan, value = Codec(), plan_for(sample.Event), sample.event()
    text = codec.encode(value)
    decoded = codec.decode(text, plan)
    assert decoded.points == value.points, decoded.points
    assert vars(decoded.user) == vars(value.user), decoded.user
    return lambda: codec.encode(value), lambda: codec.decode(text, plan)


def msgspecs() -> tuple[Callable[[], Any], Callable[[], Any]]:
    import msgspec

    class Point(msgspec.Struct, array_like=True):
        x: int
        y: int
        label: str

    class User(msgspec.Struct):
        id: int
        email: str
        age: int | None

    class Event(msgspec.Struct):
        id: int
        name: str
        source: str
        score: float
        parent: Any
        active: bool
        tags: list[str]
        points: list[Point]
        user: User
        note: str
        meta: dict[str, Any]

    tree = json.loads(json.dumps(sample.event(), default=vars))
    value = msgspec.convert(tree, Event)
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Event)
    text = encoder.encode(value)
    assert decoder.decode(text) == value
    return lambda: encoder.encode(value), lambda: decoder.decode(text)


def originals() -> tuple[Callable[[], Any], Callable[[], Any]]:
    from pymq.json import DeepDictDecoder, DeepDictEncoder

    value, decoder = sample.event(), DeepDictDecoder.for_type(sample.Event)
    text = json.dumps(value, cls=DeepDictEncoder)
    assert json.loads(text, cls=decoder).points == value.points
    return (
        lambda: json.dumps(value, cls=DeepDictEncoder),
        lambda: json.loads(text, cls=decoder),
    )


def middle_time(once: Callable[[], Any]) -> Callable[[float], worker.Figure]:
    """The clock is looked at once in many: what is measured takes little more than that itself."""
    timer = timeit.Timer(once)

    def measure(seconds: float) -> worker.Figure:
        number, operations = worker.middle_time(seconds, lambda: timer.timeit(LOOPS))
        return worker.Figure(number / LOOPS, operations * LOOPS)

    return measure


if __name__ == "__main__":
    encode, decode = {"pymq": ours, "msgspec": msgspecs, "original": originals}[sys.argv[1]]()
    worker.serve({"encode": middle_time(encode), "decode": middle_time(decode)})
