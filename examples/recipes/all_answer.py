"""All answer: ask every node, and know which one did not.

`all_answer.py [ADDRESS]`
"""

import logging
import sys

import pymq


def node(address: str, name: str, free: int) -> pymq.NativeEventBus:
    """Stands for a process of its own."""
    bus = pymq.connect(address)

    def disk() -> tuple[str, int]:
        if free < 0:
            raise OSError(f"{name}: the disk does not answer")
        return name, free

    bus.expose(disk, "recipes.disk")
    return bus


def main(address: str = "memory://all-answer") -> None:
    logging.getLogger("pymq").setLevel(logging.CRITICAL)  # the node's own log of its error
    nodes = [node(address, "north", 20), node(address, "south", 7), node(address, "west", -1)]
    with pymq.connect(address) as bus:
        answers = bus.stub("recipes.disk", multi=True, timeout=5)()
    for answer in sorted(answers, key=str):
        if isinstance(answer, pymq.RemoteInvocationError):
            print("failed:", answer.args[-1])
        else:
            name, free = answer
            print(f"{name}: {free} GB free")
    for each in nodes:
        each.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
