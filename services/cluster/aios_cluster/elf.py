"""A section of a module's file: 64-bit ELF, little-endian."""

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


def section(image: bytes, name: str) -> bytes | None:
    """Its contents; None: there is no such section, or no such file."""
    try:
        head = _HEADER.unpack_from(image)
        if not head[0].startswith(b"\x7fELF\x02\x01"):
            return None
        table, size, count, names = head[6], head[11], head[12], head[13]
        sections = [_SECTION.unpack_from(image, table + i * size) for i in range(count)]
        begin, length = sections[names][4:6]
        texts = image[begin:begin + length]
        for one in sections:
            if texts[one[0]:texts.index(b"\0", one[0])] == name.encode():
                return image[one[4]:one[4] + one[5]]
    except (struct.error, IndexError, ValueError):
        pass
    return None
