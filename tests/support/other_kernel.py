"""Stands in for an AIOS kernel whose protocol has another version: it tells so whoever says hello.

usage: other_kernel.py ... --state FOLDER ..., as aios-kernel is started
"""

import socket
import struct
import sys
from pathlib import Path

VERSION = 4077
# aios::Code; CallHeader and KernelReply of abi/proto/kernel_types.hpp.
MISMATCH = 24
HEADER = struct.Struct("<IIQ")
REPLY = struct.Struct("<IIQ112s")


def listen(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()
    return listener


def answer(listener):
    """Until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            packet = connection.recv(4096)
            if len(packet) >= HEADER.size:
                call = HEADER.unpack_from(packet)[2]
                connection.send(REPLY.pack(MISMATCH, 0, call, f"this kernel speaks version {VERSION}".encode()))


if __name__ == "__main__":
    answer(listen(Path(sys.argv[sys.argv.index("--state") + 1]) / "aios.sock"))
