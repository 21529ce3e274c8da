"""Ask every node at once: `metrics_fanout.py node [ADDRESS]` on each, then `metrics_fanout.py ask`.

The answer comes as soon as every live node has answered, and names who did not.
"""

import os
import sys
import threading
from dataclasses import dataclass

import pymq


@dataclass
class Load:
    node: int
    average: float


def load() -> Load:
    return Load(os.getpid(), os.getloadavg()[0])


def main(what: str, address: str = "redis://localhost") -> None:
    with pymq.init(address):
        if what == "node":
            pymq.expose(load, channel="metrics.load")
            print("serving", flush=True)
            threading.Event().wait()
        for answer in pymq.stub("metrics.load", multi=True, timeout=20)():
            print(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
