"""A hash of the bytes of files, and the folder of caches that are keyed by it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from chiasm.errors import DataError

_DIGEST_BYTES = 16


def content_hash(paths: Iterable[Path | str]) -> str:
    """Hash the bytes of files, in the given order.

    Names and dates have no influence, borders between files have: the hash covers the BLAKE2b
    digest (RFC 7693) of each file. Returns 32 hexadecimal digits; raises ``DataError`` for a file
    that cannot be read.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in paths:
        try:
            with Path(path).open("rb") as stream:
                file_digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=32))
        except OSError as cause:
            raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
        digest.update(file_digest.digest())
    return digest.hexdigest()


def default_cache_folder() -> Path:
    """Return ``$CHIASM_CACHE``, or ``chiasm`` in the user's cache folder."""
    if folder := os.environ.get("CHIASM_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "chiasm"
