#!/usr/bin/python3
"""Writes an object, reads it back, lists and removes it: storage.py"""

import sys

import aios

NAME = "examples/greeting"


def main() -> int:
    try:
        with aios.attach() as instance, instance.storage() as storage:
            storage.put(NAME, b"hello from a program")
            print("read:", storage.get(NAME).decode())
            with instance.create_region(4096, "greeting") as region:
                # The same straight into shared memory, without a copy on the way.
                got = storage.get_region(NAME, region)
                print("in shared memory:", bytes(region.data[:got]).decode())
            for entry in storage.list("examples/"):
                print(f"{entry.name} has {entry.info.size_bytes} bytes")
            storage.remove(NAME)
    except aios.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
