"""The service's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from chiasm.errors import ConfigurationError
from chiasm.service.log.database import Database

_NAME = re.compile(r"(?:[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?)?")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Settings of a service.

    Attributes:
        log: file of the log of verdicts, or ``postgresql://USER@HOST/DATABASE``.
        spool: folder for verdicts while the database is away; None is ``LOG.spool`` beside a file,
            and ``verdicts.spool`` for a server.
        station: name of the place whose parts this service judges; "" for a single one.
        replica: name of this service among those that share the log; "" is host and process.
        keep_days: age in days at which verdicts are deleted; 0 keeps all.
        api_keys: accepted API keys; none means that no key is needed.
        admin_keys: keys that may change thresholds as well; without any nobody may.
        host_names: accepted host names; none accepts any.
        queue: requests that may be read, wait or be worked on at a time.
        max_mb: largest request.
        max_megapixels: largest image, checked before it is decoded.
        timeout: seconds for a request's body to arrive, and again for its verdict.
        threads: processor threads of a model; two more requests are worked on at a time.
        cache_mb: pictures of the newest verdicts.
        watch: seconds between checks of the models' folders; 0 does not check.
        outlets: YAML file of the systems that get every verdict as well; None: no other.
        severity: YAML file of the levels of severity; None takes the default ones.
    """

    log: Path | str = "verdicts.sqlite"
    spool: Path | None = None
    station: str = ""
    replica: str = ""
    keep_days: float = 90.0
    api_keys: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    host_names: tuple[str, ...] = ()
    queue: int = 64
    max_mb: float = 64.0
    max_megapixels: float = 6.0
    timeout: float = 10.0
    threads: int = 2
    cache_mb: float = 64.0
    watch: float = 2.0
    outlets: Path | None = None
    severity: Path | None = None

    def __post_init__(self) -> None:
        for name in ("queue", "max_mb", "max_megapixels", "timeout", "threads"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("keep_days", "cache_mb", "watch"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)}; it must not be negative."
                )
        for name in ("station", "replica"):
            if not _NAME.fullmatch(getattr(self, name)):
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r}; at most 64 printable characters are "
                    "allowed, none of them a space at an end."
                )


def spool_folder(settings: ServiceSettings) -> Path:
    """Return the folder that keeps verdicts while the database is away."""
    if settings.spool is not None:
        return settings.spool
    path = Database(settings.log).path
    return Path("verdicts.spool") if path is None else path.with_name(f"{path.name}.spool")


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Read keys, one a line; empty lines and those that begin with ``#`` are skipped.

    Raises ``ConfigurationError`` if the file cannot be read, or holds no key or a weak one.
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


def host_names_of(names: str, *, host: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the accepted host names; none accepts any.

    Args:
        names: separated by commas.
        host: address that the service listens on.
        keys: API keys. A service without keys that only this machine can reach is attacked through
            a browser on it, by a page whose name was pointed here: it accepts only localhost.
    """
    listed = tuple(name.strip().lower() for name in names.split(",") if name.strip())
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    return listed or (("localhost",) if is_local and not keys else ())
