"""Type hints to plans, and tags to classes.

Reflection happens here, once per hint; the plans run in the native codec. A tag is looked up among
declared classes and, by exact name, among those that the program has loaded: nothing is imported
and no attribute is followed on the word of a message.

No lock is held anywhere: a signal handler or a finaliser may break into a build, and wait for a
thread that needs the same plan. Everybody builds for himself, and who is first gives it to all.
"""

from __future__ import annotations

import builtins
import collections
import collections.abc
import dataclasses
import enum
import sys
import types
import typing
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ForwardRef, TypeVar

from pymq import _hints, _models, _texts, _types
from pymq._pymq import CallPlan, Plan, forget_tags

__all__ = ["call_plan", "declare", "plan_for", "register", "resolve"]

C = TypeVar("C", bound=type)

_ANY = Plan.any()
_plans: dict[Hashable, Plan] = {}
#: The hints that a hint is made of, and the class it names, for declaring them all.
_parts: dict[Hashable, list[Any]] = {}
_declared_hints: set[Hashable] = set()
_declared: dict[str, type] = {}


# ---- plans


def plan_for(hint: Any) -> Plan:
    """The plan of a hint that the program names; its classes are thereby declared."""
    plan = _plan(hint)
    _declare_parts(hint)
    return plan


def call_plan(fn: Callable[..., Any]) -> CallPlan:
    """The plans of a function's parameters and of its result."""
    signature = _hints.signature(fn)
    hints = _hints.of_callable(fn)
    positional, keyword_only = [], []
    rest = keywords = None
    positional_only = 0
    for name, parameter in signature.parameters.items():
        plan = plan_for(hints.get(name, Any))
        entry = (name, plan, parameter.default is parameter.empty)
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = plan
        elif parameter.kind is parameter.VAR_KEYWORD:
            keywords = plan
        elif parameter.kind is parameter.KEYWORD_ONLY:
            keyword_only.append(entry)
        else:
            positional_only += parameter.kind is parameter.POSITIONAL_ONLY
            positional.append(entry)
    returns = hints.get("return")
    return CallPlan(
        getattr(fn, "__name__", type(fn).__name__),
        signature,
        positional + keyword_only,
        positional_only=positional_only,
        positional=len(positional),
        rest=rest,
        keywords=keywords,
        returns=None if returns in (None, type(None)) else plan_for(returns),
    )


def register(cls: C) -> C:
    """Declares a class: messages may be decoded to it. Works as a decorator."""
    if not isinstance(cls, type):
        raise TypeError(f"register takes a class, not {cls!r}")
    declare(cls)
    plan_for(cls)
    return cls


def declare(cls: type) -> None:
    """Makes the class known by its tag; of two classes with one name the later counts."""
    tag = _types.fullname(cls)
    if _types.is_tag(tag) and _declared.get(tag) is not cls:
        _declared[tag] = cls
        forget_tags()


def _declare_parts(hint: Any) -> None:
    pending, seen = [hint], set[Hashable]()
    while pending:
        hint = pending.pop()
        key = _key(hint)
        if key in seen or key in _declared_hints:
            continue
        seen.add(key)
        cls = typing.get_origin(hint) or hint
        if isinstance(cls, type) and not _types.is_machinery(cls):
            declare(cls)
        pending.extend(_parts.get(key, ()))
    # Only now: whoever finds a hint here relies on the classes within it.
    _declared_hints.update(seen)


def _key(hint: Any) -> Hashable:
    try:
        hash(hint)
    except TypeError:
        return id(hint)
    # Unions of the same members in another order are equal, and so are 1 and True in literals.
    return (hint, repr(hint)) if not isinstance(hint, type) else hint


def _plan(hint: Any) -> Plan:
    """Builds the plan, or takes the one that was built."""
    key = _key(hint)
    plan = _plans.get(key)
    if plan is None:
        _Workshop().plan(hint)
        plan = _plans[key]
    return plan


class _Workshop:
    """The plans that one build makes; the others see them when all are whole."""

    def __init__(self) -> None:
        self._plans: dict[Hashable, Plan] = {}
        self._parts: dict[Hashable, list[Any]] = {}

    def plan(self, hint: Any) -> None:
        """Builds the plan of a hint, and of what is within it, and gives them to all."""
        self.part(hint)
        for key, parts in self._parts.items():
            _parts.setdefault(key, parts)
        for key, plan in self._plans.items():
            _plans.setdefault(key, plan)

    def part(self, hint: Any) -> Plan:
        """The plan of a hint, which may be a part of itself."""
        key = _key(hint)
        known = _plans.get(key) or self._plans.get(key)
        if known is not None:
            return known
        later = self._plans[key] = Plan.later()
        parts = self._parts[key] = [hint]
        plan = _Builder(self, parts).build(hint)
        later.fill(plan)
        self._plans[key] = plan
        return plan


# ---- tags

_PLAIN_TAGS: dict[str, Any] = {
    **{cls.__name__: cls for cls in (str, int, float, bool, list, tuple, dict)},
    **{entry.tag: cls for cls, entry in _texts.TEXT_TYPES.items()},
    **{tag: cls for cls, (tag, _) in _types.COLLECTIONS.items()},
    "types.SimpleNamespace": types.SimpleNamespace,
    "NoneType": Any,
}


def resolve(tag: str, trust: str) -> Plan | None:
    """The plan of the class that a message's tag names, if that is known and trusted."""
    if tag in _PLAIN_TAGS:
        return _plan(_PLAIN_TAGS[tag])
    if not _types.is_tag(tag):
        return None
    cls = _declared.get(tag)
    if cls is None and trust == "loaded":
        cls = _loaded(tag)
    if cls is not None and not issubclass(cls, BaseException):
        return _plan(cls)
    # The original tags what a function raised; it arrives as its arguments.
    raised = vars(builtins).get(tag)
    if isinstance(raised, type) and issubclass(raised, BaseException):
        return _ANY
    return None


def _loaded(tag: str) -> type | None:
    """A class of exactly this name in a loaded module, if it is data and not Python's own."""
    module_name, _, name = tag.rpartition(".")
    module = sys.modules.get(module_name)
    if module is None or types.ModuleType not in type(module).__mro__:
        return None
    # Not `getattr`: modules may define it, and lazy ones import by it.
    cls: Any = object.__getattribute__(module, "__dict__").get(name)
    # By its true type: an object may say that it is a class, by a property.
    if not issubclass(type(cls), type) or not _types.is_data(cls):
        return None
    if cls.__module__ != module_name or cls.__qualname__ != name or _types.is_machinery(cls):
        return None
    if module_name.partition(".")[0] == "pymq" and not _types.is_named_tuple(cls):
        return None
    found: type = cls
    return found


# ---- one hint

_ABSTRACT_ARRAYS: dict[Any, str | None] = {
    collections.abc.Iterable: None,
    collections.abc.Iterator: None,
    collections.abc.Collection: None,
    collections.abc.Container: None,
    collections.abc.Reversible: None,
    collections.abc.Sequence: None,
    collections.abc.MutableSequence: None,
    collections.abc.Set: "set",
    collections.abc.MutableSet: "set",
}
_ABSTRACT_MAPPINGS = (collections.abc.Mapping, collections.abc.MutableMapping)
_CONCRETE_ARRAYS: dict[Any, tuple[str, Any]] = {
    list: ("list", None),
    set: ("set", None),
    frozenset: ("frozenset", None),
    collections.deque: ("collections.deque", collections.deque),
}


def _default_dict(values: dict[Any, Any]) -> collections.defaultdict[Any, Any]:
    return collections.defaultdict(None, values)


_CONCRETE_MAPPINGS: dict[Any, tuple[str, Any]] = {
    dict: ("dict", None),
    collections.OrderedDict: ("collections.OrderedDict", collections.OrderedDict),
    collections.defaultdict: ("collections.defaultdict", _default_dict),
    collections.Counter: ("collections.Counter", collections.Counter),
}


class _Builder:
    """Builds the plan of one hint, and notes the hints within it."""

    def __init__(self, workshop: _Workshop, parts: list[Any]) -> None:
        self._workshop = workshop
        self._parts = parts

    def part(self, hint: Any) -> Plan:
        self._parts.append(hint)
        return self._workshop.part(hint)

    def parts(self, hints: Iterable[tuple[str, Any]]) -> list[tuple[str, Plan]]:
        return [(name, self.part(hint)) for name, hint in hints]

    def build(self, hint: Any) -> Plan:
        hint = _hints.stripped(hint)
        if hint is None or isinstance(hint, (str, ForwardRef)) or hint in _hints.OPEN:
            return _ANY
        if isinstance(hint, TypeVar):
            return self.type_variable(hint)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Literal:
            return Plan.literal(list(args))
        if origin in (typing.Union, types.UnionType):
            return self.union(args)
        if origin is type or hint is type:
            return Plan.refused("classes are not built from messages; send the class's name")
        cls = origin or hint
        collection = self.collection(cls, args)
        if collection is not None:
            return collection
        if not isinstance(cls, type) or cls is object or getattr(cls, "_is_protocol", False):
            return _ANY
        return self.class_plan(cls, args)

    def type_variable(self, variable: TypeVar) -> Plan:
        if variable.__constraints__:
            return self.union(variable.__constraints__)
        return self.part(variable.__bound__) if variable.__bound__ is not None else _ANY

    def union(self, args: tuple[Any, ...]) -> Plan:
        # None passes everywhere.
        members = [arg for arg in args if arg is not type(None)]
        if len(members) == 1:
            return self.part(members[0])
        return Plan.union([self.part(member) for member in members])

    def collection(self, cls: Any, args: tuple[Any, ...]) -> Plan | None:
        first = args[0] if args else Any
        if cls in _CONCRETE_ARRAYS:
            tag, make = _CONCRETE_ARRAYS[cls]
            return Plan.array(cls, tag, self.part(first), make)
        if cls in _ABSTRACT_ARRAYS:
            return Plan.array(None, _ABSTRACT_ARRAYS[cls], self.part(first))
        if cls is tuple:
            return self.tuple_plan(args)
        key, value = args if len(args) == 2 else (first, int if cls is collections.Counter else Any)
        if cls in _CONCRETE_MAPPINGS:
            tag, make = _CONCRETE_MAPPINGS[cls]
            return Plan.mapping(cls, tag, self.part(key), self.part(value), make)
        if cls in _ABSTRACT_MAPPINGS:
            return Plan.mapping(None, None, self.part(key), self.part(value))
        return None

    def tuple_plan(self, args: tuple[Any, ...]) -> Plan:
        if not args:
            return Plan.array(tuple, "tuple", _ANY)
        if len(args) == 2 and args[1] is Ellipsis:
            return Plan.array(tuple, "tuple", self.part(args[0]))
        fixed = [] if args == ((),) else [self.part(arg) for arg in args]
        return Plan.fixed_tuple(tuple, fixed)

    def class_plan(self, cls: type, args: tuple[Any, ...]) -> Plan:
        tag = _types.fullname(cls)
        if cls in (str, int, float, bool):
            return Plan.primitive(cls)
        if issubclass(cls, enum.Enum):
            return Plan.scalar(cls, tag, _models.enum_reader(cls))
        if issubclass(cls, BaseException):
            return Plan.scalar(cls, tag, _models.exception_reader(cls))
        if typing.is_typeddict(cls):
            return self.typed_dict(cls)
        if cls is types.SimpleNamespace:
            return Plan.model(cls, tag, lambda values: types.SimpleNamespace(**values))
        if _types.is_named_tuple(cls):
            hints = _hints.of_class(cls, args)
            fields = [(name, hints.get(name, Any)) for name in cls._fields]  # type: ignore[attr-defined]
            defaults = dict(cls._field_defaults)  # type: ignore[attr-defined]
            return Plan.named_tuple(cls, tag, self.parts(fields), defaults)
        text = _texts.text_type(cls)
        if text is not None:
            return self.text(cls, text)
        if issubclass(cls, (str, int, float, tuple, list, dict)):
            return self.builtin_subclass(cls, tag)
        if _types.is_pydantic(cls):
            self._parts.extend(_hints.of_class(cls, args).values())
            return Plan.model(cls, tag, _models.pydantic_reader(cls))
        if _types.is_msgspec(cls):
            self._parts.extend(_hints.of_class(cls, args).values())
            return Plan.model(cls, tag, _models.msgspec_reader(cls))
        if not _is_buildable(cls):
            return Plan.refused(f"{tag} cannot be built from a message; hint a class of data")
        return self.object(cls, tag, args)

    def text(self, cls: type, text: _texts.TextType) -> Plan:
        if cls is text.cls or issubclass(
            type(text.cls()) if _texts.is_path(cls) else text.cls, cls
        ):
            return Plan.scalar(text.cls, text.tag, text.read)
        return Plan.scalar(cls, _types.fullname(cls), _models.text_subclass_reader(cls, text))

    def typed_dict(self, cls: type) -> Plan:
        hints, required = _hints.of_typed_dict(cls)
        return Plan.typed_dict(self.parts(hints.items()), required)

    def builtin_subclass(self, cls: type, tag: str) -> Plan:
        rebuild = _models.rebuilder(cls)
        if issubclass(cls, int):
            return Plan.scalar(cls, tag, _models.integer_reader(cls), rebuild)
        if issubclass(cls, dict):
            return Plan.mapping(cls, tag, _ANY, _ANY, rebuild)
        if issubclass(cls, (list, tuple)):
            return Plan.array(cls, tag, _ANY, rebuild)
        return Plan.scalar(cls, tag, cls, rebuild)

    def object(self, cls: type, tag: str, args: tuple[Any, ...]) -> Plan:
        hints = _hints.of_class(cls, args)
        slots = _types.slots_of(cls)
        has_dict = _types.has_dict(cls)
        overridden = _types.overrides(cls, "__setattr__")
        made = dataclasses.is_dataclass(cls) or _types.is_attrs(cls)
        direct = has_dict and not slots and not overridden and not any(_types.data_descriptors(cls))
        # Those of the standard library are their attributes: constructors name them otherwise.
        standard = _types.in_standard_library(cls) and not dataclasses.is_dataclass(cls)
        parameters = None if standard else _models.constructor(cls)
        for attribute, *_ in parameters or ():
            hints.setdefault(attribute, Any)
        return Plan.object(
            cls,
            tag,
            self.parts(hints.items()),
            parameters,
            direct=direct,
            slots=slots,
            has_dict=has_dict,
            frozen=made and overridden,
        )


def _is_buildable(cls: type) -> bool:
    """The program's own classes are; of Python's own only data."""
    return dataclasses.is_dataclass(cls) or not _types.is_machinery(cls)
