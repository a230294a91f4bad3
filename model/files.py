"""Files that are there whole or not at all."""

import os
from pathlib import Path
from uuid import uuid4


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
