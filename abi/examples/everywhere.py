#!/usr/bin/python3
"""Runs one kernel, written once, on every device of the instance: everywhere.py MODULE

MODULE is what `aios-kc everywhere.kc -o everywhere.so` made; needs NumPy.
"""

import struct
import sys

import numpy

import aios

NUMBERS = 1000
BLOCK = 64  # of the kernel
TIMEOUT_S = 60


def run_on(device: aios.Device, instance: aios.Instance, tenant: aios.Tenant,
           codelet: aios.CodeletId) -> "list[int]":
    """What the device computes."""
    region = instance.create_region(NUMBERS * 4, "steps")
    buffer = tenant.buffer(region, aios.Access.WRITE)
    tenant.submit(aios.Task(1, codelet, [(buffer, aios.Mode.WRITE)],
                            struct.pack("II", NUMBERS, 1), [(NUMBERS + BLOCK - 1) // BLOCK],
                            device=device.index))
    completions = tenant.completions(TIMEOUT_S)
    if not completions:
        raise aios.TimedOut("the task takes too long")
    if not completions[0].ok:
        raise aios.Error(tenant.failure(1))
    tenant.release(buffer)
    return [int(steps) for steps in region.array("uint32", NUMBERS)]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with aios.attach() as instance, instance.tenant(TIMEOUT_S) as tenant:
            collatz = tenant.codelet(arguments[0], "collatz")
            expected: "list[int] | None" = None
            for device in tenant.devices():
                steps = run_on(device, instance, tenant, collatz)
                expected = expected or steps
                most = int(numpy.argmax(steps))
                wrong = "" if steps == expected else ", which is wrong"
                print(f"{device.backend}: {most + 1} takes the most steps, {steps[most]}{wrong}")
                if steps != expected:
                    return 1
            return 0 if expected else 1
    except aios.Error as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
