"""Encoding and decoding one typed event, beside msgspec and the original.

All figures are of one run; the ratios to msgspec's Struct are what counts. Needs msgspec. The
original is measured too if PYMQ_ORIGINAL_07 names the Python of an environment that has it.

    python benches/python/codec.py [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable
from typing import Any, Dict, List, NamedTuple, Optional  # noqa: UP035  (the original reads these)

ROUNDS = 9
LOOPS = 3000


class Point(NamedTuple):
    x: int
    y: int
    label: str


class User:
    id: int
    email: str
    age: Optional[int]  # noqa: UP045

    def __init__(self, id, email, age=None):
        self.id = id
        self.email = email
        self.age = age


class Event:
    id: int
    name: str
    source: str
    score: float
    parent: Any
    active: bool
    tags: List[str]  # noqa: UP006
    points: List[Point]  # noqa: UP006
    user: User
    note: str
    meta: Dict[str, Any]  # noqa: UP006

    def __init__(self, id, name, source, score, parent, active, tags, points, user, note, meta):
        self.id = id
        self.name = name
        self.source = source
        self.score = score
        self.parent = parent
        self.active = active
        self.tags = tags
        self.points = points
        self.user = user
        self.note = note
        self.meta = meta


def event() -> Event:
    return Event(
        id=123456,
        name="user.created",
        source="svc-a/eu-1",
        score=0.8734,
        parent=None,
        active=True,
        tags=["alpha", "beta", "gamma"],
        points=[Point(i, i * 7, f"p{i}") for i in range(5)],
        user=User(7, "someone@example.org"),
        note="Grüße from the other side",
        meta={"k1": "v1", "k2": 2, "k3": 3.5},
    )


def median_ns(call: Callable[[], Any], loops: int) -> float:
    times = [timeit.timeit(call, number=loops) / loops for _ in range(ROUNDS)]
    return statistics.median(times) * 1e9


def interleaved(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Medians over rounds in turn, so that a slow moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(timeit.timeit(call, number=LOOPS) / LOOPS * 1e9)
    return {name: statistics.median(each) for name, each in times.items()}


def ours_and_msgspec() -> dict[str, dict[str, float]]:
    import msgspec

    from pymq._codec import Codec, plan_for

    class StructPoint(msgspec.Struct, array_like=True):
        x: int
        y: int
        label: str

    class StructUser(msgspec.Struct):
        id: int
        email: str
        age: Optional[int]  # noqa: UP045

    class StructEvent(msgspec.Struct):
        id: int
        name: str
        source: str
        score: float
        parent: Any
        active: bool
        tags: list[str]
        points: list[StructPoint]
        user: StructUser
        note: str
        meta: dict[str, Any]

    codec, plan, value = Codec(), plan_for(Event), event()
    ours = codec.encode(value)
    tree = json.loads(json.dumps(value, default=lambda o: o.__dict__))
    struct = msgspec.convert(tree, StructEvent)
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(StructEvent)
    theirs = encoder.encode(struct)
    untagged = theirs
    decoded = codec.decode(ours, plan)
    assert decoded.points == value.points
    assert vars(decoded.user) == vars(value.user)
    assert type(codec.decode(ours)) is Event
    print(f"event: {len(theirs)} bytes from msgspec, {len(ours)} from pymq with its types")
    return {
        "encode": interleaved(
            {"msgspec Struct": lambda: encoder.encode(struct), "pymq": lambda: codec.encode(value)}
        ),
        "decode": interleaved(
            {
                "msgspec Struct": lambda: decoder.decode(theirs),
                "pymq, hinted": lambda: codec.decode(ours, plan),
                "pymq, hinted, from an old peer": lambda: codec.decode(untagged, plan),
                "pymq, by tags": lambda: codec.decode(ours),
            }
        ),
    }


def original() -> dict[str, dict[str, float]]:
    from pymq.json import DeepDictDecoder, DeepDictEncoder

    value = event()
    text = json.dumps(value, cls=DeepDictEncoder)
    decoder = DeepDictDecoder.for_type(Event)
    return {
        "encode": {"original": median_ns(lambda: json.dumps(value, cls=DeepDictEncoder), 300)},
        "decode": {"original": median_ns(lambda: json.loads(text, cls=decoder), 50)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--original", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.original:
        json.dump(original(), sys.stdout)
        return
    figures = ours_and_msgspec()
    python = os.environ.get("PYMQ_ORIGINAL_07")
    if python:
        run = subprocess.run(
            [python, __file__, "--original"], check=True, capture_output=True, text=True
        )
        for work, rows in json.loads(run.stdout).items():
            figures[work].update(rows)
    for work, rows in figures.items():
        limit = rows["msgspec Struct"]
        print(f"\n{work:<36}{'ns':>9}   x msgspec")
        for name, ns in rows.items():
            print(f"  {name:<34}{ns:>9.0f}   {ns / limit:>6.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(figures, out, indent=2)


if __name__ == "__main__":
    main()
