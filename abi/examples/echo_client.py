#!/usr/bin/python3
"""Says two things to the echo server at once and waits for both answers: echo_client.py"""

import struct
import sys

import aios

# As in parrot.h.
LABEL, VERSION, SAY = "parrot", 1, 1
MESSAGE = struct.Struct("=Q56s")
TIMEOUT_S = 5


def main() -> int:
    try:
        with aios.attach() as instance, instance.connect(LABEL, VERSION) as parrot:
            calls = [parrot.start(SAY, MESSAGE.pack(i, b"hello %d" % i), TIMEOUT_S)
                     for i in range(2)]
            for call in calls:
                number, text = MESSAGE.unpack(call.result())
                print(f"{number}: {text.rstrip(bytes(1)).decode()}")
    except aios.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
