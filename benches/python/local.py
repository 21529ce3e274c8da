"""A process of this library on a bus without a server.

local.py URL measure | provide
"""

import sys

import worker

import pymq

TEXT = "x" * 62


def main() -> None:
    url, part = sys.argv[1:]
    pymq.init(url)
    if part == "provide":
        pymq.expose(lambda text: text, channel="benches.python.echo")
        worker.serve({})
    else:
        echo = pymq.stub("benches.python.echo", timeout=60)
        worker.serve({"call": lambda seconds: worker.middle_time(seconds, lambda: echo(TEXT))})
    pymq.shutdown()


if __name__ == "__main__":
    main()
