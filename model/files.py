"""Files that are there whole or not at all, and no more of them than there is room for."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

_DIGEST_BYTES = 32  # of a SHA-256


def write_atomically(path: Path, body: bytes) -> None:
    """Replaces the file by a rename, once every byte is on the disk."""
    # Not tempfile's own naming: its files are readable by their owner alone, and a cache may be shared.
    partial = path.with_name(f"{path.name}.{uuid4().hex}.part")
    try:
        with partial.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sealed(body: bytes) -> bytes:
    """The body after its SHA-256, by which `unsealed` tells whether it is still what it was."""
    return hashlib.sha256(body).digest() + body


def unsealed(data: bytes) -> bytes | None:
    """What was sealed; None where it is damaged."""
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return body if hashlib.sha256(body).digest() == digest else None


def prune(paths: Iterable[Path], most_bytes: int) -> None:
    """Deletes the files that nobody has used for longest, until what is left is no more than so many bytes."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # another process was faster
            status = path.stat()
            # Linux writes down once a day that a file was read; where it is told not to, the oldest go.
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > most_bytes:
            with contextlib.suppress(OSError):
                path.unlink()
