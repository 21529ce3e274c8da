"""Names, generics and dict conversion under the original's import path.

These convert for programs that call them directly. The bus itself uses `pymq._codec`, which
trusts messages less.
"""

from __future__ import annotations

import builtins
import inspect
import sys
import types
import typing
from typing import Any

from pymq import _hints
from pymq._types import fullname

__all__ = [
    "deep_from_dict",
    "deep_to_dict",
    "fullname",
    "is_generic",
    "load_class",
    "new_instance",
]

_PRIMITIVES = (bool, int, float, str, bytes, bytearray)


def is_generic(cls: Any) -> bool:
    """Is it one of `typing`'s generics with its arguments, such as `List[int]` or a union?"""
    return isinstance(cls, typing._GenericAlias)  # type: ignore[attr-defined]


def load_class(classname: str) -> Any:
    """The class of this full name among builtins and loaded modules, or None: never imports."""
    if "." not in classname:
        found = vars(builtins).get(classname)
        return found if isinstance(found, type) else None
    module, path = _loaded_module(classname)
    # Not `getattr`: a module's own may import.
    names = {} if module is None else object.__getattribute__(module, "__dict__")
    found = None
    for name in path:
        found = names.get(name)
        names = vars(found) if isinstance(found, type) else {}
    return found if isinstance(found, type) else None


def _loaded_module(classname: str) -> tuple[types.ModuleType | None, list[str]]:
    parts = classname.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:end]))
        if isinstance(module, types.ModuleType):
            return module, parts[end:]
    return None, []


def new_instance(cls: type, data: dict[str, Any]) -> Any:
    """An object made by the constructor from the values it takes by name; the rest is set."""
    names = inspect.getfullargspec(cls).args
    arguments = {name: value for name, value in data.items() if name in names}
    instance = cls(**arguments)
    for name, value in data.items():
        if name not in arguments:
            setattr(instance, name, value)
    return instance


def deep_to_dict(obj: Any) -> Any:
    """The plain form of an object: its attributes, its elements, or itself."""
    if obj is None or isinstance(obj, _PRIMITIVES):
        return obj
    if isinstance(obj, tuple):
        return tuple(deep_to_dict(element) for element in obj)
    if isinstance(obj, (list, set)):
        return [deep_to_dict(element) for element in obj]
    if isinstance(obj, dict):
        return {key: deep_to_dict(value) for key, value in obj.items()}
    if isinstance(obj, (type, types.MethodType, types.FunctionType)):
        return fullname(obj)
    if isinstance(obj, Exception):
        return deep_to_dict(obj.args)
    if hasattr(obj, "__dict__"):
        return deep_to_dict(obj.__dict__)
    raise TypeError(f"Unhandled type {type(obj)}")


def deep_from_dict(doc: Any, cls: Any) -> Any:
    """An object of the given class or generic type from its plain form."""
    if doc is None or type(doc) is cls or cls is Any:
        return doc
    if cls is type:
        raise TypeError("Deserializing types is not safe")
    # Since Python 3.14 a union is none of `typing`'s generics.
    if is_generic(cls) or isinstance(cls, (types.GenericAlias, types.UnionType)):
        return _generic_from_dict(doc, cls)
    if issubclass(cls, Exception):
        return cls(*doc) if isinstance(doc, (list, tuple)) else cls(doc)
    if isinstance(doc, _PRIMITIVES) or (isinstance(doc, list) and cls in (set, tuple)):
        return cls(doc)
    return new_instance(cls, _fields_from_doc(doc, _hints.of_attributes(cls)))


def _fields_from_doc(doc: Any, hints: dict[str, Any]) -> dict[str, Any]:
    if isinstance(doc, (list, tuple)):
        values = {name: doc[index] for index, name in enumerate(hints)}
    else:
        values = {name: doc[name] for name in hints if name in doc}
    return {name: deep_from_dict(value, hints[name]) for name, value in values.items()}


def _generic_from_dict(doc: Any, cls: Any) -> Any:
    origin, args = typing.get_origin(cls), typing.get_args(cls)
    if isinstance(origin, type):
        if issubclass(origin, (list, set)):
            return origin(deep_from_dict(element, args[0]) for element in doc)
        if issubclass(origin, tuple):
            return tuple(deep_from_dict(element, args[i]) for i, element in enumerate(doc))
        if issubclass(origin, dict):
            return {
                deep_from_dict(key, args[0]): deep_from_dict(value, args[1])
                for key, value in doc.items()
            }
    raise TypeError(f"Unknown generic class {cls}")
