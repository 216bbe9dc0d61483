"""The service's settings; they stop at ``build``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chiasm.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How a service behaves.

    Attributes:
        log: file of the log of verdicts.
        keep_days: after which verdicts are forgotten; 0 keeps all.
        api_keys: any of which opens; none means that no key is needed.
        host_names: by which the service may be called; none means any.
        queue: requests that may be read, wait or be worked on at a time.
        max_mb: of a request.
        max_megapixels: of an image, before it is decoded.
        timeout: seconds for a request's body to come, and again for its verdict.
        threads: that judge at a time.
        cache_mb: of pictures of the newest verdicts.
        watch: seconds between looks at the models' folders; 0 does not look.
    """

    log: Path = Path("verdicts.sqlite")
    keep_days: float = 90.0
    api_keys: tuple[str, ...] = ()
    host_names: tuple[str, ...] = ()
    queue: int = 64
    max_mb: float = 64.0
    max_megapixels: float = 6.0
    timeout: float = 10.0
    threads: int = 2
    cache_mb: float = 64.0
    watch: float = 2.0

    def __post_init__(self) -> None:
        for name in ("queue", "max_mb", "max_megapixels", "timeout", "threads"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("keep_days", "cache_mb", "watch"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)}; it must not be negative."
                )


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Read keys, one a line; empty lines and those that begin with ``#`` are passed over.

    Raises ``ConfigurationError`` where the file cannot be read, holds none, or one that is easy
    to guess.
    """
    if path is None:
        return ()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read as a file of keys: {error}") from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigurationError(f"{path} holds no key; write one a line.")
    if any(len(key) < 16 or not key.isascii() for key in keys):
        raise ConfigurationError(
            f"{path} holds a key of fewer than 16 letters, or one that is not ASCII; make one with "
            "'python -c \"import secrets; print(secrets.token_urlsafe(32))\"'."
        )
    return keys


def host_names_of(given: str, *, host: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The names by which a service may be called; none means any.

    Args:
        given: with commas between.
        host: address that it listens on.
        keys: that open it. Where none is needed and only this machine can ask, a browser on it
            is what an attacker has, and it gets in by a name of the attacker's.
    """
    names = tuple(name.strip().lower() for name in given.split(",") if name.strip())
    at_home = host in ("localhost", "::1") or host.startswith("127.")
    return names or (("localhost",) if at_home and not keys else ())
