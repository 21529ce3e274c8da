"""What kinds of classes there are, and which are data that a mere tag may choose.

A class is asked without running any code of the program, so that the answer never depends on
what an object or a message says.
"""

from __future__ import annotations

import abc
import collections
import enum
import inspect
import os
import re
import struct
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

_TAG = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST_TAG = 256
_HEAP_TYPE = 1 << 9
_MANAGED_DICT = 1 << 4


def fullname(o: Any) -> str:
    """The full name of a function or a class, or of an object's class, as it travels in tags."""
    if isinstance(o, (types.FunctionType, types.MethodType)):
        return f"{o.__module__}.{o.__qualname__}"
    cls = o if isinstance(o, type) else type(o)
    module = cls.__module__
    if module is None or module == "builtins":
        return cls.__name__
    return f"{module}.{cls.__name__}"


def is_tag(text: str) -> bool:
    """Could this be the full name of a class?"""
    return len(text) <= _LONGEST_TAG and _TAG.fullmatch(text) is not None


#: Collections of the standard library: the tag, and what old decoders are told.
COLLECTIONS: dict[type, tuple[str, str]] = {
    set: ("set", "set"),
    frozenset: ("frozenset", "set"),
    collections.deque: ("collections.deque", "list"),
    collections.OrderedDict: ("collections.OrderedDict", "dict"),
    collections.defaultdict: ("collections.defaultdict", "dict"),
    collections.Counter: ("collections.Counter", "dict"),
}


# ---- kinds of classes


def is_named_tuple(cls: type) -> bool:
    """Made by `typing.NamedTuple` or `collections.namedtuple`."""
    return issubclass(cls, tuple) and isinstance(_found(cls, "_fields"), tuple)


def is_attrs(cls: type) -> bool:
    """Made by attrs, which need not be importable here."""
    return "attr" in sys.modules and isinstance(_found(cls, "__attrs_attrs__"), tuple)


def is_pydantic(cls: type) -> bool:
    """A pydantic (2) model."""
    pydantic = sys.modules.get("pydantic")
    base = getattr(pydantic, "BaseModel", None)
    return isinstance(base, type) and base in mro(cls)


def is_msgspec(cls: type) -> bool:
    """A msgspec Struct."""
    msgspec = sys.modules.get("msgspec")
    base = getattr(msgspec, "Struct", None)
    return isinstance(base, type) and base in mro(cls)


_STANDARD_LIBRARY = os.path.dirname(os.__file__)
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")


def in_standard_library(cls: type) -> bool:
    """By its module, which for a loaded class is the one that it was found in.

    A program may have a module of its own under such a name (`profile`, `calendar`, `code`).
    """
    package = cls.__module__.partition(".")[0]
    if package not in sys.stdlib_module_names:
        return False
    module = sys.modules.get(package)
    file = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
    if not isinstance(file, str):
        return True
    return file.startswith(_STANDARD_LIBRARY) and _INSTALLED.search(file) is None


#: Classes of the standard library whose objects are their attributes and nothing more.
_STANDARD_DATA = frozenset(
    {
        "argparse.Namespace",
        "collections.ChainMap",
        "collections.UserDict",
        "collections.UserList",
        "collections.UserString",
        "string.Template",
        "subprocess.CompletedProcess",
    }
)


def is_machinery(cls: type) -> bool:
    """Is it Python's own, and no data? No message builds such a class, so none is sent."""
    if not in_standard_library(cls) or fullname(cls) in _STANDARD_DATA:
        return False
    return not (is_named_tuple(cls) or issubclass(cls, enum.Enum))


def is_data(cls: type) -> bool:
    """May a tag alone choose this class? It is rebuilt without running any of its code."""
    if not _has_quiet_metaclass(cls):
        return False
    if issubclass(cls, BaseException) or _defines(cls, "__del__"):
        return False
    if not cls.__flags__ & _HEAP_TYPE:
        return False
    if issubclass(cls, (tuple, enum.Enum)):
        return is_named_tuple(cls) or issubclass(cls, enum.Enum)
    if is_pydantic(cls) or is_msgspec(cls):
        return True
    if not _stores_plainly(cls):
        return False
    if isinstance(_found(cls, "__dataclass_fields__"), dict) or is_attrs(cls):
        return True
    native = [base for base in mro(cls) if not base.__flags__ & _HEAP_TYPE]
    return not _defines(cls, "__setattr__") and all(base in _PLAIN_BASES for base in native)


_PLAIN_BASES = (object, str, int, float, list, dict)


def mro(cls: type) -> tuple[type, ...]:
    """The class and its bases, whatever its metaclass would answer."""
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return bases


def _names(cls: type) -> Mapping[str, Any]:
    names: Mapping[str, Any] = type.__dict__["__dict__"].__get__(cls)
    return names


def _found(cls: type, name: str) -> Any:
    """An attribute of the class as it stands there: no descriptor is asked."""
    return next((_names(base)[name] for base in mro(cls) if name in _names(base)), None)


_QUIET = (types.FunctionType, classmethod, staticmethod, types.GetSetDescriptorType)


def _has_quiet_metaclass(cls: type) -> bool:
    """Can the class be asked for its attributes without running code of the program?"""
    known: list[type] = [object, type, abc.ABCMeta, enum.EnumMeta]
    for module, name in (("pydantic", "BaseModel"), ("msgspec", "Struct")):
        base = getattr(sys.modules.get(module), name, None)
        known.extend(mro(type(base)) if isinstance(base, type) else ())
    for metaclass in mro(type(cls)):
        if any(metaclass is base for base in known):
            continue
        names = _names(metaclass)
        if not {"__getattribute__", "__getattr__", "__eq__", "__hash__"}.isdisjoint(names):
            return False
        if any(
            _found(type(value), "__get__") and type(value) not in _QUIET for value in names.values()
        ):
            return False
    return True


def _stores_plainly(cls: type) -> bool:
    """Are `__dict__` and the slots Python's own, and no properties?"""
    native = (types.NoneType, types.GetSetDescriptorType, types.MemberDescriptorType)
    return all(type(_found(cls, name)) in native for name in ("__dict__", *slots_of(cls)))


def hides_state(cls: type, base: type = object) -> bool:
    """Do objects of the class hold more than attributes (beside a value of `base`)?

    As `copyreg` does it for pickle: their size says whether C code keeps something in them.
    """
    if any(not each.__flags__ & _HEAP_TYPE and each not in mro(base) for each in mro(cls)):
        return True
    own = [each for each in mro(cls) if each not in mro(base)]
    pointers = sum(len(_slots(each)) for each in own)
    if cls.__flags__ & _MANAGED_DICT == 0:
        pointers += getattr(cls, "__dictoffset__", 0) != 0
    pointers += getattr(cls, "__weakrefoffset__", 0) > 0
    # PyPy has no such sizes, and no such classes.
    size, least = getattr(cls, "__basicsize__", 0), getattr(base, "__basicsize__", 0)
    return size > least + pointers * struct.calcsize("P")


def overrides(cls: type, name: str) -> bool:
    """Does the class have a special method other than that of `object`?"""
    return getattr(cls, name) is not getattr(object, name)


def _defines(cls: type, name: str) -> bool:
    return any(name in _names(base) for base in mro(cls) if base is not object)


def _slots(cls: type) -> list[str]:
    slots = _names(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def slots_of(cls: type) -> list[str]:
    """The names of the slots, mangled as the attributes are."""
    names = []
    for base in reversed(mro(cls)):
        for name in _slots(base):
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            if name not in names:
                names.append(name)
    return names


def has_dict(cls: type) -> bool:
    """Do objects of the class have a `__dict__`?"""
    # PyPy has no `__dictoffset__`.
    offset = getattr(cls, "__dictoffset__", 0)
    return offset != 0 or any("__dict__" in _names(base) for base in mro(cls))


def data_descriptors(cls: type) -> Iterator[str]:
    """Names whose assignment runs a descriptor instead of filling `__dict__`."""
    for base in cls.__mro__:
        for name, attribute in base.__dict__.items():
            if inspect.isdatadescriptor(attribute) and not name.startswith("__"):
                yield name
