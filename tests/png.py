"""PNG files as no encoder writes them."""

import binascii
import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Chunk = tuple[bytes, bytes]  # kind and data


def png(width: int, height: int, *chunks: Chunk) -> bytes:
    """A gray one of which only the header is sound."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return png_of([(b"IHDR", header), *chunks, (b"IDAT", b"?"), (b"IEND", b"")])


def png_of(chunks: list[Chunk]) -> bytes:
    """With right lengths and checksums."""
    whole = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))
        for kind, data in chunks
    ]
    return SIGNATURE + b"".join(whole)


def chunks_of(png: bytes) -> list[Chunk]:
    chunks, position = [], len(SIGNATURE)
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        chunks.append((kind, png[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks
