"""What is sent: an event of 330 bytes with nested objects and named tuples.

Written as programs for the original write their types, so that both libraries take it.
"""

from typing import Any, Dict, List, NamedTuple, Optional  # noqa: UP035  (the original reads these)


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
