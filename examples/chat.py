"""A chat over publish/subscribe: `chat.py NAME [ADDRESS]`, one process per person.

Type a line to say it in the room; the pattern also hears what is whispered in other rooms.
"""

import sys
from dataclasses import dataclass

import pymq


@dataclass
class Said:
    who: str
    text: str


def main(name: str, address: str) -> None:
    with pymq.init(address):

        def hear(event: Said) -> None:
            if event.who != name:
                print(f"{event.who}: {event.text}", flush=True)

        pymq.subscribe(hear, channel="chat.*", pattern=True)
        lobby = pymq.topic("chat.lobby")
        for line in sys.stdin:
            receivers = lobby.publish(Said(name, line.rstrip()))
            print(f"({receivers} here)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "redis://localhost")
