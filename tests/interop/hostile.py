"""Bytes that nobody should send, by name; ``{folder}`` stands for one where nothing may appear.

Values are JSON with tags that name what must not be touched; messages are whole and malformed, or
too deep, too large, or odd. They are for every channel and queue that somebody listens on.
"""

import json
from pathlib import Path
from typing import Any

UNLOADED = ("antigravity", "this", "turtle", "ctypes.wintypes", "xmlrpc.client")
"""Modules that no peer has loaded, and that a tag must not load."""


def values(folder: Path) -> dict[str, str]:
    """JSON texts that are dangerous to a reader that does what a tag says."""
    script, file = str(folder / "run"), str(folder / "written")
    return {
        **_tagged("subprocess.Popen", script, ["touch", file], [["touch", file]]),
        **_tagged("os.system", f"touch {file}"),
        **_tagged("posix.system", f"touch {file}"),
        **_tagged("pty.spawn", script),
        **_tagged("builtins.eval", f"open({file!r}, 'w')"),
        **_tagged("builtins.exec", f"open({file!r}, 'w')"),
        **_tagged("builtins.open", file, [file, "w"]),
        **_tagged("io.FileIO", file, [file, "w"]),
        **_tagged("logging.FileHandler", file),
        **_tagged("tempfile.TemporaryDirectory", None, [None, None, str(folder)]),
        **_tagged("ctypes.CDLL", "libutil.so.1", str(folder / "evil.so")),
        **_tagged("SystemExit", [3], 3),
        **_tagged("KeyboardInterrupt", []),
        **_tagged("GeneratorExit", []),
        **_tagged("os._exit", 3),
        **_tagged("shared_types.product", [2, 4]),
        **_tagged("shared_types.threading.Thread", []),
        **_tagged("pymq.shutdown", []),
        **_tagged("pymq.core.RpcRequest", ["f", "work", [], {}]),
        **{f"{module} not loaded": _text(__type=f"{module}.X", __obj=1) for module in UNLOADED},
        **{f"odd tag {number}": _text(__type=tag, __obj=1) for number, tag in enumerate(_TAGS)},
        **{
            f"odd tree {number}": _text(__types=tree, __obj=[1], __type="list")
            for number, tree in enumerate(_TREES)
        },
        "a tree alone": _text(__types="subprocess.Popen", x=script),
        "an element's tag in the tree": _text(
            __types={"0": "subprocess.Popen"}, __obj=[script], __type="list"
        ),
        "dunder fields": _text(
            __class__="os._wrap_close",
            __dict__={"sensor": 1},
            __init__=1,
            __reduce__=["os.system", [f"touch {file}"]],
            _private=1,
            sensor="a",
            celsius=1.0,
            __type=_READING,
        ),
        "fields missing": _text(__type=_READING),
        "fields of wrong types": _text(sensor={"a": [1]}, celsius="x", __type=_READING),
        "10,000 fields": _text(**{f"f{n}": n for n in range(10_000)}, __type=_READING),
        "a class that is not the hint's": _text(number=1, __type="shared_types.Order"),
        "an object where data is": _text(__obj="x", __type=_READING),
        "a list that is none": _text(__list=3, __type=_READING),
        "5,000 digits": "1" + "0" * 5000,
        "more than a float holds": "1e400",
        "more than 64 bits hold": "[18446744073709551616, -1180591620717411303424]",
        "zeros with signs": "[-0, -0.0, 0e-0]",
        "nan": "[NaN, -Infinity]",
        "half a surrogate pair": '"\\ud800"',
        "190 deep": "[" * 190 + "]" * 190,
    }


def messages() -> dict[str, bytes]:
    """Whole messages that are no value at all."""
    return {
        "nothing": b"",
        "space": b"  \n",
        "no JSON": b"hello",
        "half an object": b'{"a": ',
        "more than one value": b'{"a": 1} {"b": 2}',
        "a comma too many": b"[1, 2,]",
        "no UTF-8": b'"\xff\xfe"',
        "overlong UTF-8": b'"\xc0\x80"',
        "a byte order mark": b'\xef\xbb\xbf"x"',
        "a raw control character": b'"a\x01b"',
        "zeros": b"\x00" * 64,
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.",
        "201 deep": b"[" * 201 + b"]" * 201,
        "100,000 deep": b"[" * 100_000,
        "100,000 deep in objects": b'{"a":' * 100_000,
        "17 MiB": b'"' + b"x" * (17 << 20) + b'"',
    }


def names() -> list[str]:
    """Names that are odd for Redis, for a shell, for a path, for a pattern."""
    return [
        *(" ", "a b", "\r\nDEL work\r\n", "\0", "{}", "}", "{", "{a}b{c}", "*", "?", "[a-z]", "\\"),
        *("../../etc/passwd", "/", "ä\U0001f389", "\ufeff", "$9\r\n", "__rpc_x", ":", "%s%n"),
        *("__pymq:global:x", "__eventbus:global:x", "'; --", "x" * 65_536),
    ]


def requests(function: str, reply: str) -> dict[str, bytes]:
    """Requests that are not what they should be, most with a target that may not be written to."""

    def request(*elements: Any, tag: Any = "pymq.core.RpcRequest") -> bytes:
        return json.dumps({"__obj": list(elements), "__type": tag}).encode()

    targets = [
        "work",
        "../x",
        "*",
        "__rpc_",
        "__rpc_x",
        "__rpc_" + "0" * 36,
        "x" * (1 << 20),
        3,
        None,
    ]
    forged = {
        f"reply to {str(target)[:40]}": request(function, target, [2, 4], {}) for target in targets
    }
    return forged | {
        "reply with a newline": request(function, reply + "\r\nDEL work", [2, 4], {}),
        "reply to a key of ours": request(function, "__pymq:global:x", [2, 4], {}),
        "another function": request("os.system", reply, ["true"], {}),
        "function that is a list": request([function], reply, [2, 4], {}),
        "arguments that are a dict": request(function, reply, {"a": 2}, {}),
        "arguments that are a string": request(function, reply, "ab", {}),
        "keywords that are a list": request(function, reply, [2, 4], [1]),
        "three elements": request(function, reply, [2, 4]),
        "no elements": request(),
        "another tag": request(function, reply, [2, 4], {}, tag="subprocess.Popen"),
        "a tag that is a number": request(function, reply, [2, 4], {}, tag=3),
        "no tuple": json.dumps({"__obj": 3, "__type": "pymq.core.RpcRequest"}).encode(),
        "no tag": json.dumps([function, reply, [2, 4], {}]).encode(),
        "a fifth element of nonsense": request(function, reply, [2, 4], {}, {"id": 1, "inbox": []}),
        "an inbox that is no identity": request(
            function, reply, [2, 4], {}, {"id": "0" * 32, "inbox": "../work"}
        ),
        "negative time": request(
            function, "work", [2, 4], {}, {"id": "0" * 32, "inbox": "0" * 32, "left": -5}
        ),
        "who, without an identity": b'{"kind": "who"}',
        "cancel of nothing": b'{"kind": "cancel", "id": "' + b"0" * 32 + b'"}',
        "an unknown kind": b'{"kind": "exec", "id": "' + b"0" * 32 + b'", "inbox": "x"}',
    }


def replies(call: str, function: str) -> dict[str, bytes]:
    """Replies that nobody has asked for, or that a stranger gives to the call of that identity."""

    def reply(
        identity: Any, provider: Any, kind: Any, result: Any = 666, tag: str = "int"
    ) -> bytes:
        extension = {"id": identity, "provider": provider, "kind": kind}
        elements = [function, result, tag, False, extension]
        return json.dumps({"__obj": elements, "__type": "pymq.core.RpcResponse"}).encode()

    return {
        "of an unknown call": reply("1" * 32, "2" * 32, "result"),
        "of a stranger": reply(call, "2" * 32, "result"),
        "a sign of life of a stranger": reply(call, "2" * 32, "beat"),
        "of nobody": reply(call, None, "result"),
        "of an unknown kind": reply(call, "2" * 32, "exec"),
        "of a kind that is a list": reply(call, "2" * 32, ["result"]),
        "of a class": reply("1" * 32, "2" * 32, "result", ["touch", "x"], "subprocess.Popen"),
        "without an extension": json.dumps(
            {"__obj": [function, 666, "int", False], "__type": "pymq.core.RpcResponse"}
        ).encode(),
        "of two elements": b'{"__obj": ["f", 1], "__type": "pymq.core.RpcResponse"}',
    }


_TAGS: list[Any] = [
    123,
    None,
    [],
    {},
    True,
    "",
    ".",
    "a..b",
    ".x",
    "x.",
    "\x00",
    "x" * (1 << 20),
    "os",
    "__main__",
    "__main__.pymq",
    "shared_types",
    "shared_types.Reading.__init__",
    "shared_types.Reading.__class__",
    "builtins.type",
    "builtins.object",
    "typing.Any",
    "\ud800.x",
]
_TREES: list[Any] = [
    3,
    None,
    [],
    {"*": 3},
    {"0": {"0": {"0": 1}}},
    {"999": "int"},
    {"": {}},
    "a" * 100_000,
]
_READING = "shared_types.Reading"


def _tagged(tag: str, *contents: Any) -> dict[str, str]:
    """The same temptation as a value, as an object, and as the class of elements."""
    texts = {}
    for number, content in enumerate(contents):
        texts[f"{tag} of {number}"] = _text(__type=tag, __obj=content)
        texts[f"{tag} as elements of {number}"] = _text(__list=[content], __type=tag)
    texts[f"{tag} as an object"] = _text(args=contents[0], name="x", __type=tag)
    return texts


def _text(**members: Any) -> str:
    return json.dumps(members)
