"""Classes that both sides of the codec's tests import, in the original's environments too."""

import dataclasses
import enum
from typing import Any, Dict, List, NamedTuple, Optional  # noqa: UP035


class Point(NamedTuple):
    x: int
    y: int
    label: str = ""


class Plain:
    """Compared by its attributes."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({vars(self)})"


class User(Plain):
    id: int
    email: str

    def __init__(self, id: int, email: str) -> None:
        self.id = id
        self.email = email


class Bare(Plain):
    pass


class Event(Plain):
    id: int
    user: User
    points: List[Point]  # noqa: UP006

    def __init__(self, id: int = 0, user: Any = None, points: Any = ()) -> None:
        self.id = id
        self.user = user
        self.points = points


class Color(enum.Enum):
    RED = "red"
    GREEN = 2
    MIXED = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Order:
    id: int
    lines: List[Point] = dataclasses.field(default_factory=list)  # noqa: UP006
    note: Optional[str] = None  # noqa: UP045
    extra: Dict[str, Any] = dataclasses.field(default_factory=dict)  # noqa: UP006


@dataclasses.dataclass
class RushOrder(Order):
    minutes: int = 5


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int
    b: Any = None


class Unrelated(Plain):
    pass


class Holder(Plain):
    a: Any
    b: Any


def bare(**attributes: Any) -> Bare:
    made = Bare()
    vars(made).update(attributes)
    return made


def holder(a: Any, b: Any = None) -> Holder:
    made = Holder()
    made.a, made.b = a, b
    return made
