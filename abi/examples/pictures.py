#!/usr/bin/python3
"""Looks at JPEG and PNG files, all of them as one graph of tasks: pictures.py LIBEXEC FILE...

LIBEXEC is where AIOS's programs are, such as /opt/aios/libexec/aios. Which tasks wait for one
another follows from their buffers; files are decoded in a context, the rest goes to any device.
"""

import struct
import sys

import aios

TIMEOUT_S = 60
READ, WRITE, ADD = aios.Mode.READ, aios.Mode.WRITE, aios.Mode.READ_WRITE
MODULES = {"probe": "modules/image-histogram", "decode": "modules/image-histogram",
           "grey": "codelets/image", "sobel": "codelets/image", "histogram": "codelets/vector"}
COUNTS = 256 * 4


def size_of(tenant: aios.Tenant, probe: aios.CodeletId, file: aios.BufferId) -> tuple[int, int]:
    """The memory for a picture depends on it."""
    tenant.submit(aios.Task(1, probe, [(file, READ)], bytes(8)))
    done = tenant.completions(TIMEOUT_S)
    if not done or not done[0].ok:
        raise aios.Error(tenant.failure(1) if done else "a file is not read in time")
    return done[0].result[0], done[0].result[1]


def add(graph: aios.Graph, tenant: aios.Tenant, codelets: dict[str, aios.CodeletId],
        file: aios.BufferId, width: int, height: int, region: aios.Region) -> None:
    """What is done with one picture, whose pixels and counts are in the region."""
    pixels = width * height
    buffers, end = [], 0
    for length in (COUNTS, COUNTS, 3 * pixels, pixels, pixels):
        buffers.append(tenant.buffer(region, aios.Access.WRITE, end, length))
        end += length
    grey_counts, edge_counts, colours, grey, edges = buffers
    whole, thread_blocks = struct.pack("I", pixels), [(pixels + 255) // 256]
    many = [(pixels + 4095) // 4096]
    for name, used, arguments, grid in (
            ("decode", [(colours, WRITE), (file, READ)], struct.pack("II", width, height), [1]),
            ("grey", [(colours, READ), (grey, WRITE)], whole, thread_blocks),
            ("sobel", [(grey, READ), (edges, WRITE)], struct.pack("II", height, width),
             [(width + 15) // 16, (height + 15) // 16]),
            ("histogram", [(grey, READ), (grey_counts, ADD)], whole, many),
            ("histogram", [(edges, READ), (edge_counts, ADD)], whole, many)):
        # What adds to its counts must not run again by itself.
        graph.add(aios.Task(0, codelets[name], used, arguments, grid,
                            idempotent=name != "histogram"))


def main(libexec: str, paths: list[str]) -> None:
    regions = []
    with aios.attach(job_name="pictures") as instance, instance.tenant(TIMEOUT_S) as tenant:
        codelets = {name: tenant.codelet(f"{libexec}/{module}.so", name)
                    for name, module in MODULES.items()}
        with tenant.graph() as graph:
            for path in paths:
                with open(path, "rb") as opened:
                    file = tenant.files([(opened, 0, opened.seek(0, 2))])
                width, height = size_of(tenant, codelets["probe"], file)
                regions.append(instance.create_region(2 * COUNTS + 5 * width * height, "picture"))
                add(graph, tenant, codelets, file, width, height, regions[-1])
            graph.submit()
            if graph.wait() != 0:
                raise aios.Error("a picture cannot be decoded")
    for path, region in zip(paths, regions):
        counts = struct.unpack_from("512I", region.data)
        grey = sum(value * count for value, count in enumerate(counts[:256])) / sum(counts[:256])
        edges = 100 * sum(counts[384:]) / sum(counts[256:])
        print(f"{path}: mean grey {grey:.1f}, edges {edges:.1f}%")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
