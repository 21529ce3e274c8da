"""The original's JSON encoder and decoder classes, for `json.dumps(…, cls=…)` and `json.loads`.

The encoder writes what the original writes. The decoder reads that, and what this package sends,
by the rules of `pymq._codec`: it imports nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pymq._codec import Codec, plan_for
from pymq.typing import deep_from_dict, deep_to_dict, fullname, load_class

__all__ = [
    "DeepDictDecoder",
    "DeepDictEncoder",
    "deep_from_dict",
    "deep_to_dict",
    "dumps",
    "fullname",
    "load_class",
    "loads",
]

dumps: Callable[..., str] = json.dumps
loads: Callable[..., Any] = json.loads

#: The fields of a message, as the original names them: in this package they are named only here.
_TYPE, _OBJ, _LIST = "__type", "__obj", "__list"
_PLAIN = (bool, int, float, str, bytes)
_codec = Codec()


def untagged(doc: Any) -> Any:
    """The value of a message without the fields that stand around it."""
    return doc.get(_OBJ, doc.get(_LIST, doc)) if isinstance(doc, dict) else doc


class DeepDictEncoder(json.JSONEncoder):
    """Writes any object as its attributes, with its class's full name at the top level."""

    def encode(self, o: Any) -> str:
        """A value as text, as the original writes it."""
        if isinstance(o, (*_PLAIN, dict)):
            return super().encode(o)
        if isinstance(o, list) and (not o or isinstance(o[0], _PLAIN)):
            return super().encode(o)
        doc = deep_to_dict(o)
        if isinstance(o, list):
            return super().encode({_LIST: doc, _TYPE: fullname(o[0])})
        if isinstance(doc, dict):
            return super().encode({**doc, _TYPE: fullname(o)})
        return super().encode({_OBJ: doc, _TYPE: fullname(o)})


class DeepDictDecoder(json.JSONDecoder):
    """Builds objects from what `DeepDictEncoder` or this package wrote."""

    #: The class to build, whatever the message says.
    target_class: Any = None

    def decode(self, s: str, _w: Callable[..., Any] | None = None) -> Any:
        """The value that a text is."""
        if type(self)._load_class is DeepDictDecoder._load_class:
            plan = None if self.target_class is None else plan_for(self.target_class)
            return _codec.decode(s.encode("utf-8", "surrogatepass"), plan, "value")
        return self._decode_as_told(super().decode(s, **({} if _w is None else {"_w": _w})))

    @classmethod
    def for_type(cls, target_class: Any) -> Callable[..., DeepDictDecoder]:
        """What to pass as `cls` to `json.loads` to build objects of this class."""

        def decoder(*args: Any, **kwargs: Any) -> DeepDictDecoder:
            made = cls(*args, **kwargs)
            made.target_class = target_class
            return made

        return decoder

    def _load_class(self, class_name: str) -> Any:
        """The class of a tag. A subclass that overrides this decides alone what to trust."""
        return load_class(class_name)

    def _decode_as_told(self, doc: Any) -> Any:
        target = self.target_class
        if isinstance(doc, dict):
            tag = doc.pop(_TYPE, None)
            if target is None and tag is not None:
                target = self._load_class(tag)
                if _LIST in doc:
                    target = list[target]  # type: ignore[valid-type]
            doc = untagged(doc)
        return doc if target is None else deep_from_dict(doc, target)
