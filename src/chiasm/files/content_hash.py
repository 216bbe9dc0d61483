"""The hash that says whether two files, or two lists of files, hold the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from chiasm.errors import DataError

_DIGEST_BYTES = 16


def content_hash(paths: Iterable[Path | str]) -> str:
    """Hash the bytes of some files, in the order given.

    Names and dates do not matter, the border between files does: each file enters by its own
    BLAKE2b digest (RFC 7693). Returns 32 hexadecimal digits; raises ``DataError`` for a file that
    cannot be read.
    """
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in paths:
        try:
            with Path(path).open("rb") as stream:
                one = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=32))
        except OSError as cause:
            raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
        whole.update(one.digest())
    return whole.hexdigest()


def default_cache_folder() -> Path:
    """``$CHIASM_CACHE``, or ``chiasm`` in the user's cache folder."""
    if chosen := os.environ.get("CHIASM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "chiasm"
