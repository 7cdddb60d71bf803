#!/usr/bin/python3
"""Submits two tasks, the second after the first, and waits for both: tasks.py MODULE

MODULE is scale_module.so; needs NumPy.
"""

import struct
import sys

import numpy

import aios

NUMBERS = 1000
TIMEOUT_S = 20


def wait_for(tenant: aios.Tenant, count: int) -> None:
    while count:
        completions = tenant.completions(TIMEOUT_S)
        if not completions:
            raise aios.TimedOut("the tasks take too long")
        for done in completions:
            why = "" if done.ok else tenant.failure(done.tag)
            print(f"task {done.tag}: {aios.Code(done.status).name.lower()} {why}")
        count -= len(completions)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with aios.attach() as instance, instance.tenant() as tenant:
            scale = tenant.codelet(arguments[0], "scale")
            region = instance.create_region(NUMBERS * 8, "numbers")
            numbers = region.array("float64", NUMBERS)
            numbers[:] = numpy.arange(NUMBERS)
            buffer = tenant.buffer(region, aios.Access.WRITE, length=numbers.nbytes)
            tenant.submit([
                aios.Task(1, scale, [(buffer, aios.Mode.READ_WRITE)], struct.pack("d", 2), [4]),
                aios.Task(2, scale, [(buffer, aios.Mode.READ_WRITE)], struct.pack("d", 0.5), [4],
                          after=[1]),
            ])
            wait_for(tenant, 2)
            print(f"the last number is {numbers[-1]:.0f}")
    except aios.Error as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
