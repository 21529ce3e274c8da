"""attrs, pydantic and msgspec classes come back, validated where their makers validate."""

# Defaults of models are copied.
# ruff: noqa: RUF012

import datetime
from typing import Annotated, Generic, TypeVar

import pytest

import codec_classes as c
from pymq._codec import Codec, DecodeError, plan_for

attrs = pytest.importorskip("attrs")
pydantic = pytest.importorskip("pydantic")
msgspec = pytest.importorskip("msgspec")

codec = Codec()


def there_and_back(value):
    for plan in (None, plan_for(type(value))):
        got = codec.decode(codec.encode(value), plan)
        assert type(got) is type(value)
        assert got == value
    within = codec.decode(codec.encode({"k": [value, (value,)]}))
    assert within == {"k": [value, (value,)]}


# ---- attrs


@attrs.define
class Slotted:
    a: int
    _private: c.Point
    when: datetime.date = datetime.date(2024, 1, 1)


@attrs.define(slots=False)
class Open:
    a: int
    b: tuple = ()


@attrs.frozen
class Frozen:
    a: int
    inner: "Frozen | None" = None


def test_attrs_classes_come_back():
    there_and_back(Slotted(1, c.Point(1, 2)))
    there_and_back(Open(1, (2,)))
    there_and_back(Frozen(1, Frozen(2)))


def test_a_hint_of_an_attrs_class_converts_and_takes_arguments_by_alias():
    got = codec.decode(b'{"a":"1","_private":[1,2]}', plan_for(Slotted))
    assert got == Slotted(1, c.Point(1, 2))


# ---- pydantic


class Model(pydantic.BaseModel):
    id: int
    name: str = "x"
    seen: datetime.datetime | None = None
    tags: set[str] = set()


class Team(pydantic.BaseModel):
    model_config = {"extra": "allow", "frozen": True}
    lead: Model
    point: c.Point
    raw: bytes = b""


class Aliased(pydantic.BaseModel):
    from_: int = pydantic.Field(alias="from")


class Numbers(pydantic.RootModel[list[int]]):
    pass


def test_pydantic_models_come_back():
    model = Model(id=1, seen=datetime.datetime(2024, 1, 1), tags={"a"})
    there_and_back(model)
    there_and_back(Team(lead=model, point=c.Point(1, 2), raw=b"\xff", more=(1,)))
    there_and_back(Aliased(**{"from": 1}))
    there_and_back(Numbers([1, 2]))


def test_pydantic_validates():
    assert codec.decode(b'{"id":"5"}', plan_for(Model)) == Model(id=5)
    with pytest.raises(DecodeError, match="id"):
        codec.decode(b'{"id":"x"}', plan_for(Model))
    with pytest.raises(DecodeError, match="id"):
        codec.decode(b'{"id":"x","__type":"test_codec_models.Model"}')


# ---- msgspec

T = TypeVar("T")


class Struct(msgspec.Struct):
    id: int
    name: str = "x"
    when: datetime.date | None = None


class Tagged(msgspec.Struct, frozen=True, rename="camel", tag="team"):
    lead_user: Struct
    points: list[c.Point] = []


class Row(msgspec.Struct, array_like=True):
    a: int
    b: bytes = b""


class TaggedRow(msgspec.Struct, array_like=True, tag=True):
    a: int


class Box(msgspec.Struct, Generic[T]):
    item: T


def test_msgspec_structs_come_back():
    struct = Struct(1, when=datetime.date(2024, 1, 1))
    there_and_back(struct)
    there_and_back(Tagged(struct, [c.Point(1, 2)]))
    there_and_back(Row(1, b"\xff"))
    there_and_back(TaggedRow(1))
    there_and_back(Box(struct))


def test_msgspec_validates():
    positive = Annotated[int, msgspec.Meta(gt=0)]
    checked = msgspec.defstruct("Checked", [("id", positive)], module=__name__)
    assert codec.decode(b'{"id":5}', plan_for(checked)) == checked(5)
    for bad in (b'{"id":"x"}', b'{"id":-1}', b"{}"):
        with pytest.raises(DecodeError, match="id"):
            codec.decode(bad, plan_for(checked))
