#!/usr/bin/python3
"""A region that two programs share, by its label in their job:

    aiosctl run --job demo -- sh -c 'share.py write "a text" && share.py read'

The second program finds it also when the first has ended: it belongs to the job. To hand a region
to one program only, serve it: Request.grant and Service.receive.
"""

import sys

import aios

LABEL = "shared-text"


def write_text(instance: aios.Instance, text: bytes) -> None:
    with instance.create_region(len(text) + 1, "text") as region:
        region.data[:len(text)] = text
        # Whoever opens it may read it only.
        region.keep(LABEL, aios.Access.READ)


def read_text(instance: aios.Instance) -> None:
    with instance.open_region(LABEL, aios.Access.READ) as region:
        print(bytes(region.data).rstrip(b"\0").decode())
    instance.forget(LABEL)


def main(arguments: list[str]) -> int:
    try:
        with aios.attach() as instance:
            match arguments:
                case ["write", text]:
                    write_text(instance, text.encode())
                case ["read"]:
                    read_text(instance)
                case _:
                    print("usage: share.py write TEXT | share.py read", file=sys.stderr)
                    return 2
    except aios.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
