"""The job image-histogram on every host: the AIOS there runs it over some of the images, on its own
devices, and what that writes of its shares goes as blocks to who writes the parts.

Part 0 has a line for each image, in order: the shares' lines, one after the other. Part 1 has sums of whole
numbers, so the sum of the shares' is that of all.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence

import aios
from aios import errors

from . import formats
from .node import ReduceOutput
from .splits import Piece, Split

NAME = "image-histogram"
PARTS = 2

# Of an image, and so the same on every host.
OF_AN_IMAGE = (errors.Corrupt, errors.TooLarge, errors.NotSupported)


def mapped(module: bytes, arguments: Sequence[str], split: Split, *, memory_bytes: int,
           task_limit_s: float, max_bad_records: int) -> list[bytes]:
    """A block for each part."""
    with tempfile.TemporaryDirectory(prefix="aios-images-") as folder:
        path, output = os.path.join(folder, "module.so"), os.path.join(folder, "output")
        with open(path, "wb") as file:
            file.write(module)
        with aios.attach() as instance:
            result = instance.mapreduce(
                path, [piece.path for piece in split.pieces], output, label=NAME,
                arguments=arguments, threads=1, memory_bytes=memory_bytes,
                task_limit_s=task_limit_s, max_bad_records=max_bad_records)
        lines, sums = (_content(output, f"part-{number:05}") for number in range(PARTS))
        manifest = json.loads(_content(output, "manifest.json"))
    bad = {one["file"]: int(errors.Code[one["why"].upper()])
           for one in manifest["skipped_records"]}
    skipped = [(number, 0, bad[piece.path]) for number, piece in enumerate(split.pieces)
               if piece.path in bad]
    named = _named(lines, [piece for piece in split.pieces if piece.path not in bad])
    note = formats.Note(skipped, result.counters).pack()
    return [formats.pack_block([named], (), result.progress.records, note),
            formats.pack_block([sums], (), 0)]


def reduced(number: int, blocks: Mapping[int, bytes], write: Callable[[memoryview], object]
            ) -> ReduceOutput:
    """Writes a part. `Corrupt`: of a block."""
    counters: dict[str, int] = {}
    skipped: list[tuple[int, int, int, int]] = []
    shares: list[bytes] = []
    records = 0
    for split in sorted(blocks):
        block = formats.read_block(blocks[split])
        data = bytearray(block.size_bytes)
        block.unpack_into(memoryview(data))
        shares.append(bytes(data))
        records += block.records
        skipped += [(split, *one) for one in block.note.skipped]
        for name, value in block.note.counters.items():
            counters[name] = counters.get(name, 0) + value
    text = b"".join(shares) if number == 0 else _sum(shares)
    write(memoryview(text))
    return ReduceOutput(counters, records, records, len(text), skipped)


def _content(folder: str, name: str) -> bytes:
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()


def _named(lines: bytes, images: Sequence[Piece]) -> bytes:
    """The lines, each with the name by which the user knows the image."""
    rows = lines.split(b"\n")[:-1]
    if len(rows) != len(images):
        raise errors.Corrupt(f"{len(rows)} lines of {len(images)} images")
    return b"".join(_escaped(os.fsencode(image.name)) + row[row.index(b"\t"):] + b"\n"
                    for row, image in zip(rows, images))


def _escaped(name: bytes) -> bytes:
    return name.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n")


def _sum(lines: Sequence[bytes]) -> bytes:
    """Of what each share says of all its images: IMAGES, PIXELS, and 256 counts twice."""
    rows = [[[int(one) for one in field.split(b",")] for field in line.split(b"\t")]
            for line in lines] or [[[0], [0], [0] * 256, [0] * 256]]
    fields = ([sum(column) for column in zip(*field)] for field in zip(*rows))
    return "\t".join(",".join(map(str, field)) for field in fields).encode() + b"\n"
