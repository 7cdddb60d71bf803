"""Image files made byte by byte, so that what they show is known without any decoder."""

import struct
import zlib

PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, colour, bits, rows, palette=b""):
    """`rows` are bytes as PNG packs them; row i gets filter i % 3: none, left or above."""
    channels = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}[colour]
    step = max(channels * bits // 8, 1)
    packed, above = bytearray(), bytes(len(rows[0]))
    for number, row in enumerate(rows):
        kind = number % 3
        before = bytes(step) + row if kind == 1 else above if kind == 2 else bytes(len(row))
        packed += bytes([kind]) + bytes((a - b) & 255 for a, b in zip(row, before))
        above = row
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (PNG_BEGIN + chunk(b"IHDR", header) + (chunk(b"PLTE", palette) if palette else b"") +
            chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b""))


def png_of(image):
    """Of rows of (red, green, blue)."""
    return png(len(image[0]), len(image), RGB, 8, [bytes(x for p in row for x in p) for row in image])


class _Bits:
    def __init__(self):
        self.value, self.count = 0, 0

    def add(self, value, count):
        self.value, self.count = self.value << count | value, self.count + count

    def stuffed(self):
        fill = -self.count % 8
        data = (self.value << fill | (1 << fill) - 1).to_bytes((self.count + fill) // 8, "big")
        return data.replace(b"\xff", b"\xff\x00")


# The lengths of the codes of the sizes 0 to 11 of differences, as in the tables that JPEG suggests.
_DC_COUNTS = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def _codes(counts):
    codes, code = [], 0
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            codes.append((code, length))
            code += 1
        code <<= 1
    return codes


def jpeg(blocks):
    """Of rows of blocks of 8 x 8 pixels, each of one colour: a grey value, or three of Y, Cb and Cr.

    A block of one value is one coefficient, eight times the value's distance from 128, and with a
    quantiser of 1 comes back exactly.
    """
    parts = 1 if isinstance(blocks[0][0], int) else 3
    codes, bits, last = _codes(_DC_COUNTS), _Bits(), [0] * parts
    for row in blocks:
        for block in row:
            for part, value in enumerate([block] if parts == 1 else block):
                difference = 8 * (value - 128) - last[part]
                last[part] += difference
                size = abs(difference).bit_length()
                bits.add(*codes[size])
                if size:
                    bits.add(difference if difference > 0 else difference + (1 << size) - 1, size)
                bits.add(0, 1)  # no other coefficient: the only code of its table

    def segment(marker, data):
        return bytes([0xff, marker]) + struct.pack(">H", len(data) + 2) + data

    frame = struct.pack(">BHHB", 8, 8 * len(blocks), 8 * len(blocks[0]), parts)
    scan = bytes([parts])
    for part in range(1, parts + 1):
        frame += bytes([part, 0x11, 0])
        scan += bytes([part, 0])
    return (b"\xff\xd8" + segment(0xe0, b"JFIF\0\1\1\0\0\1\0\1\0\0") +
            segment(0xdb, b"\0" + b"\1" * 64) + segment(0xc0, frame) +
            segment(0xc4, b"\x00" + bytes(_DC_COUNTS) + bytes(range(12))) +
            segment(0xc4, b"\x10" + bytes([1] + [0] * 15) + b"\0") +
            segment(0xda, scan + b"\0\x3f\0") + bits.stuffed() + b"\xff\xd9")
