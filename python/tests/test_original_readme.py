"""The snippets of the original's page, as they are printed there.

Only the address differs: its `RedisConfig()` means the server on the usual port of this machine.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pymq
from conftest import Box
from pymq.provider.redis import RedisConfig

EVENT = """
import pymq

# common code
class MyEvent:
    pass

# subscribe code
@pymq.subscriber
def on_event(event: MyEvent):
    print('event received')

# publisher code
pymq.publish(MyEvent())
"""

QUEUE = """
import pymq

queue = pymq.queue('my_queue') 
queue.put('obj')
print(queue.get()) # outputs 'obj'
"""  # noqa: W291

SERVER = """
import pymq

@pymq.remote('product_remote')
def product(a: int, b: int) -> int: # pymq relies on type hints for marshalling
    return a * b
"""

CLIENT = """
import pymq

product = pymq.stub('product_remote')
product(2, 4) # 8
"""

SHARED = """
import pymq

# common code
class Remote:
    def echo(self, param) -> None:
        return 'echo: ' + param

# server
obj = Remote()
pymq.expose(obj.echo)

# client
echo = pymq.stub(Remote.echo)
echo('pymq') # "echo: pymq"
"""

MULTI = """
remote = pymq.stub('remote_method', multi=True, timeout=2)

result = remote() # result will be a list containing the results of all invocations of available remote objects
"""  # noqa: E501

#: A program, as a module that classes can be found in.
Program = Callable[[str], dict[str, Any]]


@pytest.fixture
def program(box: Box) -> Iterator[Program]:
    module = types.ModuleType("program_of_the_page")
    sys.modules[module.__name__] = module
    module.__dict__.update(pymq=pymq, print=box.put)

    def run(text: str) -> dict[str, Any]:
        exec(compile(text, module.__name__, "exec"), module.__dict__)
        return module.__dict__

    yield run
    del sys.modules[module.__name__]


def test_redis_config_without_arguments_means_the_server_of_this_machine() -> None:
    assert RedisConfig().url == "redis://localhost:6379/0"


def test_the_bus_starts_and_ends(factory: Callable[[], pymq.EventBus]) -> None:
    assert isinstance(pymq.init(factory), pymq.EventBus)
    pymq.shutdown()


@pytest.mark.usefixtures("original")
def test_an_event_is_received(program: Program, box: Box) -> None:
    program(EVENT)
    assert box.take(1) == ["event received"]


def test_an_event_is_received_by_who_subscribed_before_init(
    program: Program, box: Box, factory: Callable[[], pymq.EventBus]
) -> None:
    names = program(EVENT)
    pymq.init(factory)
    pymq.publish(names["MyEvent"]())
    assert box.take(1) == ["event received"]


@pytest.mark.usefixtures("original")
def test_a_queue_gives_what_was_put(program: Program, box: Box) -> None:
    program(QUEUE)
    assert box.items == ["obj"]


@pytest.mark.usefixtures("original")
def test_a_function_is_called_by_name(program: Program) -> None:
    program(SERVER)
    names = program(CLIENT)
    assert names["product"](2, 4) == 8


@pytest.mark.usefixtures("original")
def test_a_method_is_called_by_the_method(program: Program) -> None:
    names = program(SHARED)
    assert names["echo"]("pymq") == "echo: pymq"


@pytest.mark.usefixtures("original")
def test_all_remotes_are_called(program: Program) -> None:
    def gives(wanted: list[Any]) -> bool:
        try:
            return bool(program(MULTI)["result"] == wanted)
        except pymq.CallTimeoutError:
            return False

    # The page gives it two seconds, and the machine may stand still for as long.
    pymq.expose(lambda: 7, "remote_method")
    assert any(gives([7]) for _ in range(5))
    pymq.unexpose("remote_method")
    assert any(gives([]) for _ in range(5))
