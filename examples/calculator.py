"""A client of the Rust example `calculator.rs`: `calculator.py ADDRESS`."""

import sys

import pymq


def main(address: str) -> None:
    with pymq.init(address):
        divide = pymq.stub("calculator.divide", timeout=10, required=True)
        print("1 / 4 =", divide(1, by=4))
        total, count = pymq.stub("calculator.sum", timeout=10, required=True)([1, 2, 3.5])
        print(f"the sum of {count} numbers is {total}")
        try:
            divide(1, by=0)
        except pymq.RemoteInvocationError as error:
            print("1 / 0:", *error.args)
        answered = pymq.stub("calculator.answered", multi=True, timeout=10)()
        print(len(answered), "calculators have answered", sum(answered), "calls")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "redis://localhost")
