"""attrs, pydantic and msgspec classes come back, validated where their makers validate."""

import datetime
from typing import Annotated, Generic, TypeVar

import codec_classes as c
import pytest

from pymq._codec import Codec, DecodeError, plan_for

codec = Codec()


def there_and_back(value):
    for plan in (None, plan_for(type(value))):
        got = codec.decode(codec.encode(value), plan)
        assert type(got) is type(value)
        assert got == value
    within = codec.decode(codec.encode({"k": [value, (value,)]}))
    assert within == {"k": [value, (value,)]}


class TestAttrs:
    attrs = pytest.importorskip("attrs")

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
        inner: "TestAttrs.Frozen | None" = None

    def test_come_back(self):
        there_and_back(self.Slotted(1, c.Point(1, 2)))
        there_and_back(self.Open(1, (2,)))
        there_and_back(self.Frozen(1, self.Frozen(2)))

    def test_a_hint_converts_and_takes_arguments_by_alias(self):
        got = codec.decode(b'{"a":"1","_private":[1,2]}', plan_for(self.Slotted))
        assert got == self.Slotted(1, c.Point(1, 2))


class TestPydantic:
    pydantic = pytest.importorskip("pydantic")

    class User(pydantic.BaseModel):
        id: int
        name: str = "x"
        seen: datetime.datetime | None = None
        tags: set[str] = set()

    class Team(pydantic.BaseModel):
        model_config = {"extra": "allow", "frozen": True}
        lead: "TestPydantic.User"
        point: c.Point
        raw: bytes = b""

    class Aliased(pydantic.BaseModel):
        from_: int = pydantic.Field(alias="from")

    Numbers = pydantic.RootModel[list[int]]

    @pytest.fixture(autouse=True)
    def complete(self):
        self.Team.model_rebuild(_types_namespace={"TestPydantic": TestPydantic, "c": c})

    def test_come_back(self):
        user = self.User(id=1, seen=datetime.datetime(2024, 1, 1), tags={"a"})
        there_and_back(user)
        there_and_back(self.Team(lead=user, point=c.Point(1, 2), raw=b"\xff", more=(1,)))
        there_and_back(self.Aliased(**{"from": 1}))

    def test_a_root_model_comes_back_under_its_hint(self):
        sent = self.Numbers([1, 2])
        assert codec.decode(codec.encode(sent), plan_for(self.Numbers)) == sent

    def test_validation_decides(self):
        assert codec.decode(b'{"id":"5"}', plan_for(self.User)) == self.User(id=5)
        with pytest.raises(DecodeError, match="id"):
            codec.decode(b'{"id":"x"}', plan_for(self.User))
        with pytest.raises(DecodeError, match="id"):
            codec.decode(b'{"id":"x","__type":"test_codec_models.User"}', plan_for(self.User))


T = TypeVar("T")


class TestMsgspec:
    msgspec = pytest.importorskip("msgspec")

    class User(msgspec.Struct):
        id: int
        name: str = "x"
        when: datetime.date | None = None

    class Team(msgspec.Struct, frozen=True, rename="camel", tag="team"):
        lead_user: "TestMsgspec.User"
        points: list[c.Point] = []

    class Row(msgspec.Struct, array_like=True):
        a: int
        b: bytes = b""

    class Box(msgspec.Struct, Generic[T]):
        item: T

    def test_come_back(self):
        user = self.User(1, when=datetime.date(2024, 1, 1))
        there_and_back(user)
        there_and_back(self.Row(1, b"\xff"))
        there_and_back(self.Box(user))

    def test_tagged_and_renamed_ones_come_back(self):
        sent = self.Team(self.User(1), [c.Point(1, 2)])
        namespace = {"TestMsgspec": TestMsgspec, "c": c}
        self.Team.__annotations__ = {
            name: eval(hint, namespace) if isinstance(hint, str) else hint
            for name, hint in self.Team.__annotations__.items()
        }
        there_and_back(sent)

    def test_validation_decides(self):
        positive = Annotated[int, self.msgspec.Meta(gt=0)]
        model = self.msgspec.defstruct("Checked", [("id", positive)], module=__name__)
        assert codec.decode(b'{"id":5}', plan_for(model)) == model(5)
        for bad in (b'{"id":"x"}', b'{"id":-1}', b"{}"):
            with pytest.raises(DecodeError, match="id"):
                codec.decode(bad, plan_for(model))
