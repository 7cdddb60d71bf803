#!/usr/bin/python3
"""Answers what it is sent, until it is ended: echo_server.py"""

import sys

import aios

# As in parrot.h.
LABEL, VERSION, SAY = "parrot", 1, 1
MESSAGE_BYTES = 64


def answer(request: aios.Request) -> None:
    if request.opcode != SAY:
        request.fail(aios.Code.NOT_SUPPORTED, "a parrot can only SAY")
    elif len(request.data) != MESSAGE_BYTES:
        request.fail(aios.Code.INVALID_ARGUMENT, "that is no parrot_message")
    else:
        request.reply(request.data)


def main() -> int:
    try:
        with aios.attach() as instance, instance.serve(LABEL, VERSION) as server:
            print(f"serving {LABEL}", flush=True)
            for request in server:
                try:
                    answer(request)
                except aios.PeerClosed:
                    pass  # a client that did not wait is no concern of ours
    except aios.Unreachable:
        return 0  # the instance has ended
    except aios.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
