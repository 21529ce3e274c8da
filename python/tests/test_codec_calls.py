"""Arguments are bound and converted by the function's signature, results by their tags."""

import functools
import json

import pytest

import codec_classes as c
from pymq._codec import Codec, DecodeError, call_plan, plan_for

codec = Codec()

ORIGIN = c.Point(0, 0)


def sent(plan, *args, **kwargs):
    return codec.decode_call(*codec.encode_call(args, kwargs), plan)


def order(order: c.Order, point: c.Point = ORIGIN, *rest: int, note: str = "", **more: c.User):
    """Has a parameter of each kind."""


def untyped(a, b=2): ...


def positional_only(a, /, b): ...


class Service:
    def method(self, a: c.Point) -> c.User: ...

    @classmethod
    def class_method(cls, a: c.Point): ...

    @staticmethod
    def static_method(a: c.Point): ...

    def __call__(self, a: c.Point): ...


def test_arguments_travel_as_json_beside_one_type_tree():
    args, kwargs, types = codec.encode_call((1, c.Point(1, 2), "x"), {"user": c.User(1, "e")})
    assert json.loads(args) == [1, [1, 2, ""], "x"]
    assert json.loads(kwargs) == {"user": {"id": 1, "email": "e"}}
    assert json.loads(types) == {
        "0": {"1": "codec_classes.Point"},
        "1": {"*": "codec_classes.User"},
    }
    assert codec.encode_call((1, [2], {"a": None}), {"b": "x"})[2] is None


def test_hints_convert_what_an_old_caller_sends():
    args, kwargs = codec.decode_call(
        b'[{"id":"1","lines":[[1,2]]},[3,4],"5","6"]',
        b'{"note":7,"user":{"id":1,"email":"e"}}',
        None,
        call_plan(order),
    )
    assert args == (c.Order(1, [c.Point(1, 2)]), c.Point(3, 4), 5, 6)
    assert kwargs == {"note": "7", "user": c.User(1, "e")}


def test_an_old_caller_may_send_null_for_no_arguments():
    assert codec.decode_call(b"null", b"null", None, call_plan(lambda: None)) == ((), {})


def test_untyped_parameters_take_what_the_types_say():
    assert sent(call_plan(untyped), c.User(1, "e"), b={1}) == ((c.User(1, "e"),), {"b": {1}})


@pytest.mark.parametrize(
    "fn",
    [
        Service.method,
        Service().method,
        Service.class_method,
        Service.static_method,
        Service(),
        functools.partial(Service.static_method),
    ],
    ids=["unbound", "bound", "class method", "static method", "callable object", "partial"],
)
def test_every_kind_of_function_has_its_hints_and_no_self(fn):
    args, _ = codec.decode_call(b"[[1,2]]", b"{}", None, call_plan(fn))
    assert args == (c.Point(1, 2),)


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "text"),
    [
        (untyped, (), {}, "missing a required argument: 'a'"),
        (untyped, (1, 2, 3), {}, "too many positional arguments"),
        (untyped, (1,), {"a": 2}, "multiple values for argument 'a'"),
        (untyped, (1,), {"c": 2}, "unexpected keyword argument 'c'"),
        (positional_only, (), {"a": 1, "b": 2}, "'a'"),
        (order, (), {"note": "x"}, "missing a required argument: 'order'"),
    ],
)
def test_a_wrong_call_is_a_type_error_that_names_the_function(fn, args, kwargs, text):
    plan = call_plan(fn)
    for call in (lambda: plan.bind(args, kwargs), lambda: sent(plan, *args, **kwargs)):
        with pytest.raises(TypeError, match=rf"^{fn.__name__}\(\): .*{text}"):
            call()


def test_a_right_call_binds():
    call_plan(order).bind((1, 2, 3, 4), {"note": 1, "x": 2})
    call_plan(positional_only).bind((1,), {"b": 2})
    call_plan(untyped).bind((), {"a": 1})


def test_a_wrong_argument_is_named():
    with pytest.raises(DecodeError, match=r"^argument order\.lines\[0\]\.x: no int"):
        codec.decode_call(b'[{"id":1,"lines":[["x",1]]}]', b"{}", None, call_plan(order))
    for args, kwargs in ((b"{}", b"{}"), (b"[]", b"[]"), (b"[", b"{}")):
        with pytest.raises(DecodeError):
            codec.decode_call(args, kwargs, None, call_plan(order))


# ---- results


def result(value, hint=None):
    plan = None if hint is None else plan_for(hint)
    return codec.decode_result(*codec.encode_result(value), plan)


@pytest.mark.parametrize(
    ("value", "json_text", "result_type", "types"),
    [
        (None, b"null", "NoneType", None),
        (5, b"5", "int", None),
        ("x", b'"x"', "str", None),
        ([1], b"[1]", "list", None),
        ((1, (2,)), b"[1,[2]]", "tuple", b'{"1":"tuple"}'),
        ({"a": 1}, b'{"a":1}', "dict", None),
        ({1: 2}, b'{"1":2}', "dict", b'"dict:int"'),
        (frozenset({1}), b"[1]", "set", b'"frozenset"'),
        (c.Point(1, 2), b'[1,2,""]', "codec_classes.Point", None),
        (c.User(1, "e"), b'{"id":1,"email":"e"}', "codec_classes.User", None),
        (c.Color.GREEN, b"2", "codec_classes.Color", None),
        (ValueError("a", 1), b'["a",1]', "ValueError", None),
        ([c.Point(1, 2)], b'[[1,2,""]]', "list", b'{"*":"codec_classes.Point"}'),
    ],
)
def test_a_result_travels_as_the_original_sends_it(value, json_text, result_type, types):
    assert codec.encode_result(value) == (json_text, result_type, types)


def test_what_the_tag_says_counts_and_not_the_return_hint():
    assert codec.decode_result(b'"x"', "str", None, plan_for(int)) == "x"
    assert codec.decode_result(b'"3"', "str", None, plan_for(int)) == "3"
    assert codec.decode_result(b'["x"]', "list", None, plan_for(list[int])) == ["x"]
    assert result(c.User(1, "e"), c.Unrelated) == c.User(1, "e")


def test_the_return_hint_shapes_what_has_no_better_tag():
    user = b'{"id":1,"email":"e"}'
    for tag in ("dict", "nowhere.User", "codec_classes.User"):
        assert codec.decode_result(user, tag, None, plan_for(c.User)) == c.User(1, "e")
        assert codec.decode_result(user, tag, None, plan_for(c.User | None)) == c.User(1, "e")
    points = codec.decode_result(b"[[1,2]]", "list", None, plan_for(list[c.Point]))
    assert points == [c.Point(1, 2)]
    assert codec.decode_result(b'"3"', "int", None) == 3
    assert result(c.RushOrder(1), c.Order) == c.RushOrder(1)


def test_a_function_without_a_return_hint_has_no_plan_for_it():
    def none() -> None: ...

    assert call_plan(none).returns is None
    assert call_plan(untyped).returns is None
    assert call_plan(Service.method).returns is not None


def test_an_exception_reaches_the_caller_whatever_its_arguments_are():
    error = ValueError("a", object)
    assert codec.decode_result(*codec.encode_result(error))[0] == "a"
    text, result_type, types = codec.encode_result(KeyError(object(), "b"))
    assert (result_type, types) == ("KeyError", None)
    assert json.loads(text)[1] == "'b'"


def test_arguments_leave_room_for_the_envelope():
    value = []
    for _ in range(196):
        value = [value]
    args, kwargs, _ = codec.encode_call((value,), {})
    codec.decode(b'{"__obj":["f","r",' + args + b"," + kwargs + b'],"__type":"tuple"}')
    with pytest.raises(TypeError, match="nested deeper than 200 levels"):
        codec.encode_call(([value],), {})
