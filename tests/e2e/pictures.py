"""A picture for the tests."""

from __future__ import annotations

import struct
import zlib


def _chunk(kind: bytes, data: bytes) -> bytes:
    size, checksum = (
        struct.pack(">I", len(data)),
        struct.pack(">I", zlib.crc32(kind + data)),
    )
    return size + kind + data + checksum


RED_PIXEL = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    + _chunk(b"IEND", b"")
)
"""A PNG of one pixel."""
