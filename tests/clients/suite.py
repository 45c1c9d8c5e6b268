"""What the Python suites share. Each function of theirs whose name begins with `case_` is a case; a failure ends the run."""

import os
import random

ENDPOINT = os.environ["COFFRE_ENDPOINT"]
HOST = ENDPOINT.removeprefix("http://")
MIB = 1 << 20
LONG = "COFFRE_LONG" in os.environ
# Names that clients encode in different ways.
ODD_NAMES = ["sp ace", "plus+plus", "per%2Fcent%", "été 字🎉", "a&b=c?d#e", "q'uote", "til~de!(x)*"]
# Nothing, one byte, both sides of where the store keeps small bodies, and more than any client sends in one part.
SIZES = [0, 1, 4096, 128 * 1024 + 1, 5 * MIB, (300 if LONG else 23) * MIB + 17]


def data(length, seed=1):
    # A MiB at a time: randbytes knows no more than 256.
    source = random.Random(seed * 1_000_003 + length)
    return b"".join(source.randbytes(min(MIB, length - at)) for at in range(0, length, MIB))


def raises(kind, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"{call} should have failed with {kind}")


def run(names):
    cases = [(name, case) for name, case in names.items() if name.startswith("case_")]
    for name, case in cases:
        print(name, flush=True)
        case()
    print(f"{len(cases)} cases passed")
