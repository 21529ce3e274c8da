from collections.abc import Callable
from inspect import Signature
from typing import Any

from typing_extensions import Self

# ---- codec: values to bytes and back

class Plan:
    """How one type hint is built from JSON. `pymq._plans.plan_for` makes them."""

    @staticmethod
    def any() -> Plan: ...
    @staticmethod
    def primitive(class_: type, /) -> Plan: ...
    @staticmethod
    def scalar(
        class_: type,
        tag: str,
        make: Callable[[Any], Any],
        rebuild: Callable[[Any], Any] | None = None,
        /,
    ) -> Plan: ...
    @staticmethod
    def array(
        class_: type | None,
        tag: str | None,
        each: Plan,
        make: Callable[[list[Any]], Any] | None = None,
        /,
    ) -> Plan: ...
    @staticmethod
    def fixed_tuple(class_: type, fixed: list[Plan], /) -> Plan: ...
    @staticmethod
    def mapping(
        class_: type | None,
        tag: str | None,
        key: Plan,
        value: Plan,
        make: Callable[[dict[Any, Any]], Any] | None = None,
        /,
    ) -> Plan: ...
    @staticmethod
    def union(plans: list[Plan], /) -> Plan: ...
    @staticmethod
    def literal(values: list[Any], /) -> Plan: ...
    @staticmethod
    def named_tuple(
        class_: type, tag: str, fields: list[tuple[str, Plan]], defaults: dict[str, Any], /
    ) -> Plan: ...
    @staticmethod
    def typed_dict(fields: list[tuple[str, Plan]], required: list[str], /) -> Plan: ...
    @staticmethod
    def object(
        class_: type,
        tag: str,
        fields: list[tuple[str, Plan]],
        parameters: list[tuple[str, str, bool, str]] | None,
        /,
        *,
        direct: bool,
        slots: list[str],
        has_dict: bool,
        frozen: bool,
    ) -> Plan: ...
    @staticmethod
    def model(class_: type, tag: str, make: Callable[[Any], Any], /) -> Plan: ...
    @staticmethod
    def refused(reason: str, /) -> Plan: ...
    @staticmethod
    def later() -> Plan: ...
    def fill(self, plan: Plan, /) -> None: ...

class CallPlan:
    """The parameters of a function with their plans. `pymq._plans.call_plan` makes them."""

    def __new__(
        cls,
        name: str,
        signature: Signature,
        parameters: list[tuple[str, Plan, bool]],
        /,
        *,
        positional_only: int,
        positional: int,
        rest: Plan | None,
        keywords: Plan | None,
        returns: Plan | None,
    ) -> CallPlan: ...
    @property
    def name(self) -> str: ...
    @property
    def returns(self) -> Plan | None: ...
    @property
    def signature(self) -> Signature: ...
    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises `TypeError` if the function cannot be called like this."""

class Encoding:
    """How values of one class are written. `pymq._types.encoding_for` makes them."""

    def __new__(
        cls,
        shape: str,
        tag: str | None,
        root: str,
        /,
        *,
        call: Callable[[Any], str] | None = None,
        dicts: list[str] = ...,
        slots: list[str] = ...,
    ) -> Encoding: ...

class CodecCore:
    """Encodes and decodes values. `pymq._codec.Codec` is what the package uses."""

    def __new__(
        cls,
        *,
        encoding: Callable[[type], Encoding],
        resolve: Callable[[str], Plan | None],
        unknown: Callable[[str], None],
        loads: Callable[[bytes, int], Any],
        dumps: Callable[[str], bytes],
        strict: bool,
        max_bytes: int,
        max_depth: int,
    ) -> Self: ...
    def encode(self, value: Any, what: str = "event") -> bytes:
        """An event or a queue item as JSON; raises `EncodeError`, which calls it `what`."""

    def decode(self, data: bytes, plan: Plan | None = None, what: str = "event") -> Any:
        """An event or a queue item from JSON; raises `DecodeError`."""

    def encode_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, bytes, bytes | None]:
        """Args as a JSON array, kwargs as a JSON object, and their types tree (`0`, `1`)."""

    def decode_call(
        self, args: bytes, kwargs: bytes, types: bytes | None, plan: CallPlan
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call's arguments; raises `TypeError` for a wrong call, else `DecodeError`."""

    def encode_result(self, value: Any) -> tuple[bytes, str, bytes | None]:
        """A result, or an exception's arguments: its JSON, `result_type` and its types tree."""

    def decode_result(
        self, result: bytes, result_type: str, types: bytes | None = None, plan: Plan | None = None
    ) -> Any:
        """A result from its parts; `plan` is that of the return hint."""

def forget_tags() -> None:
    """Makes all codecs look tags up again, after a class was declared."""
